"""Videos encoded by a thread of its own while captions are generated.

Reason: vLLM encodes a video inside the step that begins its caption, and all other captions wait.
Operations of a small model are too short for several cores to share, so one core was idle meanwhile.
Here a video is encoded as soon as its request has come, and its caption begins when it is ready.
Upstream: https://github.com/vllm-project/vllm/issues/20799 and
https://github.com/vllm-project/vllm/pull/25233 (an encoder in a vLLM instance of its own)
Goes when: vLLM encodes beside a step within one instance.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import torch
from vllm.multimodal.inputs import MultiModalFeatureSpec
from vllm.multimodal.utils import group_and_batch_mm_kwargs

# Before every priority that a request can have: the engine stands still for it.
_AWAITED = -(1 << 30)


@dataclass
class _Video:
    """A video that somebody wants; ``requests`` are the ids of those."""

    encoded: Future[torch.Tensor] = field(default_factory=Future)
    requests: set[str] = field(default_factory=set)
    taken: bool = False


class EncodeAhead:
    """Encodes requested videos, the most wanted first; the model runner fetches them.

    Parameters
    ----------
    runner
        vLLM's model runner; its own encoding is replaced.
    on_started
        Called with a request's id before its video is encoded.
    """

    def __init__(self, runner: Any, on_started: Callable[[str], None]) -> None:
        self._runner = runner
        self._on_started = on_started
        self._numbers = itertools.count()
        self._queue: list[tuple[int, int, MultiModalFeatureSpec]] = []
        self._videos: dict[str, _Video] = {}
        self._changed = threading.Condition(threading.RLock())
        # Most encoded videos that wait for their captions: each takes memory.
        self.room = 1
        runner._execute_mm_encoder = self._deliver
        threading.Thread(target=self._run, name="encode-ahead", daemon=True).start()

    def request(self, feature: MultiModalFeatureSpec, priority: int, request_id: str) -> bool:
        """Return whether a video is encoded; a new one is queued for this request."""
        with self._changed:
            video = self._find(feature, priority)
            joins = video.taken and not video.encoded.done() and request_id not in video.requests
            video.requests.add(request_id)
        if joins:
            self._on_started(request_id)
        return video.encoded.done()

    def drop(self, feature: MultiModalFeatureSpec) -> None:
        """Forget a video that was fetched, or whose request was withdrawn."""
        with self._changed:
            self._videos.pop(feature.identifier, None)
            self._changed.notify()

    def _find(self, feature: MultiModalFeatureSpec, priority: int) -> _Video:
        if feature.identifier not in self._videos:
            self._videos[feature.identifier] = _Video()
            self._queue_up(feature, priority)
        return self._videos[feature.identifier]

    def _queue_up(self, feature: MultiModalFeatureSpec, priority: int) -> None:
        heapq.heappush(self._queue, (priority, next(self._numbers), feature))
        self._changed.notify()

    def _deliver(self, scheduled: Any) -> list[torch.Tensor]:
        """Put the videos of a step into the model runner's cache, in place of its own encoding."""
        outputs = []
        for request_id, numbers in scheduled.scheduled_encoder_inputs.items():
            features = self._runner.requests[request_id].mm_features
            for feature in (features[number] for number in numbers):
                with self._changed:
                    video = self._find(feature, _AWAITED)
                    if not video.taken:
                        # The video may be queued behind others, which wait for room.
                        self._queue_up(feature, _AWAITED)
                encoded = video.encoded.result()
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
        """Return the most wanted video; None if there is none, or no room for one in the background."""
        if not self._queue:
            return None
        full = sum(video.encoded.done() for video in self._videos.values()) >= self.room
        return None if full and self._queue[0][0] >= 0 else heapq.heappop(self._queue)[2]

    def _run(self) -> None:
        while True:
            with self._changed:
                while (feature := self._next()) is None:
                    self._changed.wait()
                video = self._videos.get(feature.identifier)
                if video is None or video.taken:
                    continue
                video.taken = True
                wanted_by = list(video.requests)
            for request_id in wanted_by:
                self._on_started(request_id)
            try:
                video.encoded.set_result(self._encode(feature))
            except Exception as error:
                video.encoded.set_exception(error)

    @torch.inference_mode()
    def _encode(self, feature: MultiModalFeatureSpec) -> torch.Tensor:
        assert feature.data is not None
        (_, _, inputs), *_ = group_and_batch_mm_kwargs([(feature.modality, feature.data)])
        # Counted as a run of the encoder where vLLM's own encoding would be.
        counted = self._runner.observability_config.enable_mm_processor_stats
        with self._runner.timed_encoder_operation(counted, [(feature.identifier, None)], 0, 1):
            (encoded,) = self._runner.model.embed_multimodal(**inputs)
        return encoded
