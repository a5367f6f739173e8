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
        super().add_request(request)
        if self.ahead:
            self.ahead.room = self.max_num_active_reqs
            for feature in self._unknown(request):
                self.ahead.add(feature, request.priority)

    def schedule(self, throttle_prefills: bool = False) -> Any:
        """While captions are under way, begin one new video at a time, and none while they are owed.

        With videos encoded beside them, one that is ready.
        """
        now = time.monotonic()
        spent, self._last_step = now - self._last_step, now
        limit, running = self.max_num_active_reqs, len(self.running)
        self._first = self._first and not self.finished_req_ids
        share = _UNTIL_THE_FIRST if self._first else _CAPTIONING
        self._owed_s = spent * share if self._encoding else self._owed_s - spent
        unknown = self._unknown(self.waiting.peek_request()) if self.waiting else []
        if unknown and self.ahead:
            ready = not running or all(map(self.ahead.ready, unknown))
            self.max_num_active_reqs = min(limit, running + ready)
        elif unknown and running and self.waiting.peek_request().priority >= 0:
            self.max_num_active_reqs = min(limit, running + (self._owed_s <= 0))
        try:
            output = super().schedule(throttle_prefills)
        finally:
            self.max_num_active_reqs = limit
        self._encoding = bool(output.scheduled_encoder_inputs)
        return output

    def _unknown(self, request: Request) -> list[MultiModalFeatureSpec]:
        """A request's videos that have to be encoded."""
        known = self.encoder_cache_manager.cached
        return [each for each in request.mm_features if each.identifier not in known]


class CaptionScheduler(_Captioning):
    """For an engine without asynchronous scheduling (the CPU)."""


class AsyncCaptionScheduler(_Captioning, AsyncScheduler):
    """For an engine with asynchronous scheduling (the GPU)."""
