"""The process that holds vLLM: ``python -m captionkit.engine.worker FD``.

On a CPU, `engine.cpu.worker` runs instead. FD is the file descriptor of one end of a socket pair; the
kernel holds the other end. This process leads a session of its own, so that a notebook's stop button
does not reach it, and leaves when its parent is gone. Its standard output and error are the log file.
"""

from __future__ import annotations

from captionkit.engine.torch_companions import reconcile
from captionkit.system.lifetime import leave_with_spawner

# First of all, and at module level: vLLM's own children import this module again before vLLM.
leave_with_spawner()
reconcile()

# ruff: noqa: E402
import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn

import psutil

from captionkit.engine import protocol
from captionkit.engine.admission import Admission
from captionkit.engine.arguments import engine_arguments, tune
from captionkit.engine.chat import Chat
from captionkit.engine.encodable import TooLargeError, check_encodable, most_encoded
from captionkit.engine.liveness import Liveness
from captionkit.engine.protocol import (
    BATCH_SIZE,
    ENCODER_STATS,
    REQUEST_ID,
    Completion,
    EngineKey,
    Request,
    VideoInput,
)
from captionkit.system import ipc

# The core's time to end by itself, when the parent closes the channel.
_SHUTDOWN_S = 2.0
# Growth in bytes after which free memory is given back; captions under way would need it again.
_GROWTH = 512 << 20
_GROWTH_WHILE_BUSY = 1 << 30
# vLLM's own: how it starts its core, ``fork`` or ``spawn``.
_START_METHOD = "VLLM_WORKER_MULTIPROC_METHOD"


# Patches vLLM, and returns the engine arguments that belong to it; gets what to call with the id of a
# request that is worked on for the first time.
Install = Callable[[Callable[[str], None]], dict[str, Any]]


def main(install: Install | None = None) -> None:
    """Serve one parent until it closes the channel or dies.

    Parameters
    ----------
    install
        Patches whose scheduler follows each request's batch size and says which requests it has
        started. Without them, vLLM runs as it is, and this process admits requests to it.
    """
    channel = ipc.open_channel(int(sys.argv[1]))
    try:
        start, _ = ipc.receive(channel)
        asyncio.run(_Worker(channel, _key(start["key"]), install).serve())
    except EOFError:
        pass
    finally:
        _leave()


def _leave() -> NoReturn:
    """End this process and vLLM's own, which belong to the session that this process leads.

    vLLM's threads and processes would keep a normal exit waiting.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _key(fields: dict[str, Any]) -> EngineKey:
    # JSON has no tuples.
    made: dict[str, Any] = {
        name: tuple(each) if isinstance(each, list) else each for name, each in fields.items()
    }
    return EngineKey(**made)


class _Worker:
    def __init__(self, channel: socket.socket, key: EngineKey, install: Install | None) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._key = key
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._started: set[str] = set()
        self._admission = Admission()
        self._install = install
        self._chat: Chat
        self._engine: Any = None
        # Most tokens of a video that the engine encodes.
        self._encodes = 0

    def _send(self, message: dict[str, Any]) -> None:
        with self._lock:
            ipc.send(self._channel, message)

    async def serve(self) -> None:
        begin = time.monotonic()
        try:
            self._chat = Chat(self._key)
            patches = self._install(self._mark_started) if self._install else {}
            self._engine, self._encodes, info = _start_engine(self._key, patches)
        except Exception as error:
            traceback.print_exc()
            cause = error.__cause__ or error
            self._send({"op": "failed", "error": f"{type(cause).__name__}: {cause}"})
            return
        self._send({"op": "ready", "info": {**info, "start_s": time.monotonic() - begin}})
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._live, args=(loop,), daemon=True).start()
        while True:
            try:
                message, payload = await loop.run_in_executor(None, ipc.receive, self._channel)
            except (EOFError, OSError):
                break
            await self._handle(message, payload)
        self._engine.shutdown(timeout=_SHUTDOWN_S)

    def _live(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say every few seconds whether the core lives, and give free memory back.

        A parent cannot see that a process was stopped.
        """
        liveness = Liveness(lambda: asyncio.run_coroutine_threadsafe(self._engine.is_sleeping(), loop))
        own = psutil.Process()
        last = own.memory_info().rss
        with contextlib.suppress(OSError):
            while not self._engine.errored:
                self._send({"op": "alive", "core": liveness.beat()})
                grown = own.memory_info().rss - last
                if grown > (_GROWTH_WHILE_BUSY if self._tasks else _GROWTH):
                    _give_memory_back()
                    last = own.memory_info().rss
            _leave()

    async def _handle(self, message: dict[str, Any], payload: bytearray) -> None:
        match message["op"]:
            case "submit":
                request_id = message["id"]
                request = protocol.unpack_request(message, payload)
                task = asyncio.create_task(self._caption(request_id, request))
                self._tasks[request_id] = task
                task.add_done_callback(lambda _: self._tasks.pop(request_id, None))
            case "cancel":
                if running := self._tasks.get(message["id"]):
                    running.cancel()
            case "encoder_runs" if ENCODER_STATS not in os.environ:
                self._send({"op": "encoder_runs", "runs": None})
            case "encoder_runs":
                stats = await self._engine.collective_rpc("get_encoder_timing_stats")
                runs = sum(int(s["num_encoder_calls"]) for rank in stats for s in rank.values())
                self._send({"op": "encoder_runs", "runs": runs})

    async def _caption(self, request_id: str, request: Request) -> None:
        begin = time.monotonic()
        try:
            async with self._turn(request_id, request):
                completion = await self._generate(request_id, request, begin)
        except asyncio.CancelledError:
            self._send({"op": "error", "id": request_id, "kind": "cancelled", "message": ""})
        except Exception as error:
            traceback.print_exc()
            if self._engine.errored:
                # The core is dead: the parent starts the next engine and submits its requests again.
                _leave()
            self._send({"op": "error", "id": request_id, **_describe(error)})
        else:
            if completion.finish_reason == "error":
                # The core had dropped data that vLLM's front still counted as cached.
                fault = {"kind": "cache_miss", "message": "the engine lost this video's data"}
                self._send({"op": "error", "id": request_id, **fault})
            else:
                self._send({"op": "done", "id": request_id, **vars(completion)})
        finally:
            self._started.discard(request_id)

    @contextlib.asynccontextmanager
    async def _turn(self, request_id: str, request: Request) -> AsyncIterator[None]:
        """Wait for the request's turn and mark it as started; a patched scheduler does both itself."""
        if self._install:
            yield
            return
        async with self._admission.permit(request.priority, request.batch_size):
            if not self._engine.errored:
                self._mark_started(request_id)
            yield

    def _mark_started(self, request_id: str) -> None:
        """Say that a request is worked on, before the step that might kill this process."""
        if request_id not in self._started:
            self._started.add(request_id)
            self._send({"op": "started", "id": request_id})

    async def _render(self, prompt: dict[str, Any], video: VideoInput | None) -> Any:
        """Process a prompt for vLLM's core.

        Raises
        ------
        TooLargeError
            The window has more tokens than the engine encodes in a step: vLLM would wait forever.
        """
        (rendered,) = await self._engine.renderer.render_cmpl_async([prompt])
        frames = video.frames if video else None
        pixels = None if frames is None else frames.shape[-1] * frames.shape[-2]
        check_encodable(rendered, self._encodes, pixels)
        return rendered

    def _sampling(self, request_id: str, request: Request) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        wanted = request.sampling
        return SamplingParams(
            max_tokens=wanted.max_tokens,
            temperature=wanted.temperature,
            top_p=wanted.top_p,
            repetition_penalty=wanted.repetition_penalty,
            seed=wanted.seed,
            ignore_eos=wanted.ignore_eos,
            output_kind=RequestOutputKind.DELTA,
            logprobs=wanted.logprobs or None,
            structured_outputs=StructuredOutputsParams(json=wanted.schema) if wanted.schema else None,
            extra_args={REQUEST_ID: request_id, BATCH_SIZE: request.batch_size},
        )

    async def _generate(self, request_id: str, request: Request, begin: float) -> Completion:
        waited_s = time.monotonic() - begin
        prompt = self._chat.prompt(self._engine.get_tokenizer(), request)
        rendered = await self._render(prompt, request.video)
        sampling = self._sampling(request_id, request)
        text, output_tokens, first_token_s, last = [], 0, 0.0, None
        likely = None
        async for output in self._engine.generate(
            rendered, sampling, request_id, priority=request.priority
        ):
            part = output.outputs[0]
            if part.token_ids and not output_tokens:
                first_token_s = time.monotonic() - begin
                likely = _likely(part.logprobs)
            output_tokens += len(part.token_ids)
            if part.text:
                text.append(part.text)
                self._send({"op": "delta", "id": request_id, "text": part.text})
            last = output
        assert last is not None
        stats = last.metrics
        queued_s = max(0.0, stats.scheduled_ts - stats.queued_ts) if stats else 0.0
        return Completion(
            prompt=prompt["prompt"],
            text="".join(text),
            finish_reason=last.outputs[0].finish_reason or "abort",
            prompt_tokens=len(last.prompt_token_ids or ()),
            output_tokens=output_tokens,
            cached_tokens=last.num_cached_tokens or 0,
            queue_s=waited_s + queued_s,
            first_token_s=first_token_s,
            seconds=time.monotonic() - begin,
            first_tokens=likely,
        )


def _likely(logprobs: Any) -> dict[str, float] | None:
    """Return the likeliest first tokens of an output, if they were asked for."""
    if not logprobs:
        return None
    return protocol.first_tokens((each.decoded_token, each.logprob) for each in logprobs[0].values())


def _give_memory_back() -> None:
    """Return free memory to the system.

    A processed video that is kept lies between buffers that are not, and glibc by itself returns only
    memory that is free at the end of its heap. Measured after hours of windows, half the heap was free.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _describe(error: Exception) -> dict[str, str]:
    """Return an error as a kind and a line; vLLM's generic wrapper has no text of its own."""
    if isinstance(error, TooLargeError):
        return {"kind": "window", "message": str(error)}
    cause = error.__cause__ or error
    text = f"{type(cause).__name__}: {cause}"
    if "Cache miss" in text or "cache miss" in text:
        return {"kind": "cache_miss", "message": text}
    return {"kind": "invalid", "message": text}


def _start_engine(key: EngineKey, patches: dict[str, Any]) -> tuple[Any, int, dict[str, Any]]:
    """Load the model; also return how many video tokens a step encodes, and facts of the start."""
    from vllm import AsyncEngineArgs, AsyncLLMEngine
    from vllm.platforms import current_platform

    arguments, plan = engine_arguments(key)
    counted = ENCODER_STATS in os.environ
    args = AsyncEngineArgs(**arguments, **patches, enable_mm_processor_stats=counted)
    method = os.environ.get(_START_METHOD, "fork")
    config = args.create_engine_config()
    tune(config, plan)
    if current_platform.is_cpu() and not patches:
        # On a CPU vLLM takes spawn, and one more process for its executor, whatever was asked for.
        os.environ[_START_METHOD] = method
        config.parallel_config.distributed_executor_backend = "uni"
    engine = AsyncLLMEngine.from_vllm_config(config)
    return (
        engine,
        most_encoded(config),
        {
            "device": current_platform.device_name,
            "card": plan.card,
            "precision": " ".join(plan.notes),
            "dtype": str(config.model_config.dtype).removeprefix("torch."),
            "quantization": config.model_config.quantization,
            "max_model_len": config.model_config.max_model_len,
            "mm_processor_cache_gb": config.model_config.get_multimodal_config().mm_processor_cache_gb,
            "encoder_cache_size": config.scheduler_config.encoder_cache_size,
            "max_num_seqs": config.scheduler_config.max_num_seqs,
            "tensor_parallel": key.tensor_parallel,
            "devices": list(key.devices),
        },
    )


if __name__ == "__main__":
    main()
