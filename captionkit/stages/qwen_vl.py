"""QwenVL: the reference's model class, from a window's inputs to its captions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from captionkit.engine import Backend, Engine
from captionkit.models.variants import get_variant
from captionkit.models.weights import ensure_weights
from captionkit.pipeline.backends import EngineOptions, check_length, open_backend
from captionkit.pipeline.events import Caption
from captionkit.pipeline.flow import caption_stages
from captionkit.prompts import STAGE2_DEFAULT
from captionkit.recipe import Recipe
from captionkit.stages import adapter
from captionkit.stages.tasks import LlmInputs
from captionkit.system import loop


class GenerationError(RuntimeError):
    """Raised when some videos of `QwenVL.generate` got no caption.

    ``captions`` has the captions in order (None if missing), ``errors`` the reasons by index.
    """

    def __init__(self, captions: list[str | None], errors: dict[int, str]) -> None:
        self.captions = captions
        self.errors = errors
        listed = "; ".join(f"{index}: {reason}" for index, reason in errors.items())
        super().__init__(f"{len(errors)} of {len(captions)} videos got no caption ({listed})")


@dataclass
class QwenVL:
    """A vision-language model, run by vLLM in its own process.

    Parameters
    ----------
    model_dir
        Folder of downloaded weights.
    model_variant
        A registered name, a folder with weights, or a repository id.
    caption_batch_size
        Captions that run at once; may change at any time, without a reload.
    fp8
        Weights in fp8; needs a GPU with fp8 units.
    max_output_tokens
        Longest caption, in tokens.
    model_does_preprocess
        Whether the model's processor resizes the decoded frames; if not, frames come at their final
        size.
    disable_mmcache
        Disable vLLM's cache of processed videos.
    stage2_prompt_text
        Text of the second stage, see `prompts.stage2_template`; None takes the library's text.
    verbose
        Kept for the reference's signature; the stage logs captions.
    recipe
        A recipe instead of the keywords above, which then take its values. A keyword that is set
        afterwards, or with `dataclasses.replace`, counts.
    endpoint
        Address of a vLLM server (``http://localhost:8000/v1``) used instead of
        starting an engine.
    backend
        Backend of the captions; None starts the recipe's backend.
    engine_options
        Further options of the engine, see `pipeline.backends.EngineOptions`.
    """

    model_dir: str = "models/qwen"
    model_variant: str = "qwen"
    caption_batch_size: int = 16
    fp8: bool = False
    max_output_tokens: int = 512
    model_does_preprocess: bool = False
    disable_mmcache: bool = False
    stage2_prompt_text: str | None = None
    verbose: bool = False
    recipe: Recipe | None = None
    endpoint: str | None = None
    backend: Backend | None = None
    engine_options: EngineOptions = field(default_factory=EngineOptions, kw_only=True)
    # Recipe that the keywords have their values from; see `adapter.take_over`.
    _taken: Recipe | None = field(default=None, kw_only=True, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.caption_batch_size < 1:
            raise ValueError(f"caption_batch_size is {self.caption_batch_size}; give 1 or more")
        # Default to one stage; each call decides anew.
        self.generate_stage2_caption = False
        adapter.take_over(self)
        self._given = self.backend is not None

    def download_weights_on_node(self) -> Path:
        """Make sure that this machine has the weights; see `models.weights.ensure_weights`."""
        return ensure_weights(get_variant(self.model_variant), self.model_dir)

    def setup(self) -> None:
        """Start the backend, or take the running one with the same settings.

        Raises
        ------
        ValueError, WeightsError, EngineError
            As `pipeline.open_backend`.
        """
        recipe = adapter.take_over(self)
        if self.backend is not None and self._given:
            check_length(recipe, self.backend)
            return
        self.backend = open_backend(
            recipe,
            model_dir=self.model_dir,
            endpoint=self.endpoint,
            disable_mmcache=self.disable_mmcache,
            model_resizes=self.model_does_preprocess,
            **self.engine_options,
        )

    def knows(self, uid: str) -> bool:
        """Return whether the backend can caption this window without its frames."""
        return self.backend is not None and not self.disable_mmcache and self.backend.knows(uid)

    async def stream(
        self, inputs: LlmInputs, *, generate_stage2_caption: bool = False, priority: int = 0
    ) -> AsyncIterator[Caption]:
        """Caption one window; yield the `Caption` of each stage as it ends.

        Parameters
        ----------
        inputs
            Inputs from the preparation stage.
        generate_stage2_caption
            Whether there is a second stage.
        priority
            Lower goes first: -1 for a window on the screen.

        Raises
        ------
        RequestError
            If this window cannot be captioned; other windows are not affected.
        CacheMissError
            If the inputs have no frames and the backend does not know the window.
        """
        recipe = adapter.take_over(self)
        if self.backend is None or (isinstance(self.backend, Engine) and self.backend.closed):
            # Load in a thread: loading takes seconds to minutes, and the loop belongs to the caller.
            await asyncio.to_thread(self.setup)
        assert self.backend is not None
        family = None if self.model_does_preprocess else get_variant(self.model_variant).family
        stage2 = generate_stage2_caption and (self.stage2_prompt_text or STAGE2_DEFAULT)
        captions = caption_stages(
            adapter.from_inputs(inputs, family),
            recipe.changed(stage2=stage2),
            self.backend,
            batch_size=self.caption_batch_size,
            priority=priority,
        )
        async for each in captions:
            yield each

    def generate(
        self,
        videos: Sequence[LlmInputs],
        generate_stage2_caption: bool = False,
        batch_size: int | None = None,
    ) -> list[str]:
        """Return the final captions of several windows, in order.

        Parameters
        ----------
        videos
            Inputs from the preparation stage.
        generate_stage2_caption
            Whether there is a second stage.
        batch_size
            Captions that run at once; None takes ``caption_batch_size``.

        Raises
        ------
        GenerationError
            If a window got no caption; the error has the other captions.
        """
        if batch_size is not None:
            if batch_size < 1:
                raise ValueError(f"batch_size is {batch_size}; give 1 or more")
            self.caption_batch_size = batch_size

        async def final(inputs: LlmInputs) -> str:
            text = ""
            stream = self.stream(inputs, generate_stage2_caption=generate_stage2_caption)
            async for each in stream:
                text = each.text
            return text

        async def gather() -> list[str | BaseException]:
            return await asyncio.gather(*map(final, videos), return_exceptions=True)

        self.setup()
        results = loop.run(gather())
        errors = {n: str(each) for n, each in enumerate(results) if isinstance(each, BaseException)}
        if errors:
            raise GenerationError([r if isinstance(r, str) else None for r in results], errors)
        return [result for result in results if isinstance(result, str)]
