"""vLLM's engine core in a thread of the worker instead of a process of its own.

Reason: on a CPU a second process buys nothing, and its start costs about ten seconds (it imports vLLM
again). vLLM has an in-process core only for its blocking engine; this gives that core the asynchronous
face that AsyncLLM expects. A core in this process also says which requests it works on.
Upstream: https://github.com/vllm-project/vllm/blob/v0.32.0/vllm/v1/engine/core_client.py
(``make_client`` refuses asyncio without multiprocessing, with a TODO to support it)
Goes when: vLLM supports it.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

from vllm.config import VllmConfig
from vllm.logger import init_logger
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, EngineCoreRequest, FinishReason
from vllm.v1.engine.core import EngineCore
from vllm.v1.engine.core_client import EngineCoreClient, InprocClient
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.executor import Executor

logger = init_logger(__name__)
# Steps whose tokens are emitted at once. Each message wakes a thread that competes for the interpreter
# lock; text goes on in parts of eight tokens anyway.
_HELD_STEPS = 4


def register(attach: Callable[[EngineCore], None]) -> None:
    """Have AsyncLLM engines made from now on keep their core in this process.

    Parameters
    ----------
    attach
        Called with each core that is made, before its first step.
    """

    def make(
        vllm_config: VllmConfig, executor_class: type[Executor], log_stats: bool, **_: Any
    ) -> InprocAsyncClient:
        client = InprocAsyncClient(vllm_config, executor_class, log_stats)
        attach(client.engine_core)
        return client

    EngineCoreClient.make_async_mp_client = staticmethod(make)


def _can_wait(outputs: EngineCoreOutputs) -> bool:
    """Return whether a step only added tokens to captions that go on."""
    return bool(outputs.outputs) and all(
        each == EngineCoreOutput(each.request_id, each.new_token_ids) for each in outputs.outputs
    )


def _joined(steps: list[EngineCoreOutputs]) -> EngineCoreOutputs:
    """Return the outputs of consecutive steps as one; all but the last could wait."""
    last = steps[-1]
    requests: dict[str, EngineCoreOutput] = {}
    for output in (each for step in steps for each in step.outputs):
        if earlier := requests.get(output.request_id):
            output.new_token_ids = earlier.new_token_ids + output.new_token_ids
        requests[output.request_id] = output
    last.outputs = list(requests.values())
    return last


class InprocAsyncClient(InprocClient):
    """An engine core that a thread of this process steps; made inside a running event loop.

    Its public methods are those of vLLM's ``AsyncMPClient``.
    """

    def __init__(
        self, vllm_config: VllmConfig, executor_class: type[Executor], log_stats: bool
    ) -> None:
        super().__init__(vllm_config, executor_class, log_stats)
        self.resources = SimpleNamespace(engine_dead=False)
        self.engine_ranks_managed = [0]
        self._loop = asyncio.get_running_loop()
        self._outputs: asyncio.Queue[EngineCoreOutputs | Exception] = asyncio.Queue()
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="engine-core", daemon=True).start()

    def _run(self) -> None:
        try:
            held: list[EngineCoreOutputs] = []
            while self._drain():
                outputs = self.get_output()
                if outputs.outputs or outputs.scheduler_stats is not None:
                    held.append(outputs)
                if held and (len(held) == _HELD_STEPS or not _can_wait(outputs)):
                    self._emit(_joined(held))
                    held = []
        except Exception:
            logger.exception("the engine core failed")
            self.resources.engine_dead = True
            self._emit(EngineDeadError())

    def _drain(self) -> bool:
        """Do what was asked for; wait for a job while the core has nothing to compute."""
        while True:
            try:
                job = self._inbox.get(block=not self.engine_core.scheduler.has_requests())
            except queue.Empty:
                return True
            if job is None:
                return False
            job()

    def _emit(self, outputs: EngineCoreOutputs | Exception) -> None:
        self._loop.call_soon_threadsafe(self._outputs.put_nowait, outputs)

    def _call(self, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        future: Future[Any] = Future()

        def job() -> None:
            try:
                future.set_result(function(*args))
            except Exception as error:
                future.set_exception(error)

        self._inbox.put(job)
        return asyncio.wrap_future(future)

    async def get_output_async(self) -> EngineCoreOutputs:
        outputs = await self._outputs.get()
        if isinstance(outputs, Exception):
            raise outputs
        return outputs

    async def add_request_async(self, request: EngineCoreRequest) -> None:
        def job() -> None:
            try:
                self.add_request(request)
            except Exception:
                # Fail this one request, as a core in a process of its own does.
                logger.exception("request %s was refused", request.request_id)
                failed = EngineCoreOutput(
                    request_id=request.request_id,
                    new_token_ids=[],
                    finish_reason=FinishReason.ERROR,
                )
                self._emit(EngineCoreOutputs(outputs=[failed]))

        self._inbox.put(job)

    async def abort_requests_async(self, request_ids: list[str]) -> None:
        self._inbox.put(lambda: self.abort_requests(request_ids))

    async def get_supported_tasks_async(self) -> Any:
        return self.get_supported_tasks()

    async def is_sleeping_async(self) -> bool:
        return await self._call(self.is_sleeping)

    async def reset_mm_cache_async(self) -> None:
        await self._call(self.reset_mm_cache)

    async def reset_prefix_cache_async(
        self, reset_running_requests: bool = False, reset_connector: bool = False
    ) -> bool:
        return await self._call(self.reset_prefix_cache, reset_running_requests, reset_connector)

    async def reset_encoder_cache_async(self) -> None:
        await self._call(self.reset_encoder_cache)

    async def collective_rpc_async(
        self,
        method: str | Callable[..., Any],
        timeout: float | None = None,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> list[Any]:
        return await self._call(self.collective_rpc, method, timeout, args, kwargs)

    def shutdown(self, timeout: float | None = None) -> None:
        self._inbox.put(None)
        super().shutdown(timeout)
