"""CaptionGenerationStage: prepared windows → captions, in one stage or two.

The reference's stage with its public fields, a second stage that works, and failures that stay with
their window. Imports QwenVL; called by pipelines, `flow` and sessions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field

from captionkit.system import loop
from captionkit.engine.errors import CacheMissError, EngineError
from captionkit.engine.protocol import Sampling
from captionkit.stages.qwen_vl import PartialCaption, QwenVL
from captionkit.models.variants import get_variant
from captionkit.models.weights import ensure_weights
from captionkit.recipe import Recipe
from captionkit.stages.base import NodeInfo, ProcessingStage, Resources, WorkerMetadata
from captionkit.stages.tasks import Caption, Video, VideoTask

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaptionEvent:
    """Something that happened to a window: text that grew, a finished stage, or an error.

    ``caption`` is set when a stage ended, ``error`` when the window failed; else ``text`` is all text
    of ``stage`` so far.
    """

    clip_index: int
    window_index: int
    stage: int = 0
    text: str = ""
    caption: Caption | None = None
    error: str | None = None


@dataclass
class CaptionGenerationStage(ProcessingStage):
    """Captions every prepared window of a task.

    The final text lands in ``window.caption[model_variant]``, every stage's `Caption` in
    ``window.captions[model_variant]``; a window that fails is told in ``clip.errors["window-N"]``.

    Parameters
    ----------
    model_dir, model_variant, caption_batch_size, fp8, max_output_tokens, model_does_preprocess
        See `models.qwen_vl.QwenVL`.
    disable_mmcache
        See `models.qwen_vl.QwenVL`.
    verbose
        Log each caption.
    generate_stage2_caption
        Caption each window a second time, with its first caption in the prompt.
    stage2_prompt_text
        Text of the second stage; ``{caption}`` marks the first caption's place.
    pixel_budget, sampling, endpoint
        See `models.qwen_vl.QwenVL`.
    """

    model_dir: str = "models/qwen"
    model_variant: str = "qwen"
    caption_batch_size: int = 16
    fp8: bool = False
    max_output_tokens: int = 512
    model_does_preprocess: bool = False
    disable_mmcache: bool = False
    verbose: bool = False
    generate_stage2_caption: bool = False
    stage2_prompt_text: str | None = None
    _name: str = "caption_generation"
    pixel_budget: int | None = None
    sampling: Sampling = field(default_factory=Sampling)
    endpoint: str | None = None

    def __post_init__(self) -> None:
        self._resources = Resources(gpus=1.0)
        # Recipe knows the bounds and says what is wrong.
        Recipe(
            stage2_prompt=self.stage2_prompt_text,
            max_output_tokens=self.max_output_tokens,
            pixel_budget=self.pixel_budget,
        )
        self._model: QwenVL | None = None

    @classmethod
    def from_recipe(
        cls,
        recipe: Recipe,
        *,
        model_dir: str = "models/qwen",
        caption_batch_size: int = 16,
        endpoint: str | None = None,
    ) -> CaptionGenerationStage:
        """The stage that a recipe asks for."""
        return cls(
            endpoint=endpoint,
            model_dir=model_dir,
            model_variant=recipe.variant,
            caption_batch_size=caption_batch_size,
            fp8=recipe.fp8,
            max_output_tokens=recipe.max_output_tokens,
            generate_stage2_caption=recipe.stage2_prompt is not None,
            stage2_prompt_text=recipe.stage2_prompt,
            pixel_budget=recipe.pixel_budget,
            sampling=Sampling(
                temperature=recipe.temperature,
                top_p=recipe.top_p,
                repetition_penalty=recipe.repetition_penalty,
                seed=recipe.seed,
                schema=recipe.schema,
            ),
        )

    @property
    def model(self) -> QwenVL:
        """The model; set up where it is not."""
        if self._model is None:
            self.setup()
        assert self._model is not None
        return self._model

    def setup_on_node(
        self, node_info: NodeInfo | None = None, worker_metadata: WorkerMetadata | None = None
    ) -> None:
        """Have the weights on this machine."""
        if self.endpoint is None:
            ensure_weights(get_variant(self.model_variant), self.model_dir)

    def setup(self, worker_metadata: WorkerMetadata | None = None) -> None:
        """Start the engine; see `models.qwen_vl.QwenVL.setup` for the errors."""
        model = QwenVL(
            model_dir=self.model_dir,
            model_variant=self.model_variant,
            caption_batch_size=self.caption_batch_size,
            fp8=self.fp8,
            max_output_tokens=self.max_output_tokens,
            model_does_preprocess=self.model_does_preprocess,
            disable_mmcache=self.disable_mmcache,
            stage2_prompt_text=self.stage2_prompt_text,
            verbose=self.verbose,
            pixel_budget=self.pixel_budget,
            sampling=self.sampling,
            endpoint=self.endpoint,
        )
        model.setup()
        self._model = model

    def process(self, task: VideoTask) -> VideoTask:
        """Caption every prepared window; gives the same task back."""
        return loop.run(self.aprocess(task))

    async def aprocess(self, task: VideoTask) -> VideoTask:
        """`process` for a running event loop."""
        async for _ in self.stream(task):
            pass
        return task

    async def stream(self, task: VideoTask) -> AsyncIterator[CaptionEvent]:
        """Caption every prepared window, and yield what happens as it happens.

        Leaving the loop early cancels what is not done; captions that are done stay.
        """
        events: asyncio.Queue[CaptionEvent | None] = asyncio.Queue()
        video = task.data
        mapping = self._prepared_windows(video)
        if mapping and self._model is None:
            # Loading takes seconds to minutes: not in the caller's loop.
            await asyncio.to_thread(self.setup)
        jobs = [
            asyncio.create_task(self.caption_window(video, clip, window, events.put_nowait))
            for clip, window in mapping.values()
        ]

        async def finish() -> None:
            await asyncio.gather(*jobs, return_exceptions=True)
            events.put_nowait(None)

        closing = asyncio.create_task(finish())
        try:
            while (event := await events.get()) is not None:
                yield event
            for job in jobs:
                job.result()
        finally:
            closing.cancel()
            for job in jobs:
                job.cancel()
            await asyncio.gather(closing, *jobs, return_exceptions=True)

    def _prepared_windows(self, video: Video) -> dict[int, tuple[int, int]]:
        """Request number → (clip, window), and the errors of clips and windows without inputs."""
        mapping: dict[int, tuple[int, int]] = {}
        for clip_index, clip in enumerate(video.clips):
            if not clip.windows:
                clip.errors["windows"] = "empty"
            for window_index, window in enumerate(clip.windows):
                if window.llm_inputs.get(self.model_variant) is None:
                    clip.errors.setdefault(
                        f"window-{window_index}",
                        f"no inputs for {self.model_variant}; run CaptionPreparationStage before",
                    )
                else:
                    mapping[len(mapping)] = (clip_index, window_index)
        return mapping

    async def caption_window(
        self,
        video: Video,
        clip_index: int,
        window_index: int,
        on_event: Callable[[CaptionEvent], None],
        *,
        priority: int = 0,
    ) -> None:
        """Caption one prepared window; its inputs are released afterwards.

        Parameters
        ----------
        video, clip_index, window_index
            The window.
        on_event
            Told what happens.
        priority
            Lower goes first: -1 for a window that somebody is looking at.

        Raises
        ------
        CacheMissError
            The inputs came without frames and the engine does not hold them: prepare the window with
            its frames.
        """
        clip = video.clips[clip_index]
        window = clip.windows[window_index]
        inputs = window.llm_inputs[self.model_variant]
        captions: list[Caption] = []
        try:
            async for item in self.model.stream(
                inputs, generate_stage2_caption=self.generate_stage2_caption, priority=priority
            ):
                if isinstance(item, PartialCaption):
                    on_event(CaptionEvent(clip_index, window_index, item.stage, item.text))
                    continue
                captions.append(item)
                window.captions[self.model_variant] = captions
                self._assign_captions(video, {0: (clip_index, window_index)}, [(0, item.text)])
                on_event(CaptionEvent(clip_index, window_index, item.stage, item.text, caption=item))
            clip.errors.pop(f"window-{window_index}", None)
        except CacheMissError as error:
            if inputs["multi_modal_data"]["video"] is None:
                raise
            self._failed(video, clip_index, window_index, error, on_event)
        except (ValueError, EngineError) as error:
            self._failed(video, clip_index, window_index, error, on_event)
        window.llm_inputs.pop(self.model_variant, None)

    def _failed(
        self,
        video: Video,
        clip_index: int,
        window_index: int,
        error: Exception,
        on_event: Callable[[CaptionEvent], None],
    ) -> None:
        reason = str(error) or type(error).__name__
        video.clips[clip_index].errors[f"window-{window_index}"] = reason
        on_event(CaptionEvent(clip_index, window_index, error=reason))

    def _assign_captions(
        self,
        video: Video,
        mapping: Mapping[Hashable, tuple[int, int]] | Mapping[int, tuple[int, int]],
        captions: Iterable[tuple[int, str] | str],
    ) -> None:
        """Put captions where they belong.

        Parameters
        ----------
        video
            The windows' video.
        mapping
            Request → (clip index, window index).
        captions
            Pairs of request and text, or texts in the order of the requests 0, 1, 2, …
        """
        for place, entry in enumerate(captions):
            request, text = (place, entry) if isinstance(entry, str) else entry
            clip_index, window_index = mapping[request]
            video.clips[clip_index].windows[window_index].caption[self.model_variant] = text
            if self.verbose:
                logger.info(
                    "%s, clip %d, window %d: %s", video.input_video, clip_index, window_index, text
                )
