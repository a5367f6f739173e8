"""The notebook's side of the engine: start, submit, stream, cancel, restart, close.

vLLM runs in a process of its own (``engine.worker``), so the kernel stays light, survives a crash of
the engine and gets its memory back when the engine is closed. Imports no torch and no vLLM; called by
``models.qwen_vl``.
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from captionkit.system import ipc as wire
from captionkit.engine import protocol
from captionkit.engine.errors import CacheMissError, EngineError, RequestError, advice
from captionkit.engine.process import EngineProcess
from captionkit.engine.protocol import EngineKey, Request
from captionkit.stages.tasks import Completion

logger = logging.getLogger(__name__)

_KNOWN_WINDOWS = 8192
# So many deaths in a row with a window under way, and it is set aside. From the second on suspects run
# alone, so that the one which kills the engine is found and its neighbours are captioned.
_DEATHS = 3
# A worker tells every few seconds that it lives; one that is silent for so long hangs.
HANG_S = 30.0


@dataclass
class Handle:
    """A submitted request: ``future`` gets its `Completion`, or the error.

    ``deaths`` counts the engines that died while it was under way, ``posted`` says whether the present
    one has it.
    """

    id: str
    request: Request
    batch_size: int
    on_text: Callable[[str], None] | None
    future: Future[Completion] = field(default_factory=Future)
    text: str = ""
    deaths: int = 0
    posted: bool = False
    resent: bool = False


class Engine:
    """A live engine; `Engine.get` starts one or returns the one that runs.

    Parameters
    ----------
    key
        What the engine is started with.

    Raises
    ------
    EngineError
        vLLM is missing, or did not start; carries the last lines of its log.
    """

    _live: ClassVar[Engine | None] = None
    _live_lock: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def get(cls, key: EngineKey) -> Engine:
        """The running engine of this key; a running one of another key is closed first."""
        with cls._live_lock:
            if cls._live is not None:
                if cls._live.key == key and not cls._live.closed:
                    return cls._live
                cls._live.close()
                cls._live = None
            cls._live = cls(key)
            return cls._live

    @classmethod
    def live(cls) -> Engine | None:
        """The running engine; None where none runs."""
        running = cls._live
        return running if running is not None and not running.closed else None

    def __init__(self, key: EngineKey) -> None:
        self.key = key
        self.closed = False
        self._ids = itertools.count()
        self._handles: dict[str, Handle] = {}
        self._known: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.RLock()
        self._encoder_runs: Future[int] = Future()
        self._start()
        self._up = True
        atexit.register(self.close)

    def _start(self) -> None:
        self._process = EngineProcess(self.key)
        self._heard = time.monotonic()
        for work in (self._read, self._watch):
            threading.Thread(
                target=work, args=(self._process,), name="captionkit-engine", daemon=True
            ).start()

    @property
    def pid(self) -> int:
        """Process id of the engine."""
        return self._process.pid

    @property
    def info(self) -> dict[str, Any]:
        """What vLLM runs with: device, dtype, quantization, lengths, cache sizes, start_s."""
        return self._process.info

    @property
    def log_path(self) -> Path:
        """Where vLLM writes its log."""
        return self._process.log_path

    def close(self) -> None:
        """End the engine's process and fail what is under way; may be called twice."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
            left, self._handles = self._handles, {}
        atexit.unregister(self.close)
        self._process.end()
        for handle in left.values():
            _fail(handle, EngineError("the engine was closed"))

    def restart(self) -> None:
        """End the process and start a new one; unfinished requests are submitted to it again."""
        with self._lock:
            if self.closed:
                raise EngineError("the engine was closed; Engine.get starts a new one")
            self._set_down(died=False)
        self._restart()

    def _set_down(self, *, died: bool) -> None:
        """Note that the process is gone; who cannot be captioned by another one is told so."""
        self._up = False
        self._known.clear()
        posted = [handle for handle in self._handles.values() if handle.posted]
        # vLLM runs the first of what it was sent, as many as the newest request says.
        most = posted[-1].batch_size if posted else 0
        posted.sort(key=lambda handle: handle.request.priority)
        running = {handle.id for handle in posted[:most]} if died else set()
        for handle in list(self._handles.values()):
            handle.deaths += handle.id in running
            handle.text, handle.posted = "", False
            if handle.deaths >= _DEATHS:
                error: Exception = EngineError(
                    f"the engine died {_DEATHS} times with this window under way; it was set aside"
                )
            elif handle.request.video.frames is None:
                error = CacheMissError("the engine was restarted without this window's frames")
            else:
                continue
            del self._handles[handle.id]
            _fail(handle, error)

    def _restart(self) -> None:
        # Without the lock: whoever submits or cancels meanwhile is not to wait for a model.
        self._process.end()
        failure: EngineError | None = None
        try:
            self._start()
        except EngineError as error:
            failure = error
        with self._lock:
            if failure or self.closed:
                self.closed = True
                left, self._handles = self._handles, {}
                self._process.end()
            else:
                left, self._up = {}, True
        for handle in left.values():
            _fail(handle, failure or EngineError("the engine was closed"))
        self._post_next()

    def knows(self, uid: str) -> bool:
        """Whether a window was captioned under this id, so that its frames need not come again."""
        with self._lock:
            return uid in self._known

    def submit(
        self,
        request: Request,
        *,
        batch_size: int = 16,
        on_text: Callable[[str], None] | None = None,
    ) -> Handle:
        """Queue one request; vLLM runs ``batch_size`` at once.

        Parameters
        ----------
        request
            Prompt and video. Frames of a window that the engine knows are not sent again; give
            them all the same where they are at hand, in case that the engine lost them.
        batch_size
            Captions that run at once; the newest request decides.
        on_text
            Called from the reader thread with all text so far, as it grows.

        Raises
        ------
        EngineError
            The engine is closed.
        RequestError
            Neither frames nor a known id.
        """
        with self._lock:
            if self.closed:
                raise EngineError("the engine was closed; Engine.get starts a new one")
            if request.video.frames is None and request.video.uid not in self._known:
                raise CacheMissError(f"the engine has not seen {request.video.uid}: give its frames")
            handle = Handle(f"r{next(self._ids)}", request, batch_size, on_text)
            self._handles[handle.id] = handle
        self._post_next()
        return handle

    def _post_next(self) -> None:
        """Send what waits: all of it, or the first suspect alone while there are any."""
        with self._lock:
            if not self._up:
                # The next process gets it as soon as it is there.
                return
            waiting = [handle for handle in self._handles.values() if not handle.posted]
            suspects = [h for h in self._handles.values() if h.deaths >= _DEATHS - 1]
            if suspects:
                busy = len(waiting) < len(self._handles)
                waiting = [] if busy else suspects[:1]
            for handle in waiting:
                handle.posted = True
        for handle in waiting:
            self._post(handle)

    def _post(self, handle: Handle, with_frames: bool = False) -> None:
        request = handle.request
        with self._lock:
            known = request.video.uid in self._known and not self.key.disable_mmcache
        if known and not with_frames:
            request = replace(request, video=replace(request.video, frames=None))
        message, payload = protocol.pack_request(handle.id, request)
        self._process.send({**message, "batch_size": handle.batch_size}, payload)

    def cancel(self, handle: Handle) -> None:
        """Stop a request; its future is cancelled at once."""
        with self._lock:
            self._handles.pop(handle.id, None)
        handle.future.cancel()
        self._process.send({"op": "cancel", "id": handle.id})
        self._post_next()

    async def stream(
        self, request: Request, *, batch_size: int = 16
    ) -> AsyncIterator[str | Completion]:
        """Yield all text so far each time that it grows, then the `Completion`.

        Leaving the loop early cancels the request.
        """
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[str | None] = asyncio.Queue()

        def put(item: str | None) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, item)

        handle = self.submit(request, batch_size=batch_size, on_text=put)
        handle.future.add_done_callback(lambda _: put(None))
        try:
            while (text := await queue.get()) is not None:
                yield text
            yield handle.future.result()
        finally:
            if not handle.future.done():
                self.cancel(handle)

    def encoder_runs(self) -> int:
        """How many requests had the vision encoder run since the last call."""
        self._encoder_runs = Future()
        self._process.send({"op": "encoder_runs"})
        return self._encoder_runs.result(timeout=60)

    def _read(self, process: EngineProcess) -> None:
        try:
            while True:
                message, _ = ipc.receive(process.channel)
                self._heard = time.monotonic()
                if message["op"] != "alive":
                    self._answer(message)
        except (EOFError, OSError):
            pass
        with self._lock:
            # Only the reader of the present process may bring up the next.
            if self.closed or process is not self._process or not self._up:
                return
            if not self._handles:
                self.closed = True
                process.end()
                return
            self._set_down(died=True)
        self._restart()

    def _watch(self, process: EngineProcess) -> None:
        """Kill a worker that hangs; the reader then does as with any dead one."""
        last = time.monotonic()
        while not self.closed and process is self._process:
            time.sleep(min(1.0, HANG_S / 4))
            now = time.monotonic()
            if now - last > HANG_S / 2:
                # This process itself stood still: what the worker said meanwhile is not read yet.
                self._heard = now
            last = now
            if self._up and now - self._heard > HANG_S:
                logger.warning("the engine did not answer for %.0f s and is started again", HANG_S)
                process.kill()
                return

    def _answer(self, message: dict[str, Any]) -> None:
        op = message["op"]
        if op == "encoder_runs":
            self._encoder_runs.set_result(message["runs"])
            return
        with self._lock:
            handle = self._handles.get(message["id"])
            if handle is None:
                return
            if op in ("done", "error"):
                del self._handles[handle.id]
        self._take(op, handle, message)
        if op in ("done", "error"):
            self._post_next()

    def _take(self, op: str, handle: Handle, message: dict[str, Any]) -> None:
        match op:
            case "delta":
                handle.text += message["text"]
                if handle.on_text:
                    handle.on_text(handle.text)
            case "done":
                self._remember(handle.request.video.uid)
                fields = {name: message[name] for name in Completion.__dataclass_fields__}
                if handle.future.set_running_or_notify_cancel():
                    handle.future.set_result(Completion(**fields))
            case "error":
                self._fault(handle, message["kind"], message["message"])

    def _remember(self, uid: str) -> None:
        with self._lock:
            self._known[uid] = None
            self._known.move_to_end(uid)
            while len(self._known) > _KNOWN_WINDOWS:
                self._known.popitem(last=False)

    def _fault(self, handle: Handle, kind: str, message: str) -> None:
        if kind == "cache_miss":
            with self._lock:
                self._known.pop(handle.request.video.uid, None)
            if handle.request.video.frames is not None and not handle.resent:
                handle.resent, handle.text = True, ""
                with self._lock:
                    self._handles[handle.id] = handle
                self._post(handle, with_frames=True)
                return
            _fail(handle, CacheMissError(message))
        elif kind == "engine_dead":
            with self._lock:
                self._handles[handle.id] = handle
            # vLLM's core is dead inside a living worker: end the worker, the reader does the rest.
            self._process.kill()
        elif kind == "cancelled":
            handle.future.cancel()
        else:
            _fail(handle, RequestError(message + advice(message)))


def _fail(handle: Handle, error: Exception) -> None:
    if handle.future.set_running_or_notify_cancel():
        handle.future.set_exception(error)
