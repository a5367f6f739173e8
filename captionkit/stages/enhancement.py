"""CaptionEnhancementStage: rewrite captions with a model that reads them without their video."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field, fields, replace
from typing import Any

from captionkit import prompts
from captionkit.engine import Backend, EngineError, VideoInput
from captionkit.models.variants import get_variant
from captionkit.models.weights import ensure_weights
from captionkit.pipeline.backends import EngineOptions, open_backend
from captionkit.pipeline.flow import caption_stages
from captionkit.pipeline.prepared import PreparedWindow
from captionkit.recipe import Recipe
from captionkit.stages.base import NodeInfo, ProcessingStage, Resources, WorkerMetadata
from captionkit.system import loop

logger = logging.getLogger(__name__)


def take_recipe(stage: Any) -> None:
    """Set the keywords of an enhancement that are left at their defaults from its recipe, if any."""
    recipe = stage.recipe
    if recipe is None:
        return
    told = {"model_variant": recipe.model, "fp8": recipe.fp8, "max_output_tokens": recipe.max_tokens}
    if recipe.text_only:
        told["prompt_text"] = recipe.stage2
    for keyword in fields(stage):
        if keyword.name in told and getattr(stage, keyword.name) == keyword.default:
            setattr(stage, keyword.name, told[keyword.name])


@dataclass
class CaptionEnhancementStage(ProcessingStage):
    """Rewrites every window's caption without the video, with the same model or another.

    The text goes to ``window.enhanced_caption[model_variant]``, the error of a window to
    ``clip.errors["enhancement-N"]``.

    Parameters
    ----------
    model_dir, model_variant, fp8
        The model that writes; see `stages.QwenVL`. A model that sees no video needs an ``endpoint``.
    captioning_model_variant
        Key of the captions in ``window.caption``.
    prompt_text
        Text with ``{caption}``, and ``{video}`` if wanted; None takes `prompts.ENHANCE`.
    model_batch_size
        Texts that are written at once.
    max_output_tokens
        Longest text, in tokens.
    verbose
        Log each text.
    recipe
        Settings such as temperature; also the model, fp8, the longest text, and with
        `Recipe.text_only` the second stage's text, where these keywords are left at their defaults.
    endpoint
        Address of a vLLM server with the model, used instead of an engine here.
    backend
        Backend of the texts; None starts the model's engine.
    engine_options
        Further options of the engine, see `pipeline.backends.EngineOptions`.
    """

    model_dir: str = "models/qwen"
    model_variant: str = "qwen"
    captioning_model_variant: str = "qwen"
    prompt_text: str | None = None
    model_batch_size: int = 128
    fp8: bool = False
    max_output_tokens: int = 512
    verbose: bool = False
    _name: str = "caption_enhancement"
    recipe: Recipe | None = None
    endpoint: str | None = None
    backend: Backend | None = None
    engine_options: EngineOptions = field(default_factory=EngineOptions, kw_only=True)

    def __post_init__(self) -> None:
        self._resources = Resources(gpus=0.0 if self.endpoint else 1.0)
        take_recipe(self)
        if self.model_batch_size < 1:
            raise ValueError(f"model_batch_size is {self.model_batch_size}; give 1 or more")
        get_variant(self.model_variant)
        self._made()

    def _made(self) -> Recipe:
        text = prompts.ENHANCE if self.prompt_text is None else self.prompt_text
        prompts.check_template(text, ("caption", "video"))
        return replace(
            self.recipe or Recipe(),
            model=self.model_variant,
            stage2=text,
            text_only=True,
            # Stage 1 is in the task.
            given=self.captioning_model_variant,
            fp8=self.fp8,
            max_tokens=self.max_output_tokens,
        )

    def setup_on_node(
        self, node_info: NodeInfo | None = None, worker_metadata: WorkerMetadata | None = None
    ) -> None:
        """Make sure that this machine has the weights."""
        if self.endpoint is None and self.backend is None:
            ensure_weights(get_variant(self.model_variant), self.model_dir)

    def setup(self, worker_metadata: WorkerMetadata | None = None) -> None:
        """Start the engine, or take the running one; see `pipeline.open_backend` for the errors."""
        self._open()

    def _open(self) -> Backend:
        return self.backend or open_backend(
            self._made(),
            model_dir=self.model_dir,
            endpoint=self.endpoint,
            **self.engine_options,
        )

    def process(self, task: Any) -> Any:
        """Rewrite the captions of all windows; return the same task."""
        return loop.run(self.aprocess(task))

    async def aprocess(self, task: Any) -> Any:
        """Run `process` in a running event loop."""
        texts: list[tuple[Any, int, str]] = []
        for clip in task.data.clips:
            if not clip.windows:
                clip.errors.setdefault("windows", "empty")
            for number, window in enumerate(clip.windows):
                if text := window.caption.get(self.captioning_model_variant):
                    texts.append((clip, number, text))
                elif f"window-{number}" not in clip.errors:
                    missing = f"no caption of {self.captioning_model_variant}"
                    clip.errors[f"enhancement-{number}"] = f"{missing}; caption the window first"
        if texts:
            backend = await asyncio.to_thread(self._open)
            async with asyncio.TaskGroup() as group:
                for clip, number, text in texts:
                    group.create_task(self._rewrite(clip, number, text, backend))
        return task

    async def _rewrite(self, clip: Any, number: int, text: str, backend: Backend) -> None:
        name = str(clip.source_video).replace("\\", "/").rsplit("/", 1)[-1]
        window = PreparedWindow("", {"video": name}, VideoInput("", {}, name=name))
        error = f"enhancement-{number}"
        try:
            stages = caption_stages(
                window, self._made(), backend, batch_size=self.model_batch_size, given=text
            )
            async for made in stages:
                if made.stage == 2:
                    clip.windows[number].enhanced_caption[self.model_variant] = made.text
                    clip.errors.pop(error, None)
                    if self.verbose:
                        logger.info("%s, window %d: %s", name, number, made.text)
        except (ValueError, EngineError) as failure:
            clip.errors[error] = str(failure) or type(failure).__name__
