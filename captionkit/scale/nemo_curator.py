"""captionkit's stages inside NeMo Curator's pipelines, versions 1.0 to 1.4 (extra ``curator``).

Drop-in replacements for NeMo Curator's stages of the same names, on its ``VideoTask`` objects, with a
working second stage and failures that stay with their window::

    pipeline.add_stage(CaptionPreparationStage.from_recipe(recipe))
    pipeline.add_stage(CaptionGenerationStage.from_recipe(recipe))

Constructors take what any of these versions takes, in the order of the installed one; what has no
meaning here is a warning, and a model that captionkit does not know is refused at once, not at the
start of its engine. Each stage also works beside NeMo Curator's own other stage, as far as the
format of its inputs allows. Captions are in ``window.caption`` under the model's name, under each name
of it that NeMo Curator has used (``qwen`` up to 1.2, ``qwen2.5`` from 1.3), and in versions up to 1.2
also under ``qwen``, the only name that ``CaptionEnhancementStage`` reads there. With a second stage,
the caption of the first is under ``<name>_stage1``.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemo_curator.stages.resources import Resources
from nemo_curator.tasks.video import VideoTask, _Window

from captionkit import stages
from captionkit.engine import RequestError
from captionkit.models.variants import get_variant
from captionkit.models.weights import needs_gpu
from captionkit.prompts import STAGE1_PLACEHOLDERS, STAGE2_PLACEHOLDERS
from captionkit.recipe import Recipe
from captionkit.scale import curator_inputs
from captionkit.scale.curator_base import (
    NAMES,
    VERSION,
    Stage,
    as_text,
    engine_options,
    gpus_of,
    in_order,
    names,
    warn_of_unused,
)
from captionkit.scale.curator_enhancement import CaptionEnhancementStage
from captionkit.stages import Clip, Video, Window, adapter
from captionkit.stages import VideoTask as OurTask

__all__ = ["CaptionEnhancementStage", "CaptionGenerationStage", "CaptionPreparationStage"]

_HAS_LLM_INPUTS = "llm_inputs" in _Window.__dataclass_fields__
# Parameters of some versions only, whose places shift those of others.
_PREPROCESSES = ("model_does_preprocess",) if VERSION < (1, 3) else ()
_PREPARATION_ORDER = (
    "model_variant", "prompt_variant", "prompt_text", "verbose", "sampling_fps", "window_size",
    "remainder_threshold", *_PREPROCESSES, "preprocess_dtype", "generate_previews", "name",
)  # fmt: skip
_GENERATION_ORDER = (
    "model_dir", "model_variant", "caption_batch_size", "fp8", "max_output_tokens", *_PREPROCESSES,
    "disable_mmcache", *(("vllm_kwargs",) if VERSION >= (1, 2) else ()), "verbose",
    "generate_stage2_caption", "stage2_prompt_text", "name",
)  # fmt: skip


@in_order(*_PREPARATION_ORDER)
@dataclass(kw_only=True)
class CaptionPreparationStage(Stage):
    """Cuts each clip's buffer into windows and prepares the inputs of each.

    Parameters
    ----------
    model_variant, prompt_text, sampling_fps, window_size, remainder_threshold, verbose
        See `captionkit.stages.CaptionPreparationStage`.
    prompt_variant
        A name from the prompt library. ``default``, ``av`` and ``av-surveillance`` have the roles of
        NeMo Curator's prompts of these names (any film, a camera on a vehicle, a camera that watches a
        place), in captionkit's own words: captions differ. Its own words can be given as
        ``prompt_text``.
    model_does_preprocess
        Leave resizing to the model's processor; give it to both stages.
    preprocess_dtype
        Has no effect: frames are the decoder's uint8, and the model's processor makes floats of them.
    generate_previews
        Put an mp4 of each window in ``window.mp4_bytes``, as ``PreviewStage`` reads it: the clip
        itself if it has one window, else encoded anew, at most 640 pixels wide. A window that cannot
        be read gets no bytes, which ``PreviewStage`` logs and passes over.
    recipe
        As in that class.
    """

    model_variant: str = NAMES[0]
    prompt_variant: str = "default"
    prompt_text: str | None = None
    verbose: bool = False
    sampling_fps: float = 2.0
    window_size: int = 256
    remainder_threshold: int = 128
    model_does_preprocess: bool = False
    preprocess_dtype: str = "float32"
    generate_previews: bool = True
    name: str = "caption_preparation"
    recipe: Recipe | None = None
    # Recipe that the keywords have their values from; see `adapter.take_over`.
    _taken: Recipe | None = field(default=None, repr=False, compare=False)

    _running = ("_stage",)

    def __post_init__(self) -> None:
        self.prompt_text = as_text(self.prompt_text, STAGE1_PLACEHOLDERS)
        adapter.take_over(self)
        get_variant(self.model_variant)
        if self.preprocess_dtype not in ("float32", "uint8"):
            warnings.warn(
                f"preprocess_dtype={self.preprocess_dtype!r} has no effect: captionkit hands frames on "
                "as uint8, as they are decoded, and the model's processor makes floats of them",
                stacklevel=4,
            )
        self.set_resources(Resources(cpus=1.0))
        self._stage: stages.CaptionPreparationStage | None = None

    def inputs(self) -> tuple[list[str], list[str]]:
        """Attributes that the stage reads: it names none, as NeMo Curator's own."""
        return [], []

    def outputs(self) -> tuple[list[str], list[str]]:
        """Attributes that the stage writes: it names none, as NeMo Curator's own."""
        return [], []

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> CaptionPreparationStage:
        """Return the stage of a recipe."""
        return cls(recipe=recipe)

    def setup(self, worker_metadata: Any = None) -> None:
        """Prepare the decoder."""
        if self._stage is None:
            self._stage = stages.CaptionPreparationStage(recipe=adapter.take_over(self), workers=1)
            self._stage.setup()

    def teardown(self) -> None:
        """End the decoder."""
        if self._stage is not None:
            self._stage.teardown()
            self._stage = None

    def process(self, task: VideoTask) -> VideoTask:
        """Prepare all clips of a task; record failures in ``clip.errors``.

        A buffer that NeMo Curator's own ffprobe cannot read either is emptied.
        """
        self.setup()
        assert self._stage is not None
        self._stage.recipe = adapter.take_over(self)
        self._stage.model_does_preprocess = self.model_does_preprocess
        self._stage.generate_previews = self.generate_previews
        for clip in task.data.clips:
            if clip.buffer is None:
                clip.errors["buffer"] = "empty"
                continue
            ours = Clip(str(clip.source_video), uuid=clip.uuid, buffer=bytes(clip.buffer))
            self._stage.process(OurTask(Video(ours.source_video, clips=[ours])))
            clip.errors.update(ours.errors)
            if "video" in ours.errors:
                _drop_unreadable(clip)
            for window in ours.windows:
                made = _Window(window.start_frame, window.end_frame)
                if self.generate_previews:
                    # None would stop NeMo Curator's PreviewStage for all clips of the task.
                    made.mp4_bytes = window.mp4_bytes or b""
                if inputs := window.llm_inputs.get(self.model_variant):
                    _set_inputs(made, self.model_variant, inputs)
                clip.windows.append(made)
        return task


@in_order(*_GENERATION_ORDER)
@dataclass(kw_only=True)
class CaptionGenerationStage(Stage):
    """Captions every prepared window of a task, in one stage or two.

    Parameters
    ----------
    model_dir, model_variant, caption_batch_size, fp8, max_output_tokens, disable_mmcache, verbose
        See `captionkit.stages.CaptionGenerationStage`.
    model_does_preprocess
        As in `CaptionPreparationStage`.
    vllm_kwargs
        Options of vLLM; ``max_model_len``, ``gpu_memory_utilization`` and ``tensor_parallel_size`` are
        handed on, others are a warning, since captionkit plans the engine's memory and batches itself.
    generate_stage2_caption, stage2_prompt_text, recipe, backend
        As in that class.
    """

    model_dir: str = "models/qwen"
    model_variant: str = NAMES[0]
    caption_batch_size: int = 16
    fp8: bool = False
    max_output_tokens: int = 512
    model_does_preprocess: bool = False
    disable_mmcache: bool = False
    vllm_kwargs: dict[str, Any] = field(default_factory=dict)
    verbose: bool = False
    generate_stage2_caption: bool = False
    stage2_prompt_text: str | None = None
    name: str = "caption_generation"
    recipe: Recipe | None = None
    backend: Any = None
    # Recipe that the keywords have their values from; see `adapter.take_over`.
    _taken: Recipe | None = field(default=None, repr=False, compare=False)

    _running = ("_stage",)

    def __post_init__(self) -> None:
        # An empty text stands for the default, as in NeMo Curator.
        self.stage2_prompt_text = as_text(self.stage2_prompt_text or None, STAGE2_PLACEHOLDERS)
        adapter.take_over(self)
        self.vllm_kwargs = self.vllm_kwargs or {}
        warn_of_unused(self.vllm_kwargs)
        needed = needs_gpu(get_variant(self.model_variant), self.model_dir)
        self.set_resources(Resources(cpus=1.0, gpus=gpus_of(self.vllm_kwargs, needed=needed)))
        self._stage: stages.CaptionGenerationStage | None = None

    @classmethod
    def from_recipe(
        cls, recipe: Recipe, *, model_dir: str = "models/qwen", caption_batch_size: int = 16
    ) -> CaptionGenerationStage:
        """Return the stage of a recipe."""
        return cls(recipe=recipe, model_dir=model_dir, caption_batch_size=caption_batch_size)

    def setup_on_node(self, node_info: Any = None, worker_metadata: Any = None) -> None:
        """Make sure that this machine has the weights."""
        self._ours().setup_on_node()

    def setup(self, worker_metadata: Any = None) -> None:
        """Start the engine."""
        if self._stage is None:
            self._stage = self._ours()
            self._stage.setup()

    def _ours(self) -> stages.CaptionGenerationStage:
        return stages.CaptionGenerationStage(**self._settings())

    def _settings(self) -> dict[str, Any]:
        """Return the arguments of captionkit's own stage that the fields describe now."""
        return {
            "recipe": adapter.take_over(self),
            "model_dir": self.model_dir,
            "caption_batch_size": self.caption_batch_size,
            "model_does_preprocess": self.model_does_preprocess,
            "disable_mmcache": self.disable_mmcache,
            "verbose": self.verbose,
            "backend": self.backend,
            "engine_options": engine_options(self.vllm_kwargs or {}),
        }

    def process(self, task: VideoTask) -> VideoTask:
        """Caption all prepared windows; return the same task."""
        self.setup()
        assert self._stage is not None
        settings = self._settings()
        for name, value in settings.items():
            setattr(self._stage, name, value)
        ours = OurTask(Video("task"))
        windows: list[tuple[Any, Window]] = []
        for clip in task.data.clips:
            # Share the dict of errors, so that errors of the inner stage appear in the task.
            made = Clip(str(clip.source_video), uuid=clip.uuid, errors=clip.errors)
            for number, window in enumerate(clip.windows):
                made.windows.append(Window(window.start_frame, window.end_frame))
                windows.append((window, made.windows[-1]))
                inputs = _take_inputs(window, self.model_variant)
                if inputs is None:
                    continue
                try:
                    made.windows[-1].llm_inputs[self.model_variant] = self._read(
                        inputs, settings["recipe"], number, _values(task.data, clip, window)
                    )
                except RequestError as error:
                    clip.errors[f"window-{number}"] = str(error)
            ours.data.clips.append(made)
        self._stage.process(ours)
        for window, captioned in windows:
            _set_captions(window, self.model_variant, captioned)
            window.mp4_bytes = None
        return task

    def _read(
        self, inputs: Any, recipe: Recipe, number: int, values: dict[str, str]
    ) -> stages.LlmInputs:
        if number > 1 and VERSION < (1, 3) and curator_inputs.is_foreign(inputs):
            raise RequestError(
                "NeMo Curator up to 1.2 prepares the third and later windows of a clip with frames of "
                "the second; prepare the clip with captionkit's CaptionPreparationStage"
            )
        return curator_inputs.from_curator(
            inputs, recipe, values, model_resizes=self.model_does_preprocess
        )


def _values(video: Any, clip: Any, window: Any) -> dict[str, str]:
    """Return the placeholders of a window that its inputs have no times for."""
    values = {"video": Path(str(clip.source_video)).name}
    if rate := video.metadata.framerate:
        start, end = window.start_frame / rate, (window.end_frame + 1) / rate
        values |= {"start": f"{start:.2f}", "end": f"{end:.2f}", "duration": f"{end - start:.2f}"}
    return values


def _drop_unreadable(clip: Any) -> None:
    """Empty a buffer at which NeMo Curator's writer would stop, for all clips of the task."""
    try:
        clip.extract_metadata()
    except Exception as error:  # any error of its ffprobe
        clip.errors["buffer"] = f"dropped, since NeMo Curator cannot read it either: {error}"
        clip.buffer = None


def _set_captions(window: Any, variant: str, captioned: Window) -> None:
    """Set a window's caption, and that of stage 1, under all names that stages may look for."""
    text = captioned.caption.get(variant)
    if text is None:
        return
    if window.caption is None:
        window.caption = {}
    found = names(variant)
    if VERSION < (1, 3) and "qwen" not in found:
        found.append("qwen")
    made = captioned.captions[variant]
    for name in found:
        window.caption[name] = text
        if len(made) > 1:
            window.caption[f"{name}_stage1"] = made[0].text


def _set_inputs(window: Any, variant: str, inputs: stages.LlmInputs) -> None:
    """Set a window's inputs under the given name, and under the installed version's."""
    if not _HAS_LLM_INPUTS:
        window.qwen_llm_input = inputs
        return
    theirs = next((name for name in names(variant) if name in NAMES), variant)
    made = curator_inputs.to_curator(inputs, theirs)
    window.llm_inputs |= dict.fromkeys((variant, theirs), made)


def _take_inputs(window: Any, variant: str) -> Any:
    """Return a window's inputs and release them from the window."""
    if not _HAS_LLM_INPUTS:
        inputs, window.qwen_llm_input = window.qwen_llm_input, None
        return inputs
    found = [window.llm_inputs.pop(name, None) for name in names(variant)]
    return next((each for each in found if each is not None), None)
