"""The kernel's side of the engine: start, submit, stream, cancel, restart, close.

vLLM runs in a process of its own (``engine.worker``), so the kernel stays light, survives a crash of
the engine and gets its memory back when the engine is closed.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from captionkit.engine import protocol
from captionkit.engine.errors import CacheMissError, EngineError, EngineGoneError, RequestError, advice
from captionkit.engine.pending import PendingRequest, PendingRequests
from captionkit.engine.process import EngineProcess
from captionkit.engine.protocol import Completion, EngineKey, Request
from captionkit.engine.several import start_together
from captionkit.system import ipc

logger = logging.getLogger(__name__)

_KNOWN_WINDOWS = 8192
# The worker says every few seconds that vLLM's core lives; one that is silent for so long hangs.
HANG_S = 30.0
_CLOSED = "the engine was closed, say for another model; run again to go on"


class Engine:
    """A live engine, a `Backend`; `Engine.get` starts one or returns the running one.

    On a GPU, vLLM's core is a forked process of its own. On a CPU it runs in the engine's process,
    unless ``VLLM_ENABLE_V1_MULTIPROCESSING=1`` is set; ``VLLM_WORKER_MULTIPROC_METHOD`` says how a core
    of its own starts: ``fork``, the default, or ``spawn``. Both variables are vLLM's own, read at each
    start.

    Parameters
    ----------
    key
        What the engine is started with.
    stop
        Event that ends the start; a running engine goes on.

    Raises
    ------
    EngineError
        vLLM is missing, or did not start; carries the last lines of its log.
    EngineGoneError
        The start was stopped.
    """

    _live: ClassVar[tuple[Engine, ...]] = ()
    _live_lock: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def get(cls, key: EngineKey, stop: threading.Event | None = None) -> Engine:
        """Return the running engine of this key, or start it; waits for one that starts."""
        return cls.get_all([key], stop)[0]

    @classmethod
    def get_all(cls, keys: Sequence[EngineKey], stop: threading.Event | None = None) -> list[Engine]:
        """Return the engines of several keys; running ones of other keys are closed first.

        The first starts alone: others then find the weights in memory, and its error comes early.
        """
        with cls._live_lock:
            if stop is not None and stop.is_set():
                raise EngineGoneError("the engine was stopped before it loaded")
            kept = [each for each in cls._live if each.key in keys and each.running]
            for each in cls._live:
                if each not in kept:
                    each.close()
            cls._live = tuple(kept)
            missing = [key for key in keys if key not in {each.key for each in kept}]
            if missing:
                cls._live += (cls(missing[0], stop),)
            if missing[1:]:
                cls._live += tuple(start_together([partial(cls, key) for key in missing[1:]], stop))
            by_key = {each.key: each for each in cls._live}
            return [by_key[key] for key in keys]

    @classmethod
    def live(cls) -> Engine | None:
        """Return the running engine, the first of several; None if there is none."""
        return next((each for each in cls._live if each.running), None)

    def __init__(self, key: EngineKey, stop: threading.Event | None = None) -> None:
        self.key = key
        self.closed = False
        self._pending = PendingRequests()
        # The id under which the engine holds each known window.
        self._known: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.RLock()
        self._encoder_runs: Future[int | None] = Future()
        self._process = EngineProcess(key, stop)
        self._up = True
        # The process ended while no request waited; the next request starts another.
        self._asleep = False
        self._listen()
        atexit.register(self.close)

    @property
    def running(self) -> bool:
        """Whether its process runs, or is started again after it died in the middle of its work."""
        return not (self.closed or self._asleep)

    @property
    def pid(self) -> int:
        """Process id of the engine."""
        return self._process.pid

    @property
    def info(self) -> dict[str, Any]:
        """Facts of the running vLLM: device, dtype, quantization, lengths, cache sizes, start_s."""
        return self._process.info

    @property
    def log_path(self) -> Path:
        """File of vLLM's log."""
        return self._process.log_path

    @property
    def load(self) -> int:
        """Number of requests without an answer."""
        with self._lock:
            return len(self._pending)

    def works_on(self, uid: str) -> bool:
        """Return whether a request for this window is under way."""
        with self._lock:
            return self._pending.has(uid)

    def knows(self, uid: str) -> bool:
        """Return whether a window was captioned under this id: its frames need not come again."""
        with self._lock:
            return uid in self._known

    def submit(
        self, request: Request, *, on_text: Callable[[str], None] | None = None
    ) -> PendingRequest:
        """Queue one request; returns at once.

        Parameters
        ----------
        request
            Prompt and video. Frames of a window that the engine knows are not sent again; give them
            all the same if they are at hand, in case the engine lost them.
        on_text
            Called from the reader thread with all text so far, each time that it grows.

        Raises
        ------
        EngineError
            The engine is closed.
        CacheMissError
            The request has no frames, and the engine does not know the window.
        """
        with self._lock:
            if self.closed:
                raise EngineGoneError(_CLOSED)
            if request.lacks_frames and not self.knows(request.uid):
                raise CacheMissError(f"the engine has not seen {request.uid}: give its frames")
            pending = self._pending.add(request, on_text)
            wakes, self._asleep = self._asleep, False
        if wakes:
            threading.Thread(target=self._bring_up, args=([],), daemon=True).start()
        self._post_next()
        return pending

    async def stream(self, request: Request) -> AsyncIterator[str | Completion]:
        """Yield all text so far each time that it grows, then the `Completion`; see `Backend`."""
        loop = asyncio.get_running_loop()
        texts: asyncio.Queue[str | None] = asyncio.Queue()

        def put(text: str | None) -> None:
            # Text may come after the caller's loop is closed; the reader thread must survive that.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(texts.put_nowait, text)

        pending = self.submit(request, on_text=put)
        pending.future.add_done_callback(lambda _: put(None))
        try:
            while (text := await texts.get()) is not None:
                yield text
            yield pending.future.result()
        finally:
            if not pending.future.done():
                self.cancel(pending)

    def cancel(self, pending: PendingRequest) -> None:
        """Stop a request; its future is cancelled at once."""
        with self._lock:
            self._pending.remove(pending)
        pending.future.cancel()
        self._process.send({"op": "cancel", "id": pending.id})
        self._post_next()

    def encoder_runs(self) -> int:
        """Return how many requests had the vision encoder run since the last call.

        Raises
        ------
        RuntimeError
            The engine was started without the environment variable ``CAPTIONKIT_ENCODER_STATS``.
        """
        self._encoder_runs = Future()
        self._process.send({"op": "encoder_runs"})
        runs = self._encoder_runs.result(timeout=60)
        if runs is None:
            raise RuntimeError(f"set {protocol.ENCODER_STATS}=1 before the start to count runs")
        return runs

    def restart(self) -> None:
        """End the process and start a new one; unfinished requests are submitted to it again."""
        with self._lock:
            if self.closed:
                raise EngineGoneError(_CLOSED)
            self._asleep = False
            lost = self._set_down(died=False)
        self._bring_up(lost)

    def close(self) -> None:
        """End the engine's process and fail requests under way; calling it again does nothing."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
            left = self._pending.remove_all()
        atexit.unregister(self.close)
        self._process.end()
        for pending in left:
            pending.fail(EngineGoneError(_CLOSED))

    def _listen(self) -> None:
        self._heard = self._worker_heard = time.monotonic()
        for work in (self._read, self._watch):
            threading.Thread(
                target=work, args=(self._process,), name="captionkit-engine", daemon=True
            ).start()

    def _set_down(self, *, died: bool) -> list[tuple[PendingRequest, Exception]]:
        """Mark the process as gone; return the requests that no new process can serve."""
        self._up = False
        self._known.clear()
        cause = self._process.cause() if died else None
        if cause:
            logger.warning("the engine died and is started again: %s", cause)
        return self._pending.take_lost(died=died, cause=cause)

    def _bring_up(self, lost: list[tuple[PendingRequest, Exception]]) -> None:
        """Start a new process and post what is unfinished.

        Runs without the lock: whoever submits or cancels meanwhile must not wait for a model.
        """
        for pending, error in lost:
            pending.fail(error)
        self._process.end()
        failure = EngineGoneError(_CLOSED)
        process = None
        try:
            process = EngineProcess(self.key)
        except EngineError as error:
            failure = EngineGoneError(f"the engine could not be started again: {error}")
        with self._lock:
            if process is not None and not self.closed:
                self._process, self._up = process, True
                self._listen()
            else:
                self.closed = True
            left = self._pending.remove_all() if self.closed else []
        if process is not None and self.closed:
            process.end()
        for pending in left:
            pending.fail(failure)
        self._post_next()

    def _post_next(self) -> None:
        """Send waiting requests to the process; while it is down, leave them to the next one."""
        with self._lock:
            posted = self._pending.take_next() if self._up else []
        for pending in posted:
            self._post(pending)

    def _post(self, pending: PendingRequest) -> None:
        video = pending.request.video
        with self._lock:
            held = None if self.key.disable_mmcache else self._known.get(pending.request.uid)
        if video and pending.resent:
            video = replace(video, uid=pending.uid_anew)
        elif video and held is not None:
            video = replace(video, uid=held, frames=None)
        self._process.send(*protocol.pack_request(pending.id, replace(pending.request, video=video)))

    def _read(self, process: EngineProcess) -> None:
        """Take the process's messages until it ends, then start the next one."""
        try:
            while True:
                message, _ = ipc.receive(process.channel)
                self._worker_heard = time.monotonic()
                if message.get("core", True):
                    self._heard = self._worker_heard
                try:
                    self._take(message)
                except Exception:
                    # A caller's callback failed; other requests must still be answered.
                    logger.exception("a callback of request %s failed", message.get("id"))
        except (EOFError, OSError):
            pass
        with self._lock:
            # Only the reader of the present process may start the next one.
            if self.closed or process is not self._process or not self._up:
                return
            idle = self._asleep = not self._pending
            lost = self._set_down(died=True)
        if idle:
            process.end()
        else:
            self._bring_up(lost)

    def _watch(self, process: EngineProcess) -> None:
        """Kill a process that hangs; its reader then starts the next one."""
        last = time.monotonic()
        while not self.closed and process is self._process:
            time.sleep(min(1.0, HANG_S / 4))
            now = time.monotonic()
            if now - last > HANG_S / 2:
                # This process itself stood still, and messages of that time are not read yet.
                self._heard = now
            last = now
            if self._up and now - self._heard > HANG_S:
                worker_lives = now - self._worker_heard < HANG_S / 2
                who = "vLLM's core" if worker_lives else "the engine's process"
                logger.warning("%s did not answer for %.0f s; the engine starts again", who, HANG_S)
                process.kill()
                return

    def _take(self, message: dict[str, Any]) -> None:
        op = message["op"]
        if op == "encoder_runs":
            self._encoder_runs.set_result(message["runs"])
        elif op != "alive":
            with self._lock:
                pending = self._pending.find(message["id"])
            # A request that was cancelled meanwhile is not there any more.
            if pending is not None:
                self._answer(op, pending, message)

    def _answer(self, op: str, pending: PendingRequest, message: dict[str, Any]) -> None:
        match op:
            case "started":
                pending.started = True
            case "delta":
                pending.grow(message["text"])
            case "done":
                self._remember(pending.request.uid, pending.uid_anew if pending.resent else None)
                fields = {name: message[name] for name in Completion.__dataclass_fields__}
                if self._remove(pending):
                    pending.finish(Completion(**fields))
                self._post_next()
            case "error":
                self._take_error(pending, message["kind"], message["message"])
                self._post_next()

    def _take_error(self, pending: PendingRequest, kind: str, message: str) -> None:
        match kind:
            case "cache_miss":
                with self._lock:
                    self._known.pop(pending.request.uid, None)
                if not pending.request.lacks_frames and not pending.resent:
                    pending.resent, pending.text = True, ""
                    self._post(pending)
                elif self._remove(pending):
                    pending.fail(CacheMissError(message))
            case "cancelled" if self._remove(pending):
                pending.future.cancel()
            case _ if self._remove(pending):
                video = pending.request.video if kind == "window" else None
                what = f"{video.name} {message}" if video else message + advice(message)
                pending.fail(RequestError(what))

    def _remove(self, pending: PendingRequest) -> bool:
        with self._lock:
            return self._pending.remove(pending)

    def _remember(self, uid: str, held: str | None = None) -> None:
        with self._lock:
            self._known[uid] = held or self._known.get(uid, uid)
            self._known.move_to_end(uid)
            while len(self._known) > _KNOWN_WINDOWS:
                self._known.popitem(last=False)
