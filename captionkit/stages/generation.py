"""CaptionGenerationStage: caption prepared windows, in one stage or two.

The reference's stage with its public fields, a working second stage, and failures that stay with their
window.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from captionkit.engine import Backend, EngineError
from captionkit.models.variants import get_variant
from captionkit.models.weights import ensure_weights
from captionkit.pipeline.backends import EngineOptions
from captionkit.pipeline.events import Caption
from captionkit.recipe import Recipe
from captionkit.stages import adapter
from captionkit.stages.base import NodeInfo, ProcessingStage, Resources, WorkerMetadata
from captionkit.stages.qwen_vl import QwenVL
from captionkit.stages.tasks import Video, VideoTask
from captionkit.system import loop

logger = logging.getLogger(__name__)


@dataclass
class CaptionGenerationStage(ProcessingStage):
    """Captions every prepared window of a task.

    The final text goes to ``window.caption[model_variant]``, every stage's `Caption` to
    ``window.captions[model_variant]``, and the error of a failed window to
    ``clip.errors["window-N"]``.

    Parameters
    ----------
    model_dir, model_variant, caption_batch_size, fp8, max_output_tokens, model_does_preprocess
        See `stages.QwenVL`.
    disable_mmcache
        See `stages.QwenVL`.
    verbose
        Log each caption.
    generate_stage2_caption
        Caption each window a second time, with its first caption in the prompt.
    stage2_prompt_text
        Text of the second stage; ``{caption}`` stands for the first caption.
    recipe, endpoint, backend, engine_options
        See `stages.QwenVL`.

    Notes
    -----
    Fields may be set at any time before `process`; the next task is captioned with the new values.
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
    recipe: Recipe | None = None
    endpoint: str | None = None
    backend: Backend | None = None
    engine_options: EngineOptions = field(default_factory=EngineOptions, kw_only=True)
    # Recipe that the keywords have their values from; see `adapter.take_over`.
    _taken: Recipe | None = field(default=None, kw_only=True, repr=False, compare=False)

    _running = ("_model",)

    def __post_init__(self) -> None:
        self._resources = Resources(gpus=1.0)
        adapter.take_over(self)
        self._model: QwenVL | None = None
        self._model_settings: dict[str, Any] = {}

    @classmethod
    def from_recipe(
        cls,
        recipe: Recipe,
        *,
        model_dir: str = "models/qwen",
        caption_batch_size: int = 16,
        endpoint: str | None = None,
    ) -> CaptionGenerationStage:
        """Return the stage of a recipe."""
        return cls(
            recipe=recipe,
            model_dir=model_dir,
            caption_batch_size=caption_batch_size,
            endpoint=endpoint,
        )

    def setup_on_node(
        self, node_info: NodeInfo | None = None, worker_metadata: WorkerMetadata | None = None
    ) -> None:
        """Make sure that this machine has the weights."""
        if self.endpoint is None and self.backend is None:
            ensure_weights(get_variant(adapter.take_over(self).model), self.model_dir)

    def setup(self, worker_metadata: WorkerMetadata | None = None) -> None:
        """Start the engine; see `stages.QwenVL.setup` for the errors."""
        settings = self._settings()
        model = QwenVL(**settings)
        model.setup()
        self._model, self._model_settings = model, settings

    def _settings(self) -> dict[str, Any]:
        """Return the arguments of the model that the fields describe now."""
        return {
            "model_dir": self.model_dir,
            "caption_batch_size": self.caption_batch_size,
            "model_does_preprocess": self.model_does_preprocess,
            "disable_mmcache": self.disable_mmcache,
            "recipe": adapter.take_over(self),
            "endpoint": self.endpoint,
            "backend": self.backend,
            "engine_options": self.engine_options,
        }

    def process(self, task: VideoTask) -> VideoTask:
        """Caption every prepared window; return the same task."""
        return loop.run(self.aprocess(task))

    async def aprocess(self, task: VideoTask) -> VideoTask:
        """Run `process` in a running event loop."""
        video = task.data
        settings = self._settings()
        mapping = self._prepared_windows(video)
        if mapping and (self._model is None or settings != self._model_settings):
            # Load in a thread: loading takes seconds to minutes, and the loop belongs to the caller.
            await asyncio.to_thread(self.setup)
        async with asyncio.TaskGroup() as group:
            for request in mapping:
                group.create_task(self._caption(video, mapping, request))
        return task

    def _prepared_windows(self, video: Video) -> dict[int, tuple[int, int]]:
        """Map requests to (clip, window), and record errors of clips and windows without inputs."""
        mapping: dict[int, tuple[int, int]] = {}
        for clip_index, clip in enumerate(video.clips):
            if not clip.windows:
                clip.errors.setdefault("windows", "empty")
            for window_index, window in enumerate(clip.windows):
                if window.llm_inputs.get(self.model_variant) is None:
                    clip.errors.setdefault(
                        f"window-{window_index}",
                        f"no inputs for {self.model_variant}; run CaptionPreparationStage first",
                    )
                else:
                    mapping[len(mapping)] = (clip_index, window_index)
        return mapping

    async def _caption(
        self, video: Video, mapping: Mapping[int, tuple[int, int]], request: int
    ) -> None:
        """Caption one prepared window, then release its inputs."""
        clip_index, window_index = mapping[request]
        clip = video.clips[clip_index]
        window, name = clip.windows[window_index], f"window-{window_index}"
        captions: list[Caption] = []
        assert self._model is not None
        try:
            stream = self._model.stream(
                window.llm_inputs[self.model_variant],
                generate_stage2_caption=self.generate_stage2_caption,
            )
            async for each in stream:
                captions.append(each)
                window.captions[self.model_variant] = captions
                self._assign_captions(video, mapping, [(request, each.text)])
            clip.errors.pop(name, None)
        except (ValueError, EngineError) as error:
            clip.errors[name] = str(error) or type(error).__name__
        window.llm_inputs.pop(self.model_variant, None)

    def _assign_captions(
        self,
        video: Video,
        mapping: Mapping[Hashable, tuple[int, int]] | Mapping[int, tuple[int, int]],
        captions: Iterable[tuple[int, str] | str],
    ) -> None:
        """Assign captions to their windows.

        Parameters
        ----------
        video
            Video of the windows.
        mapping
            From request to (clip index, window index).
        captions
            Pairs of request and text, or texts in the order of the requests 0, 1, 2, …
        """
        for index, entry in enumerate(captions):
            request, text = (index, entry) if isinstance(entry, str) else entry
            clip_index, window_index = mapping[request]
            video.clips[clip_index].windows[window_index].caption[self.model_variant] = text
            if self.verbose:
                logger.info(
                    "%s, clip %d, window %d: %s", video.input_video, clip_index, window_index, text
                )
