"""captionkit's text-only enhancement inside NeMo Curator's pipelines."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from nemo_curator.stages.resources import Resources
from nemo_curator.tasks.video import VideoTask

from captionkit import stages
from captionkit.models.variants import get_variant
from captionkit.models.weights import needs_gpu
from captionkit.recipe import Recipe
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
from captionkit.stages.enhancement import take_recipe

_ORDER = (
    "model_dir", "model_variant", *(("captioning_model_variant",) if VERSION >= (1, 3) else ()),
    "prompt_variant", "prompt_text", "model_batch_size", "fp8",
    *(("vllm_kwargs",) if VERSION >= (1, 2) else ()), "max_output_tokens", "verbose", "name",
)  # fmt: skip


@in_order(*_ORDER)
@dataclass(kw_only=True)
class CaptionEnhancementStage(Stage):
    """Rewrites captions without their video, with the same model or another.

    The text is in ``window.enhanced_caption`` under ``qwen_lm``, as ``ClipWriterStage`` looks for it,
    and under the model's name. NeMo Curator's own stage works beside captionkit's others, too.

    Parameters
    ----------
    model_dir, model_variant, fp8
        As in `captionkit.stages.CaptionEnhancementStage`: NeMo Curator's names mean models that see
        video here, and text models there, which captionkit uses at an ``endpoint`` only.
    captioning_model_variant
        Model whose captions are rewritten, by any version's name.
    prompt_variant
        ``default`` and ``av-surveillance`` are the same text here; see `prompts.ENHANCE`.
    prompt_text
        Text with ``{caption}``, which otherwise follows the text.
    vllm_kwargs
        As in `CaptionGenerationStage`.
    model_batch_size, max_output_tokens, verbose, recipe, endpoint, backend
        As in that class.
    """

    model_dir: str = "models/qwen"
    model_variant: str = NAMES[0]
    captioning_model_variant: str = NAMES[0]
    prompt_variant: str = "default"
    prompt_text: str | None = None
    model_batch_size: int = 128
    fp8: bool = False
    vllm_kwargs: dict[str, Any] = field(default_factory=dict)
    max_output_tokens: int = 512
    verbose: bool = False
    name: str = "caption_enhancement"
    recipe: Recipe | None = None
    endpoint: str | None = None
    backend: Any = None

    def __post_init__(self) -> None:
        if self.prompt_variant not in ("default", "av-surveillance"):
            raise ValueError(
                f"prompt_variant is {self.prompt_variant!r}; give default or av-surveillance, or a "
                "text as prompt_text"
            )
        self.vllm_kwargs = self.vllm_kwargs or {}
        self.prompt_text = as_text(self.prompt_text, ("caption", "video"))
        warn_of_unused(self.vllm_kwargs)
        take_recipe(self)
        self._ours()
        needed = not self.endpoint and needs_gpu(get_variant(self.model_variant), self.model_dir)
        self.set_resources(Resources(cpus=1.0, gpus=gpus_of(self.vllm_kwargs, needed=needed)))

    def _ours(self) -> stages.CaptionEnhancementStage:
        own = ("prompt_variant", "name", "vllm_kwargs")
        # A subclass may have fields of its own.
        known = (each.name for each in fields(CaptionEnhancementStage))
        values = {name: getattr(self, name) for name in known if name not in own}
        return stages.CaptionEnhancementStage(**values, engine_options=engine_options(self.vllm_kwargs))

    def setup_on_node(self, node_info: Any = None, worker_metadata: Any = None) -> None:
        """Make sure that this machine has the weights."""
        self._ours().setup_on_node()

    def setup(self, worker_metadata: Any = None) -> None:
        """Start the engine."""
        self._ours().setup()

    def process(self, task: VideoTask) -> VideoTask:
        """Rewrite the captions of all windows; return the same task."""
        windows = [window for clip in task.data.clips for window in clip.windows]
        key = self.captioning_model_variant
        for window in windows:
            if window.caption is None:
                window.caption = {}
            found = (window.caption.get(name) for name in names(key))
            if key not in window.caption and (text := next(filter(None, found), None)):
                window.caption[key] = text
        self._ours().process(task)
        for window in windows:
            if text := window.enhanced_caption.get(self.model_variant):
                window.enhanced_caption["qwen_lm"] = text
        return task
