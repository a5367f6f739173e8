"""vLLM's scheduler, told by each request how many captions may run at once, and paced.

vLLM fixes the number of running requests when an engine starts. A changed batch size must not cost a
reload, so each request carries the wanted number and the scheduler follows the newest.

vLLM also encodes new videos before all else, so that the first caption of many windows waits for the
videos of nearly all of them. Here captions that are under way get a part of the time for every video
that is encoded. Runs inside the engine's core, wherever that is; vLLM loads it by name
(``scheduler_cls``).
"""

from __future__ import annotations

import time
from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request

BATCH_SIZE = "caption_batch_size"
# Seconds of captioning for a second of encoding, while both are waited for.
_CAPTIONING = 0.25
# The same until the first caption has ended, which somebody waits for: it came after 1.3 s instead of
# 2.0, and 64 windows took no longer.
_UNTIL_THE_FIRST = 4.0


class _Captioning(Scheduler):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._last_step = time.monotonic()
        self._encoding = False
        self._owed_s = 0.0
        # Nobody has seen a caption since this engine had nothing to do.
        self._first = True

    def add_request(self, request: Request) -> None:
        """Take the request's batch size over, then queue it."""
        wanted = (request.sampling_params.extra_args or {}).get(BATCH_SIZE)
        if wanted:
            self.max_num_active_reqs = min(int(wanted), self.max_num_running_reqs)
        # Between two captions of a busy engine nothing may run for a moment: that begins nothing new.
        self._first = self._first or not self.requests
        super().add_request(request)

    def schedule(self, throttle_prefills: bool = False) -> Any:
        """While captions are under way, begin one new video at a time, and none while they are owed."""
        now = time.monotonic()
        spent, self._last_step = now - self._last_step, now
        limit, running = self.max_num_active_reqs, len(self.running)
        self._first = self._first and not self.finished_req_ids
        share = _UNTIL_THE_FIRST if self._first else _CAPTIONING
        self._owed_s = spent * share if self._encoding else self._owed_s - spent
        if running and self.waiting and self._costs(self.waiting.peek_request()):
            self.max_num_active_reqs = min(limit, running + (self._owed_s <= 0))
        try:
            output = super().schedule(throttle_prefills)
        finally:
            self.max_num_active_reqs = limit
        self._encoding = bool(output.scheduled_encoder_inputs)
        return output

    def _costs(self, request: Request) -> bool:
        """Whether a request's video has to be encoded, and nobody looks at it (see `flow`)."""
        if request.priority < 0:
            return False
        known = self.encoder_cache_manager.cached
        return any(feature.identifier not in known for feature in request.mm_features)


class CaptionScheduler(_Captioning):
    """For an engine without asynchronous scheduling (the CPU)."""


class AsyncCaptionScheduler(_Captioning, AsyncScheduler):
    """For an engine with asynchronous scheduling (the GPU)."""
