"""vLLM's scheduler, with a batch size in each request and videos that are encoded ahead.

Reason: vLLM fixes the number of running requests when an engine starts, and a changed batch size must
not cost a reload: each request carries the wanted number, and the newest decides. vLLM also encodes a
video inside the step that begins its caption: here a caption begins when its video is encoded (see
`encode_ahead`), and a known window does not wait for videos of others.
Upstream: https://github.com/vllm-project/vllm/pull/54816 (a limit that changes while vLLM runs) and
https://github.com/vllm-project/vllm/blob/v0.32.0/vllm/v1/core/sched/scheduler.py
Goes when: vLLM has such a limit, and `encode_ahead` has gone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from vllm.multimodal.inputs import MultiModalFeatureSpec
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request

from captionkit.engine.cpu.encode_ahead import EncodeAhead
from captionkit.engine.protocol import BATCH_SIZE, REQUEST_ID

# Subtracted from the arrival time, in seconds, so that requests with an encoded video sort first.
_KNOWN_FIRST = 1e9


class CaptionScheduler(Scheduler):
    """Follows the newest request's batch size, and begins captions whose videos are encoded."""

    _ahead: EncodeAhead
    _on_started: Callable[[str], None]

    def attach(self, ahead: EncodeAhead, on_started: Callable[[str], None]) -> None:
        """Set what encodes videos, and what is called with the id of a request when it starts."""
        self._ahead = ahead
        self._on_started = on_started

    def add_request(self, request: Request) -> None:
        """Take the request's batch size over, then queue it."""
        wanted = _facts(request)[BATCH_SIZE]
        self.max_num_active_reqs = min(wanted, self.max_num_running_reqs)
        # Encoding further ahead takes memory bandwidth from captions that fill the batch.
        self._ahead.room = 1 + self.max_num_active_reqs // 4
        unknown = self._unknown(request)
        if not unknown:
            # A second stage or a new prompt begins at once; what has to be encoded can wait.
            request.arrival_time -= _KNOWN_FIRST
        super().add_request(request)
        self._encoded(unknown, request)

    def finish_requests(self, *args: Any, **kwargs: Any) -> list[Request]:
        """Withdraw requests, and what was to be encoded for them."""
        withdrawn = super().finish_requests(*args, **kwargs)
        for feature in (each for request in withdrawn for each in request.mm_features):
            self._ahead.drop(feature)
        return withdrawn

    def schedule(self, throttle_prefills: bool = False) -> Any:
        """Plan a step, and begin no request whose video is not encoded unless nothing else runs."""
        limit, running = self.max_num_active_reqs, len(self.running)
        self.max_num_active_reqs = min(limit, running + self._ready(limit - running))
        try:
            output = super().schedule(throttle_prefills)
        finally:
            self.max_num_active_reqs = limit
        for scheduled in output.scheduled_new_reqs:
            self._on_started(_facts(self.requests[scheduled.req_id])[REQUEST_ID])
        return output

    def _ready(self, room: int) -> int:
        """Return how many waiting requests begin now, in their order.

        Stops at the first request with a new video; later ones must not overtake it.
        """
        count = 0
        for request in itertools.islice(self.waiting, max(room, 0)):
            if unknown := self._unknown(request):
                # At most one new video a step, so that captions under way go on.
                count += self._encoded(unknown, request)
                break
            count += 1
        return count or int(not self.running)

    def _unknown(self, request: Request) -> list[MultiModalFeatureSpec]:
        """Return a request's videos that have to be encoded."""
        known = self.encoder_cache_manager.cached
        return [each for each in request.mm_features if each.data and each.identifier not in known]

    def _encoded(self, unknown: list[MultiModalFeatureSpec], request: Request) -> bool:
        """Return whether all these videos of a request are encoded; new ones are queued for it."""
        request_id = _facts(request)[REQUEST_ID]
        encoded = [self._ahead.request(each, request.priority, request_id) for each in unknown]
        return all(encoded)


def _facts(request: Request) -> dict[str, Any]:
    return request.sampling_params.extra_args
