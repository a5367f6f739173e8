"""captionkit's two stages inside NeMo Curator's pipelines, versions 1.0 to 1.4 (extra ``curator``).

Drop-in replacements for its stages of the same names, on its own ``VideoTask`` objects, with a second
stage that works and failures that stay with their window::

    pipeline.add_stage(CaptionPreparationStage.from_recipe(recipe))
    pipeline.add_stage(CaptionGenerationStage.from_recipe(recipe))

Imports nemo_curator when it is imported; called by pipelines.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

from nemo_curator.stages.base import ProcessingStage
from nemo_curator.stages.resources import Resources
from nemo_curator.tasks.video import VideoTask, _Window

from captionkit import stages
from captionkit.engine.protocol import Sampling
from captionkit.recipe import Recipe
from captionkit.stages.tasks import Clip, Video, Window
from captionkit.stages.tasks import VideoTask as OurTask

_HAS_LLM_INPUTS = "llm_inputs" in _Window.__dataclass_fields__


@dataclass
class CaptionPreparationStage(ProcessingStage[VideoTask, VideoTask]):
    """Cuts each clip's buffer into windows and gives each its inputs.

    Parameters
    ----------
    model_variant, prompt_variant, prompt_text, sampling_fps, window_size, remainder_threshold, verbose
        See `captionkit.stages.CaptionPreparationStage`.
    pixel_budget
        See there.
    """

    model_variant: str = "qwen"
    prompt_variant: str = "default"
    prompt_text: str | None = None
    verbose: bool = False
    sampling_fps: float = 2.0
    window_size: int = 256
    remainder_threshold: int = 128
    pixel_budget: int | None = None

    def __post_init__(self) -> None:
        _introduce(self, "caption_preparation", Resources(cpus=1.0))
        self._stage: stages.CaptionPreparationStage | None = None

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> CaptionPreparationStage:
        """The stage that a recipe asks for."""
        return cls(
            model_variant=recipe.variant,
            prompt_text=recipe.prompt_text,
            sampling_fps=recipe.sampling_fps,
            window_size=recipe.window_size,
            remainder_threshold=recipe.remainder_threshold,
            pixel_budget=recipe.pixel_budget,
        )

    def inputs(self) -> tuple[list[str], list[str]]:
        """Attributes that the stage reads."""
        return ["data"], ["clips"]

    def outputs(self) -> tuple[list[str], list[str]]:
        """Attributes that the stage writes."""
        return ["data"], ["clips"]

    def setup(self, worker_metadata: Any = None) -> None:
        """Get the decoder ready."""
        if self._stage is None:
            self._stage = stages.CaptionPreparationStage(
                model_variant=self.model_variant,
                prompt_variant=self.prompt_variant,
                prompt_text=self.prompt_text,
                sampling_fps=self.sampling_fps,
                window_size=self.window_size,
                remainder_threshold=self.remainder_threshold,
                pixel_budget=self.pixel_budget,
                verbose=self.verbose,
                workers=1,
            )
            self._stage.setup()

    def teardown(self) -> None:
        """End the decoder."""
        if self._stage is not None:
            self._stage.teardown()
            self._stage = None

    def process(self, task: VideoTask) -> VideoTask:
        """Prepare all clips of a task; what cannot be read is told in ``clip.errors``."""
        self.setup()
        assert self._stage is not None
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
                    _give(made, self.model_variant, inputs)
                clip.windows.append(made)
        return task


@dataclass
class CaptionGenerationStage(ProcessingStage[VideoTask, VideoTask]):
    """Captions every prepared window of a task, in one stage or two.

    Parameters
    ----------
    model_dir, model_variant, caption_batch_size, fp8, max_output_tokens, disable_mmcache, verbose
        See `captionkit.stages.CaptionGenerationStage`.
    generate_stage2_caption, stage2_prompt_text, pixel_budget, sampling
        See there.
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
    pixel_budget: int | None = None
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        gpus = 0.0 if self.model_variant == "demo" else 1.0
        _introduce(self, "caption_generation", Resources(cpus=1.0, gpus=gpus))
        self._stage: stages.CaptionGenerationStage | None = None

    @classmethod
    def from_recipe(
        cls, recipe: Recipe, *, model_dir: str = "models/qwen", caption_batch_size: int = 16
    ) -> CaptionGenerationStage:
        """The stage that a recipe asks for."""
        made = stages.CaptionGenerationStage.from_recipe(
            recipe, model_dir=model_dir, caption_batch_size=caption_batch_size
        )
        return cls(**{name: getattr(made, name) for name in _shared(cls)})

    def inputs(self) -> tuple[list[str], list[str]]:
        """Attributes that the stage reads."""
        return ["data"], ["clips"]

    def outputs(self) -> tuple[list[str], list[str]]:
        """Attributes that the stage writes."""
        return ["data"], ["clips"]

    def setup_on_node(self, node_info: Any = None, worker_metadata: Any = None) -> None:
        """Have the weights on this machine."""
        self._ours().setup_on_node()

    def setup(self, worker_metadata: Any = None) -> None:
        """Start the engine."""
        if self._stage is None:
            self._stage = self._ours()
            self._stage.setup()

    def _ours(self) -> stages.CaptionGenerationStage:
        return stages.CaptionGenerationStage(
            **{name: getattr(self, name) for name in _shared(type(self))}
        )

    def process(self, task: VideoTask) -> VideoTask:
        """Caption all prepared windows; the same task comes back."""
        self.setup()
        assert self._stage is not None
        ours = OurTask(Video("task"))
        windows: list[tuple[Any, Window]] = []
        for clip in task.data.clips:
            # The very same errors: what our stage tells lands in the task.
            made = Clip(str(clip.source_video), uuid=clip.uuid, errors=clip.errors)
            for window in clip.windows:
                made.windows.append(Window(window.start_frame, window.end_frame))
                if inputs := _taken(window, self.model_variant):
                    made.windows[-1].llm_inputs[self.model_variant] = inputs
                windows.append((window, made.windows[-1]))
            ours.data.clips.append(made)
        self._stage.process(ours)
        for window, told in windows:
            window.caption.update(told.caption)
            window.mp4_bytes = None
        return task


def _shared(stage: type[CaptionGenerationStage]) -> list[str]:
    """The settings that the stage has in common with captionkit's own."""
    own = stages.CaptionGenerationStage.__dataclass_fields__
    return [name for name in stage.__dataclass_fields__ if name in own and not name.startswith("_")]


def _introduce(stage: ProcessingStage[Any, Any], name: str, resources: Resources) -> None:
    """Set a stage's name and resources, which are kept under names with a dash up to version 1.2."""
    hidden = "_" if isinstance(inspect.getattr_static(ProcessingStage, "name"), property) else ""
    setattr(stage, f"{hidden}name", name)
    setattr(stage, f"{hidden}resources", resources)


def _give(window: Any, variant: str, inputs: Any) -> None:
    if _HAS_LLM_INPUTS:
        window.llm_inputs[variant] = inputs
    else:
        window.qwen_llm_input = inputs


def _taken(window: Any, variant: str) -> Any:
    """A window's inputs, released from it."""
    if _HAS_LLM_INPUTS:
        return window.llm_inputs.pop(variant, None)
    inputs, window.qwen_llm_input = window.qwen_llm_input, None
    return inputs
