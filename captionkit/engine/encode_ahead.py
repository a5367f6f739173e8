"""Videos encoded by a thread of its own while captions are generated, for an engine on a CPU.

vLLM encodes a video inside the step that begins its caption, and all other captions wait. A small
model's operations are too short to be shared by cores, so that one core was idle meanwhile. Here each
video is encoded as soon as its request has come, and its caption begins when it is ready. Imports
vLLM; installed by the worker.
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

_URGENT = -(1 << 30)


class EncodeAhead:
    """Encodes what the scheduler announces, in its order; the model runner takes it from here.

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
        self._changed = threading.Condition()
        # Encoded videos that wait for their captions, at the most: each is memory.
        self.room = 1
        runner._execute_mm_encoder = self._deliver
        threading.Thread(target=self._run, name="encode-ahead", daemon=True).start()

    def add(self, feature: MultiModalFeatureSpec, priority: int) -> None:
        """Have a video encoded in its turn."""
        with self._changed:
            if feature.identifier not in self._videos:
                self._videos[feature.identifier] = Future()
                heapq.heappush(self._queue, (priority, next(self._numbers), feature))
                self._changed.notify()

    def ready(self, feature: MultiModalFeatureSpec) -> bool:
        """Whether a video need not be waited for."""
        with self._changed:
            video = self._videos.get(feature.identifier)
            return video is not None and video.done()

    def drop(self, feature: MultiModalFeatureSpec) -> None:
        """Forget a video whose request was withdrawn."""
        with self._changed:
            self._videos.pop(feature.identifier, None)
            self._changed.notify()

    def _deliver(self, scheduled: Any) -> list[torch.Tensor]:
        """What the model runner calls: the videos of this step, in its cache."""
        outputs = []
        for request_id, numbers in scheduled.scheduled_encoder_inputs.items():
            features = self._runner.requests[request_id].mm_features
            for feature in (features[number] for number in numbers):
                self.add(feature, _URGENT)
                output = self._videos[feature.identifier].result()
                self.drop(feature)
                self._runner._cache_encoder_output(
                    feature.identifier,
                    output,
                    scheduled.ec_manager_metadata,
                    scheduled.free_encoder_mm_hashes,
                )
                outputs.append(output)
        return outputs

    def _next(self) -> MultiModalFeatureSpec | None:
        """The video that is most wanted; None while none is, or enough are ready."""
        if not self._queue:
            return None
        waiting = sum(video.done() for video in self._videos.values())
        if waiting >= self.room and self._queue[0][0] > _URGENT:
            return None
        return heapq.heappop(self._queue)[2]

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
        (_, _, data), *_ = group_and_batch_mm_kwargs(
            [(feature.modality, feature.data)], device=self._runner.device
        )
        with self._runner.timed_encoder_operation(True, [(feature.identifier, None)], 0, 1):
            (encoded,) = self._runner.model.embed_multimodal(**data)
        return encoded
