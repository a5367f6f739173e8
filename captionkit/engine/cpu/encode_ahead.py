"""Videos encoded by a thread of its own while captions are generated, for an engine on a CPU.

vLLM encodes a video inside the step that begins its caption, and all other captions wait. Operations
of a small model are too short for several cores to share, so that one core was idle meanwhile. Here a
video is encoded as soon as its request has come, and its caption begins when it is ready. Imports
vLLM; installed by the worker, used by its scheduler.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from concurrent.futures import Future
from typing import Any

import torch
from vllm.multimodal.inputs import MultiModalFeatureSpec
from vllm.multimodal.utils import group_and_batch_mm_kwargs

# Before all that anybody asks for: the engine stands still for it.
_AWAITED = -(1 << 30)


class EncodeAhead:
    """Encodes the videos that are announced, the most wanted first; the model runner fetches them.

    Parameters
    ----------
    runner
        vLLM's model runner; its own encoding is replaced.
    """

    def __init__(self, runner: Any) -> None:
        self._runner = runner
        self._numbers = itertools.count()
        self._queue: list[tuple[int, int, MultiModalFeatureSpec]] = []
        self._videos: dict[str, Future[torch.Tensor]] = {}
        self._changed = threading.Condition(threading.RLock())
        # Most encoded videos that wait for their captions: each is memory.
        self.room = 1
        runner._execute_mm_encoder = self._deliver
        threading.Thread(target=self._run, name="encode-ahead", daemon=True).start()

    def ready(self, feature: MultiModalFeatureSpec, priority: int) -> bool:
        """Whether a video is encoded; one that is new is encoded in its turn."""
        with self._changed:
            if feature.identifier not in self._videos:
                self._videos[feature.identifier] = Future()
                self._ask(feature, priority)
            return self._videos[feature.identifier].done()

    def drop(self, feature: MultiModalFeatureSpec) -> None:
        """Forget a video that is fetched, or whose request was withdrawn."""
        with self._changed:
            self._videos.pop(feature.identifier, None)
            self._changed.notify()

    def _ask(self, feature: MultiModalFeatureSpec, priority: int) -> None:
        heapq.heappush(self._queue, (priority, next(self._numbers), feature))
        self._changed.notify()

    def _deliver(self, scheduled: Any) -> list[torch.Tensor]:
        """In place of the model runner's own: puts the videos of a step into its cache."""
        outputs = []
        for request_id, numbers in scheduled.scheduled_encoder_inputs.items():
            features = self._runner.requests[request_id].mm_features
            for feature in (features[number] for number in numbers):
                with self._changed:
                    if not self.ready(feature, _AWAITED):
                        # It may be queued behind others, and those behind a lack of room.
                        self._ask(feature, _AWAITED)
                    video = self._videos[feature.identifier]
                encoded = video.result()
                self.drop(feature)
                self._runner._cache_encoder_output(
                    feature.identifier,
                    encoded,
                    scheduled.ec_manager_metadata,
                    scheduled.free_encoder_mm_hashes,
                )
                outputs.append(encoded)
        return outputs

    def _next(self) -> MultiModalFeatureSpec | None:
        """The most wanted video; None while there is none, or no room for one nobody looks at."""
        if not self._queue:
            return None
        full = sum(video.done() for video in self._videos.values()) >= self.room
        return None if full and self._queue[0][0] >= 0 else heapq.heappop(self._queue)[2]

    def _run(self) -> None:
        while True:
            with self._changed:
                while (feature := self._next()) is None:
                    self._changed.wait()
                video = self._videos.get(feature.identifier)
            if video is None or video.done():
                continue
            try:
                video.set_result(self._encode(feature))
            except Exception as error:
                video.set_exception(error)

    @torch.inference_mode()
    def _encode(self, feature: MultiModalFeatureSpec) -> torch.Tensor:
        assert feature.data is not None
        (_, _, inputs), *_ = group_and_batch_mm_kwargs([(feature.modality, feature.data)])
        # So that it counts as a run of the encoder, as vLLM's own would.
        with self._runner.timed_encoder_operation(True, [(feature.identifier, None)], 0, 1):
            (encoded,) = self._runner.model.embed_multimodal(**inputs)
        return encoded
