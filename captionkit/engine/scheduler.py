"""vLLM's scheduler, told by each request how many captions may run at once.

vLLM fixes the number of running requests when an engine starts. A changed batch size must not cost a
reload, so each request carries the wanted number and the scheduler follows the newest. Runs inside
the engine's core, wherever that is; vLLM loads it by name (``scheduler_cls``).
"""

from __future__ import annotations

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request

BATCH_SIZE = "caption_batch_size"


def _follow(scheduler: Scheduler, request: Request) -> None:
    wanted = (request.sampling_params.extra_args or {}).get(BATCH_SIZE)
    if wanted:
        scheduler.max_num_active_reqs = min(int(wanted), scheduler.max_num_running_reqs)


class CaptionScheduler(Scheduler):
    """For an engine without asynchronous scheduling (the CPU)."""

    def add_request(self, request: Request) -> None:
        """Take the request's batch size over, then queue it."""
        _follow(self, request)
        super().add_request(request)


class AsyncCaptionScheduler(AsyncScheduler):
    """For an engine with asynchronous scheduling (the GPU)."""

    def add_request(self, request: Request) -> None:
        """Take the request's batch size over, then queue it."""
        _follow(self, request)
        super().add_request(request)
