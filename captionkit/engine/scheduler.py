"""vLLM's scheduler, told by each request how many captions may run at once, and paced.

vLLM fixes the number of running requests when an engine starts. A changed batch size must not cost a
reload, so each request carries the wanted number and the scheduler follows the newest.

vLLM also encodes new videos before all else, so that the first caption of many windows waits for the
videos of nearly all of them. Here captions that are under way get a part of the time for every video
that is encoded. Runs inside the engine's core, wherever that is; vLLM loads it by name
(``scheduler_cls``).
"""

from __future__ import annotations

import itertools
import time
from typing import Any

from vllm.multimodal.inputs import MultiModalFeatureSpec
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request

BATCH_SIZE = "caption_batch_size"
# Seconds of captioning for a second of encoding, while both are waited for.
_CAPTIONING = 0.25
# The same until the first caption has ended, which somebody waits for: it came after 1.3 s instead of
# 2.0, and 64 windows took no longer.
_UNTIL_THE_FIRST = 4.0
# Seconds by which a request counts as come earlier whose video is known.
_KNOWN_FIRST = 1e9


class _Captioning(Scheduler):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._last_step = time.monotonic()
        self._encoding = False
        self._owed_s = 0.0
        # Nobody has seen a caption since this engine had nothing to do.
        self._first = True
        # Set by the worker where videos are encoded beside the captions.
        self.ahead: Any = None

    def add_request(self, request: Request) -> None:
        """Take the request's batch size over, then queue it."""
        wanted = (request.sampling_params.extra_args or {}).get(BATCH_SIZE)
        if wanted:
            self.max_num_active_reqs = min(int(wanted), self.max_num_running_reqs)
        # Between two captions of a busy engine nothing may run for a moment: that begins nothing new.
        self._first = self._first or not self.requests
        unknown = self._unknown(request)
        if not unknown:
            # A second stage, or a new prompt: it begins at once, and what has to be encoded can wait.
            request.arrival_time -= _KNOWN_FIRST
        super().add_request(request)
        if self.ahead:
            # Further ahead than this, encoding only takes bandwidth of the memory from captions that
            # fill the batch.
            self.ahead.room = 1 + self.max_num_active_reqs // 4
            self._ready(unknown, request.priority)

    def finish_requests(self, *args: Any, **kwargs: Any) -> list[Request]:
        """Withdraw requests, and what was to be encoded for them."""
        withdrawn = super().finish_requests(*args, **kwargs)
        if self.ahead:
            for feature in (each for request in withdrawn for each in request.mm_features):
                self.ahead.drop(feature)
        return withdrawn

    def schedule(self, throttle_prefills: bool = False) -> Any:
        """While captions are under way, begin one new video at a time, and none while they are owed.

        Where videos are encoded beside them, begin one that is ready.
        """
        now = time.monotonic()
        spent, self._last_step = now - self._last_step, now
        limit, running = self.max_num_active_reqs, len(self.running)
        self._first = self._first and not self.finished_req_ids
        share = _UNTIL_THE_FIRST if self._first else _CAPTIONING
        self._owed_s = spent * share if self._encoding else self._owed_s - spent
        self.max_num_active_reqs = min(limit, running + self._begun(limit - running))
        try:
            output = super().schedule(throttle_prefills)
        finally:
            self.max_num_active_reqs = limit
        self._encoding = bool(output.scheduled_encoder_inputs)
        return output

    def _begun(self, room: int) -> int:
        """How many of those that wait begin now, in their order.

        Nothing is begun behind one that cannot: its place in the order is all it has.
        """
        count = 0
        for request in itertools.islice(self.waiting, max(room, 0)):
            if unknown := self._unknown(request):
                if self.ahead:
                    count += self._ready(unknown, request.priority)
                else:
                    # Whoever looks at a window does not wait for the others' captions.
                    count += request.priority < 0 or self._owed_s <= 0
                break
            count += 1
        return count or int(not self.running)

    def _unknown(self, request: Request) -> list[MultiModalFeatureSpec]:
        """A request's videos that have to be encoded."""
        known = self.encoder_cache_manager.cached
        return [each for each in request.mm_features if each.data and each.identifier not in known]

    def _ready(self, unknown: list[MultiModalFeatureSpec], priority: int) -> bool:
        """Whether a request's videos are encoded; they are from now on, in its turn."""
        ready = [self.ahead.ready(each, priority) for each in unknown]
        return all(ready)


class CaptionScheduler(_Captioning):
    """For an engine without asynchronous scheduling (the CPU)."""


class AsyncCaptionScheduler(_Captioning, AsyncScheduler):
    """For an engine with asynchronous scheduling (the GPU)."""
