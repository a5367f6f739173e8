"""captionkit's two stages inside NeMo Curator's pipelines, versions 1.0 to 1.4 (extra ``curator``).

Drop-in replacements for NeMo Curator's stages of the same names, on its ``VideoTask`` objects, with a
working second stage and failures that stay with their window::

    pipeline.add_stage(CaptionPreparationStage.from_recipe(recipe))
    pipeline.add_stage(CaptionGenerationStage.from_recipe(recipe))
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

from nemo_curator.stages.base import ProcessingStage
from nemo_curator.stages.resources import Resources
from nemo_curator.tasks.video import VideoTask, _Window

from captionkit import stages
from captionkit.models.variants import get_variant
from captionkit.models.weights import needs_gpu
from captionkit.recipe import Recipe
from captionkit.stages import Clip, Video, Window, adapter
from captionkit.stages import VideoTask as OurTask

_HAS_LLM_INPUTS = "llm_inputs" in _Window.__dataclass_fields__


class _Stage(ProcessingStage[VideoTask, VideoTask]):
    """Inputs, outputs, name and resources of both stages."""

    def inputs(self) -> tuple[list[str], list[str]]:
        """Attributes that the stage reads."""
        return ["data"], ["clips"]

    def outputs(self) -> tuple[list[str], list[str]]:
        """Attributes that the stage writes."""
        return ["data"], ["clips"]

    def _introduce(self, name: str, resources: Resources) -> None:
        """Set name and resources, whose attributes have an underscore up to version 1.2."""
        hidden = "_" if isinstance(inspect.getattr_static(ProcessingStage, "name"), property) else ""
        setattr(self, f"{hidden}name", name)
        setattr(self, f"{hidden}resources", resources)


@dataclass
class CaptionPreparationStage(_Stage):
    """Cuts each clip's buffer into windows and prepares the inputs of each.

    Parameters
    ----------
    model_variant, prompt_variant, prompt_text, sampling_fps, window_size, remainder_threshold, verbose
        See `captionkit.stages.CaptionPreparationStage`.
    recipe
        As in that class.
    """

    model_variant: str = "qwen"
    prompt_variant: str = "default"
    prompt_text: str | None = None
    verbose: bool = False
    sampling_fps: float = 2.0
    window_size: int = 256
    remainder_threshold: int = 128
    recipe: Recipe | None = None
    # Recipe that the keywords have their values from; see `adapter.take_over`.
    _taken: Recipe | None = field(default=None, kw_only=True, repr=False, compare=False)

    def __post_init__(self) -> None:
        adapter.take_over(self)
        self._introduce("caption_preparation", Resources(cpus=1.0))
        self._stage: stages.CaptionPreparationStage | None = None

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
        """Prepare all clips of a task; record failures in ``clip.errors``."""
        self.setup()
        assert self._stage is not None
        self._stage.recipe = adapter.take_over(self)
        for clip in task.data.clips:
            if clip.buffer is None:
                clip.errors["buffer"] = "empty"
                continue
            ours = Clip(str(clip.source_video), uuid=clip.uuid, buffer=bytes(clip.buffer))
            self._stage.process(OurTask(Video(ours.source_video, clips=[ours])))
            clip.errors.update(ours.errors)
            for window in ours.windows:
                made = _Window(window.start_frame, window.end_frame)
                if inputs := window.llm_inputs.get(self.model_variant):
                    _set_inputs(made, self.model_variant, inputs)
                clip.windows.append(made)
        return task


@dataclass
class CaptionGenerationStage(_Stage):
    """Captions every prepared window of a task, in one stage or two.

    Parameters
    ----------
    model_dir, model_variant, caption_batch_size, fp8, max_output_tokens, disable_mmcache, verbose
        See `captionkit.stages.CaptionGenerationStage`.
    generate_stage2_caption, stage2_prompt_text, recipe, backend
        As in that class.
    """

    model_dir: str = "models/qwen"
    model_variant: str = "qwen"
    caption_batch_size: int = 16
    fp8: bool = False
    max_output_tokens: int = 512
    disable_mmcache: bool = False
    verbose: bool = False
    generate_stage2_caption: bool = False
    stage2_prompt_text: str | None = None
    recipe: Recipe | None = None
    backend: Any = None
    # Recipe that the keywords have their values from; see `adapter.take_over`.
    _taken: Recipe | None = field(default=None, kw_only=True, repr=False, compare=False)

    def __post_init__(self) -> None:
        adapter.take_over(self)
        gpus = float(needs_gpu(get_variant(self.model_variant), self.model_dir))
        self._introduce("caption_generation", Resources(cpus=1.0, gpus=gpus))
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
        return stages.CaptionGenerationStage(
            recipe=adapter.take_over(self),
            model_dir=self.model_dir,
            caption_batch_size=self.caption_batch_size,
            disable_mmcache=self.disable_mmcache,
            verbose=self.verbose,
            backend=self.backend,
        )

    def process(self, task: VideoTask) -> VideoTask:
        """Caption all prepared windows; return the same task."""
        self.setup()
        assert self._stage is not None
        self._stage.recipe = adapter.take_over(self)
        ours = OurTask(Video("task"))
        windows: list[tuple[Any, Window]] = []
        for clip in task.data.clips:
            # Share the dict of errors, so that errors of the inner stage appear in the task.
            made = Clip(str(clip.source_video), uuid=clip.uuid, errors=clip.errors)
            for window in clip.windows:
                made.windows.append(Window(window.start_frame, window.end_frame))
                if inputs := _take_inputs(window, self.model_variant):
                    made.windows[-1].llm_inputs[self.model_variant] = inputs
                windows.append((window, made.windows[-1]))
            ours.data.clips.append(made)
        self._stage.process(ours)
        for window, captioned in windows:
            window.caption.update(captioned.caption)
            window.mp4_bytes = None
        return task


def _set_inputs(window: Any, variant: str, inputs: Any) -> None:
    if _HAS_LLM_INPUTS:
        window.llm_inputs[variant] = inputs
    else:
        window.qwen_llm_input = inputs


def _take_inputs(window: Any, variant: str) -> Any:
    """Return a window's inputs and release them from the window."""
    if _HAS_LLM_INPUTS:
        return window.llm_inputs.pop(variant, None)
    inputs, window.qwen_llm_input = window.qwen_llm_input, None
    return inputs
