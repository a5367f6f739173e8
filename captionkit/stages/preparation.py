"""CaptionPreparationStage: cut clips into windows, and prepare their prompts and exact frames."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from captionkit.models.variants import get_variant
from captionkit.pipeline.prepared import prepare
from captionkit.recipe import Recipe
from captionkit.sources import PlannedWindow, SourceClip, WindowSpan
from captionkit.stages import adapter
from captionkit.stages.base import ProcessingStage, WorkerMetadata
from captionkit.stages.tasks import Clip, Video, VideoTask, Window
from captionkit.video import DecodePool, Reader


@dataclass
class CaptionPreparationStage(ProcessingStage):
    """Cuts clips into windows and puts the inputs of each in ``window.llm_inputs[variant]``.

    Parameters
    ----------
    model_variant
        A registered name, a folder with weights, or a repository id.
    prompt_variant
        A name from the prompt library.
    prompt_text
        A text instead of a library prompt; may contain ``{start}``, ``{end}``, ``{duration}`` (seconds)
        and ``{video}``.
    sampling_fps
        Frames a second that the model sees.
    window_size, remainder_threshold
        In frames; see `sources.windows.compute_windows`.
    model_does_preprocess
        Deliver frames as decoded and leave resizing to the model's processor.
    pixel_budget
        Most pixels of a frame; None takes the variant's budget.
    reader
        ``"pyav"``, or ``"decord"`` for streams that decord reads exactly.
    workers
        Number of decoding processes; None chooses by the number of cores.
    verbose
        Kept for the reference's signature.
    recipe
        A recipe instead of the keywords above, which then take its values. A keyword that is set
        afterwards, or with `dataclasses.replace`, counts.
    generate_previews
        Put an mp4 of each window in ``window.mp4_bytes``: the clip's own bytes if it has one window,
        else its frames encoded anew, at most 640 pixels wide.
    """

    model_variant: str = "qwen"
    prompt_variant: str = "default"
    prompt_text: str | None = None
    sampling_fps: float = 2.0
    window_size: int = 256
    remainder_threshold: int = 128
    model_does_preprocess: bool = False
    pixel_budget: int | None = None
    reader: Reader = "pyav"
    workers: int | None = None
    verbose: bool = False
    recipe: Recipe | None = None
    _name: str = field(default="caption_preparation", kw_only=True)
    generate_previews: bool = field(default=False, kw_only=True)
    # Recipe that the keywords have their values from; see `adapter.take_over`.
    _taken: Recipe | None = field(default=None, kw_only=True, repr=False, compare=False)

    _running = ("_pool",)

    def __post_init__(self) -> None:
        adapter.take_over(self)
        self._pool: DecodePool | None = None

    @classmethod
    def from_recipe(cls, recipe: Recipe, *, reader: Reader = "pyav") -> CaptionPreparationStage:
        """Return the stage of a recipe."""
        return cls(recipe=recipe, reader=reader)

    def setup(self, worker_metadata: WorkerMetadata | None = None) -> None:
        """Make the decode pool; its processes start on demand."""
        get_variant(adapter.take_over(self).model)
        if self._pool is None:
            self._pool = DecodePool(self.workers, self.reader)

    def teardown(self) -> None:
        """End the decode pool."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def process(self, task: VideoTask) -> VideoTask:
        """Prepare every window of every clip; return the same task.

        Failures go to ``clip.errors`` (``"video"``, ``"windows"``, ``"window-N"``, and
        ``"window-N-preview"``); other windows are prepared all the same.
        """
        recipe = adapter.take_over(self)
        recipe.check_without_session("CaptionPreparationStage")
        self.setup()
        assert self._pool is not None
        jobs = [
            (clip, source, number)
            for clip in task.data.clips
            if (source := self._cut(recipe, task.data, clip, self._pool)) is not None
            for number in range(len(clip.windows))
        ]
        with ThreadPoolExecutor(self._pool.workers) as threads:
            list(threads.map(lambda job: self._prepare(recipe, *job), jobs))
        return task

    def _cut(self, recipe: Recipe, video: Video, clip: Clip, pool: DecodePool) -> SourceClip | None:
        """Open a clip, and cut a clip without windows; return None if the clip cannot be read."""
        span = clip.span if clip.buffer is None else None
        try:
            source = SourceClip.open(pool, adapter.file_of(clip), clip.source_video, span)
        except ValueError as error:
            clip.errors["video"] = str(error)
            return None
        if clip.buffer is None and video.metadata is None:
            video.metadata = source.metadata
        try:
            lengths = (recipe.window_size, recipe.remainder_threshold, recipe.window_seconds)
            for cut in clip.windows or source.cut(*lengths):
                if not isinstance(cut, Window):
                    clip.windows.append(Window(cut.start, cut.end))
        except ValueError as error:
            clip.errors["windows"] = str(error)
        return source

    def _prepare(self, recipe: Recipe, clip: Clip, source: SourceClip, number: int) -> None:
        assert self._pool is not None
        window = clip.windows[number]
        try:
            source.check(WindowSpan(window.start_frame, window.end_frame))
            planned = adapter.planned(clip, source, number)
            window.start_s, window.end_s = planned.start_s, planned.end_s
            if source.metadata.damage:
                window.warnings.append(source.metadata.damage)
            prepared = prepare(planned, recipe, self._pool, model_resizes=self.model_does_preprocess)
        except ValueError as error:
            clip.errors[f"window-{number}"] = str(error)
            return
        window.llm_inputs[self.model_variant] = adapter.to_inputs(prepared)
        if prepared.damage and prepared.damage not in window.warnings:
            window.warnings.append(prepared.damage)
        if self.generate_previews:
            self._preview(clip, planned, number)

    def _preview(self, clip: Clip, planned: PlannedWindow, number: int) -> None:
        assert self._pool is not None
        whole = clip.buffer if len(clip.windows) == 1 else None
        first = planned.source.first_frame
        try:
            clip.windows[number].mp4_bytes = whole or self._pool.clip(
                planned.source.file,
                first + planned.start_frame,
                first + planned.end_frame,
                planned.source.metadata.identity,
            )
        except ValueError as error:
            clip.errors[f"window-{number}-preview"] = str(error)
