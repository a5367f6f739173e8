"""CaptionPreparationStage: clips → windows → prompt and exact frames for the model.

Imports video, windows, prompts and the variants; called by pipelines, `flow` and sessions.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from captionkit import prompts
from captionkit.models.variants import Variant, get_variant
from captionkit.recipe import Recipe
from captionkit.stages.base import ProcessingStage, WorkerMetadata
from captionkit.stages.tasks import Clip, LlmInputs, Video, VideoMetadata, VideoTask, Window
from captionkit.video import DecodePool, Reader, Source, VideoError
from captionkit.sources.windows import WindowSpan, compute_windows, sample_frames


@dataclass
class CaptionPreparationStage(ProcessingStage):
    """Cuts clips into windows and gives each its inputs in ``window.llm_inputs[variant]``.

    Parameters
    ----------
    model_variant
        See `models.variants.get_variant`.
    prompt_variant
        Name from the prompt library.
    prompt_text
        A text instead of a library prompt; may hold ``{start}``, ``{end}``, ``{duration}`` (seconds)
        and ``{video}``.
    sampling_fps
        Frames a second that the model sees.
    window_size, remainder_threshold
        In frames; see `windows.compute_windows`.
    model_does_preprocess
        Deliver frames as decoded and leave resizing to the model's processor.
    pixel_budget
        Most pixels a frame; None takes the variant's.
    reader
        ``"pyav"``, or ``"decord"`` for the streams that it reads exactly.
    workers
        Decoding processes; None takes a few.
    verbose
        Kept for the reference's signature.
    cache_salt
        Part of each window's id: under another salt a window is new to all caches, for measurements.
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
    cache_salt: str = ""
    _name: str = field(default="caption_preparation", kw_only=True)

    def __post_init__(self) -> None:
        # Recipe knows the bounds and says what is wrong.
        Recipe(
            prompt=self._template(),
            sampling_fps=self.sampling_fps,
            window_size=self.window_size,
            remainder_threshold=self.remainder_threshold,
            pixel_budget=self.pixel_budget,
        )
        self._pool: DecodePool | None = None

    @classmethod
    def from_recipe(
        cls,
        recipe: Recipe,
        *,
        reader: Reader = "pyav",
        pool: DecodePool | None = None,
        cache_salt: str = "",
    ) -> CaptionPreparationStage:
        """The stage that a recipe asks for, with a decode pool of its own or a ``pool`` to share."""
        stage = cls(
            model_variant=recipe.variant,
            prompt_text=recipe.prompt_text,
            sampling_fps=recipe.sampling_fps,
            window_size=recipe.window_size,
            remainder_threshold=recipe.remainder_threshold,
            pixel_budget=recipe.pixel_budget,
            reader=reader if pool is None else pool.reader,
            cache_salt=cache_salt,
        )
        stage._pool = pool
        return stage

    def _template(self) -> str:
        return prompts.resolve(
            self.prompt_text if self.prompt_text is not None else self.prompt_variant
        )

    @property
    def pool(self) -> DecodePool:
        """The decode pool, started where none runs."""
        if self._pool is None:
            self.setup()
        assert self._pool is not None
        return self._pool

    def setup(self, worker_metadata: WorkerMetadata | None = None) -> None:
        """Get the decode pool ready; its processes start when they are needed."""
        get_variant(self.model_variant)
        if self._pool is None:
            self._pool = DecodePool(self.workers, self.reader)

    def teardown(self) -> None:
        """End the decode pool."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def process(self, task: VideoTask) -> VideoTask:
        """Give every window of every clip its inputs.

        What cannot be read is told in ``clip.errors`` (``"video"``, ``"window-N"``) and leaves its
        neighbours alone.
        """
        video = task.data
        jobs: list[tuple[Clip, int]] = []
        for clip in video.clips:
            self.plan(video, clip)
            jobs.extend((clip, number) for number in range(len(clip.windows)))
        with ThreadPoolExecutor(self.pool.workers) as threads:
            list(threads.map(lambda job: self._try(video, *job), jobs))
        return task

    def _try(self, video: Video, clip: Clip, number: int) -> None:
        try:
            inputs = self.prepare(video, clip, number)
        except (VideoError, ValueError) as error:
            clip.errors[f"window-{number}"] = str(error)
        else:
            clip.windows[number].llm_inputs[self.model_variant] = inputs

    def plan(self, video: Video, clip: Clip) -> None:
        """Cut a clip into windows, where it has none yet; reads the index, decodes nothing.

        A file that cannot be read is told in ``clip.errors["video"]``.
        """
        try:
            metadata = self.pool.probe(source_of(clip))
        except VideoError as error:
            clip.errors["video"] = str(error)
            return
        clip.metadata = metadata
        if clip.buffer is None and video.metadata is None:
            video.metadata = metadata
        first, count = 0, metadata.num_frames
        if clip.buffer is None and clip.span is not None:
            first, past = np.searchsorted(metadata.frame_times, np.array(clip.span) - 1e-6)
            first, count = int(first), int(past - first)
        clip.first_frame = first
        if not clip.windows:
            for span in compute_windows(count, self.window_size, self.remainder_threshold):
                clip.windows.append(Window(span.start, span.end))
        if not clip.windows:
            clip.errors["windows"] = (
                f"{clip.source_video} has {count} frames; a window needs at least 4"
            )
        for window in clip.windows:
            window.start_s, window.end_s = _times(metadata, first, window)
            if metadata.damage:
                window.warnings.append(metadata.damage)

    def prepare(self, video: Video, clip: Clip, number: int, *, frames: bool = True) -> LlmInputs:
        """The inputs of one window; the clip was planned.

        Parameters
        ----------
        video, clip, number
            The window.
        frames
            Whether to decode; False for a window that the engine knows.

        Raises
        ------
        VideoError
            The frames cannot be read.
        ValueError
            The window's frames or the picture's shape do not fit.
        """
        window, metadata = clip.windows[number], clip.metadata
        if metadata is None or window.start_s is None or window.end_s is None:
            raise ValueError(f"window {number} was not planned; call CaptionPreparationStage.plan")
        span = WindowSpan(window.start_frame, window.end_frame)
        if span.start < 0 or clip.first_frame + span.end >= metadata.num_frames:
            raise ValueError(
                f"window {number} asks for frames {span.start} to {span.end}, but "
                f"{clip.source_video} has {metadata.num_frames - clip.first_frame}"
            )
        seconds = window.end_s - window.start_s
        sampled = sample_frames(span, seconds, self.sampling_fps)
        numbers = [clip.first_frame + frame for frame in sampled]
        size = self._size(get_variant(self.model_variant), metadata)
        pixels = None
        if frames:
            read = self.pool.read(source_of(clip), numbers, size)
            pixels = read.pixels
            if read.damage and read.damage not in window.warnings:
                window.warnings.append(read.damage)
        values = {
            "start": f"{window.start_s:.2f}",
            "end": f"{window.end_s:.2f}",
            "duration": f"{seconds:.2f}",
            "video": clip.source_video.replace("\\", "/").rsplit("/", 1)[-1],
        }
        return LlmInputs(
            prompt=prompts.render(self._template(), values),
            multi_modal_data={"video": pixels},
            multi_modal_uuids={"video": _uid(metadata, numbers, size, self.reader + self.cache_salt)},
            video_metadata={
                "fps": len(span) / seconds,
                "frames_indices": [frame - span.start for frame in sampled],
                "total_num_frames": len(span),
                "duration": seconds,
                "do_sample_frames": False,
            },
            values=values,
        )

    def _size(self, variant: Variant, metadata: VideoMetadata) -> tuple[int, int]:
        # Asked for in both cases: what the model cannot take is refused before it is decoded.
        final = variant.frame_size(metadata.width, metadata.height, self.pixel_budget)
        return (metadata.width, metadata.height) if self.model_does_preprocess else final


def source_of(clip: Clip) -> Source:
    """What to read a clip from: its bytes where it has them, else its file."""
    return clip.source_video if clip.buffer is None else clip.buffer


def _times(metadata: VideoMetadata, first: int, window: Window) -> tuple[float, float]:
    """Start and end in seconds of the source; a window ends where the next frame begins."""
    times, after = metadata.frame_times, first + window.end_frame + 1
    last = metadata.num_frames - 1
    start = float(times[min(first + window.start_frame, last)])
    return start, float(times[after]) if after <= last else metadata.duration


def _uid(metadata: VideoMetadata, numbers: list[int], size: tuple[int, int], reader: str) -> str:
    """Names the exact pixels: file, frames, size. vLLM returns the old video for a known id."""
    content = f"{metadata.identity}:{numbers}:{size}:{reader}"
    return hashlib.sha256(content.encode()).hexdigest()[:40]
