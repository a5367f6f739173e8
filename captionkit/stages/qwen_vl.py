"""QwenVL: a window's inputs go in, its captions come out, in one stage or two.

Imports the engine's client, not vLLM; called by ``stages.caption_generation``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from captionkit import prompts
from captionkit.system import hardware
from captionkit.system import loop
from captionkit.engine.client import Engine
from captionkit.engine.errors import RequestError
from captionkit.engine.protocol import EngineKey, Request, Sampling, Video
from captionkit.engine.server import RemoteEngine
from captionkit.models.variants import Variant, get_variant
from captionkit.models.weights import ensure_weights
from captionkit.stages.tasks import Caption, Completion, LlmInputs


@dataclass(frozen=True)
class PartialCaption:
    """All text of a stage so far, while it grows."""

    stage: int
    text: str


class GenerationError(RuntimeError):
    """Some videos of a `QwenVL.generate` got no caption.

    ``captions`` holds the others' (None where there is none), ``errors`` the reasons by position.
    """

    def __init__(self, captions: list[str | None], errors: dict[int, str]) -> None:
        self.captions = captions
        self.errors = errors
        listed = "; ".join(f"{place}: {reason}" for place, reason in errors.items())
        super().__init__(f"{len(errors)} of {len(captions)} videos got no caption ({listed})")


@dataclass
class QwenVL:
    """A Qwen-VL model, run by vLLM in a process of its own.

    Parameters
    ----------
    model_dir
        Folder under which downloaded weights are kept.
    model_variant
        See `models.variants.get_variant`.
    caption_batch_size
        Captions that run at once; may be changed at any time, without a reload.
    fp8
        Weights in fp8; needs a GPU that can.
    max_output_tokens
        Longest caption.
    model_does_preprocess
        Whether frames come as decoded and the model's processor resizes them, or at their final
        size.
    disable_mmcache
        Switch vLLM's cache of processed videos off.
    stage2_prompt_text
        Text of the second stage, see `prompts.stage2_template`; None takes the library's.
    verbose
        Kept for the reference's signature; the stage logs captions.
    pixel_budget
        Most pixels a frame; None takes the variant's.
    sampling
        Sampling parameters; its ``max_tokens`` gives way to ``max_output_tokens``.
    endpoint
        Address of a vLLM server (``http://localhost:8000/v1``) that captions instead of an engine of
        our own; ``fp8`` and ``disable_mmcache`` are its to choose then.
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
    pixel_budget: int | None = None
    sampling: Sampling = field(default_factory=Sampling)
    endpoint: str | None = None

    def __post_init__(self) -> None:
        if self.caption_batch_size < 1:
            raise ValueError(f"caption_batch_size is {self.caption_batch_size}; give 1 or more")
        if self.max_output_tokens < 1:
            raise ValueError(f"max_output_tokens is {self.max_output_tokens}; give 1 or more")
        self._engine: Engine | RemoteEngine | None = None

    @property
    def variant(self) -> Variant:
        """The registered model."""
        return get_variant(self.model_variant)

    @property
    def engine(self) -> Engine | RemoteEngine:
        """The live engine; started where none runs."""
        if self._engine is None or self._engine.closed:
            self.setup()
        assert self._engine is not None
        return self._engine

    def download_weights_on_node(self) -> Path:
        """Have the weights on this machine; see `models.weights.ensure_weights`."""
        return ensure_weights(self.variant, self.model_dir)

    def setup(self) -> None:
        """Start the engine, or take the one that runs with the same settings.

        Raises
        ------
        ValueError
            An unknown variant, fp8 without a GPU that can, or captions longer than the model.
        WeightsError
            The weights cannot be had.
        EngineError
            vLLM is missing or did not start.
        """
        self._engine = self._remote(self.endpoint) if self.endpoint else self._own()
        longest = self._engine.info["max_model_len"]
        if self.max_output_tokens >= longest:
            raise ValueError(
                f"max_output_tokens is {self.max_output_tokens}, but {self.model_variant} holds "
                f"{longest} tokens, prompt and video included; give less"
            )

    def _remote(self, endpoint: str) -> RemoteEngine:
        if self.fp8 or self.model_does_preprocess:
            what = "fp8" if self.fp8 else "model_does_preprocess"
            raise ValueError(
                f"{what} is the server's to choose: leave it off, and start {endpoint} as you want it"
            )
        variant = self.variant
        names = (variant.name, *([variant.repository] if variant.repository else []))
        return RemoteEngine.get(endpoint, names)

    def _own(self) -> Engine:
        variant = self.variant
        if self.fp8:
            hardware.require_fp8()
        folder = self.download_weights_on_node()
        pixels = None
        if self.model_does_preprocess:
            pixels = (variant.min_pixels, self.pixel_budget or variant.max_pixels)
        return Engine.get(EngineKey(str(folder.resolve()), self.fp8, self.disable_mmcache, pixels))

    def knows(self, uid: str) -> bool:
        """Whether the running engine can caption this window without its frames."""
        return (
            self._engine is not None
            and not self._engine.closed
            and not self.disable_mmcache
            and self._engine.knows(uid)
        )

    async def stream(
        self, inputs: LlmInputs, *, generate_stage2_caption: bool = False, priority: int = 0
    ) -> AsyncIterator[PartialCaption | Caption]:
        """Caption one window: text as it grows, and a `Caption` at the end of each stage.

        Stage 2 starts the moment stage 1 ends; its prompt holds the stage-2 text and the stage-1
        caption, over the same video.

        Parameters
        ----------
        inputs
            From the preparation stage.
        generate_stage2_caption
            Whether there is a second stage.
        priority
            Lower goes first: -1 for a window that somebody is looking at.

        Raises
        ------
        RequestError
            This window cannot be captioned; others are not concerned.
        CacheMissError
            The inputs came without frames and the engine does not hold them.
        """
        video = self._video(inputs)
        text = inputs["prompt"]
        stages = (1, 2) if generate_stage2_caption else (1,)
        for stage in stages:
            text = prompts.disarm(text)
            if not text.strip():
                raise RequestError("the prompt has no text")
            sampling = replace(self.sampling, max_tokens=self.max_output_tokens)
            request = Request(text, video, sampling, priority)
            async for item in self.engine.stream(request, batch_size=self.caption_batch_size):
                if isinstance(item, Completion):
                    caption = Caption(stage=stage, prompt_text=text, **asdict(item))
                    yield caption
                else:
                    yield PartialCaption(stage, item)
            if stage != stages[-1]:
                template = prompts.stage2_template(self.stage2_prompt_text or prompts.STAGE2_DEFAULT)
                text = prompts.render(template, {**inputs["values"], "caption": caption.text})

    def generate(
        self,
        videos: Sequence[LlmInputs],
        generate_stage2_caption: bool = False,
        batch_size: int | None = None,
    ) -> list[str]:
        """Final captions of several windows, in order.

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
            Some got no caption; it carries the others'.
        """
        if batch_size is not None:
            if batch_size < 1:
                raise ValueError(f"batch_size is {batch_size}; give 1 or more")
            self.caption_batch_size = batch_size

        async def final(inputs: LlmInputs) -> str:
            text = ""
            async for item in self.stream(inputs, generate_stage2_caption=generate_stage2_caption):
                text = item.text
            return text

        async def all_of_them() -> list[str | BaseException]:
            return await asyncio.gather(*map(final, videos), return_exceptions=True)

        self.setup()
        results = loop.run(all_of_them())
        errors = {n: str(each) for n, each in enumerate(results) if isinstance(each, BaseException)}
        if errors:
            raise GenerationError([r if isinstance(r, str) else None for r in results], errors)
        return [result for result in results if isinstance(result, str)]

    def _video(self, inputs: LlmInputs) -> Video:
        """The inputs' video, looked at: vLLM takes broken frames in silence."""
        try:
            frames = inputs["multi_modal_data"]["video"]
            uid = inputs["multi_modal_uuids"]["video"]
            metadata = inputs["video_metadata"]
        except (KeyError, TypeError) as error:
            raise RequestError(
                f"the window's inputs lack {error}; make them with CaptionPreparationStage"
            ) from error
        if frames is not None:
            _check_frames(frames, 1 if self.model_does_preprocess else self.variant.grid_factor)
        return Video(uid, metadata, frames)


def _check_frames(frames: np.ndarray, grid: int) -> None:
    if frames.dtype.kind == "f" and not np.isfinite(frames).all():
        raise RequestError("the frames hold NaN or infinite values")
    if frames.dtype != np.uint8:
        raise RequestError(f"the frames are {frames.dtype}; give uint8 from 0 to 255")
    if frames.ndim != 4 or frames.shape[1] != 3 or 0 in frames.shape:
        raise RequestError(f"the frames have the shape {frames.shape}; give (frames, 3, height, width)")
    count, _, height, width = frames.shape
    if count < 2 or count % 2:
        raise RequestError(f"there are {count} frames; the model reads an even number from 2 on")
    if height % grid or width % grid:
        raise RequestError(
            f"the frames have {width} x {height} pixels; both must be multiples of {grid}"
        )
