"""RunTask: the work on a run in this process: status, events, cancel, wait.

Several tasks, in this kernel or another one, may work on one run: each claims jobs from the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import CancelledError, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, replace

from captionkit.engine import Backend
from captionkit.pipeline.events import Event, StageDone, WindowDone
from captionkit.pipeline.flow import caption
from captionkit.recipe import Recipe
from captionkit.run.run import Progress, Run
from captionkit.sources import PlannedWindow
from captionkit.store import Job
from captionkit.store.work import RENEW_S
from captionkit.system import loop
from captionkit.video import DecodePool

logger = logging.getLogger(__name__)

# How often to look whether jobs of other workers are done, or free again.
_LOOK_S = 0.5


@dataclass(frozen=True)
class RunEnded:
    """The last event of a task: the work ended, by itself, by a cancel, or by an error."""

    error: str | None = None


class RunTask:
    """Work under way on a run; begins when it is made.

    Parameters
    ----------
    run
        The run; ``task.run`` later.
    windows
        The session's windows by key; the run's windows that wait must be among them.
    open_backend
        Starts the engine of a recipe; called in a thread, and only if windows wait.
    pool
        What reads the frames.
    batch_size
        Captions that run at once.
    priority
        Lower goes first: -1 for windows that somebody is looking at.
    """

    def __init__(
        self,
        run: Run,
        windows: Mapping[str, PlannedWindow],
        open_backend: Callable[[Recipe], Backend],
        pool: DecodePool,
        *,
        batch_size: int,
        priority: int = 0,
    ) -> None:
        self.run = run
        self._windows = windows
        self._open_backend = open_backend
        self._pool = pool
        self._batch_size = batch_size
        self._priority = priority
        self._callbacks: list[Callable[[Event | RunEnded], None]] = []
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._cancelled = False
        self._stop: Callable[[], object] | None = None
        self._ended = threading.Event()
        self._started = time.monotonic()
        self._finished = 0
        self._work = run.store.begin_work(run.id)
        self._future = loop.submit(self._run())

    def __repr__(self) -> str:
        return f"<RunTask {self.run.id}: {self.status}, {self.progress}>"

    @property
    def running(self) -> bool:
        """Whether the work goes on."""
        return not self._future.done()

    @property
    def status(self) -> str:
        """The run's; see `Run.status`."""
        return "running" if self.running else self.run.status

    @property
    def progress(self) -> Progress:
        """The run's progress, with the rate of this task."""
        seconds = time.monotonic() - self._started
        return replace(self.run.progress, windows_per_s=self._finished / seconds if seconds else 0.0)

    def add_callback(self, callback: Callable[[Event | RunEnded], None]) -> None:
        """Have a function called with each event, in another thread; it should return at once."""
        self._callbacks.append(callback)

    def wait(self, timeout_s: float | None = None) -> Run:
        """Wait until the work has ended; returns the run.

        An interrupt (Ctrl-C, a notebook's stop button) cancels it; what is done stays.

        Raises
        ------
        TimeoutError
            The work goes on after ``timeout_s``.
        EngineError, WeightsError, StoreError, ValueError
            The work could not begin or go on.
        """
        try:
            self._future.result(timeout_s)
        except CancelledError:
            pass
        except FutureTimeoutError:
            if self._future.done():
                raise
            raise TimeoutError(f"run {self.run.id} still runs: {self.progress}") from None
        except KeyboardInterrupt:
            self.cancel()
            raise
        return self.run

    def cancel(self) -> Run:
        """Stop, and wait until the work has ended; what is done stays, `Run.resume` goes on."""
        with self._lock:
            self._cancelled = True
            if self._stop is not None:
                self._stop()
        self._ended.wait()
        wait([self._future])
        return self.run

    async def __aiter__(self) -> AsyncIterator[WindowDone]:
        """Each window of this task as it ends."""
        here = asyncio.get_running_loop()
        events: asyncio.Queue[WindowDone | RunEnded] = asyncio.Queue()

        def forward(event: Event | RunEnded) -> None:
            if isinstance(event, (WindowDone, RunEnded)):
                here.call_soon_threadsafe(events.put_nowait, event)

        self.add_callback(forward)
        try:
            while self.running or not events.empty():
                event = await events.get()
                if isinstance(event, RunEnded):
                    return
                yield event
        finally:
            self._callbacks.remove(forward)

    async def _run(self) -> None:
        error: str | None = None
        try:
            self._allow_cancel()
            async with _renewed(self._work.renew):
                for repeat in range(self.run.repeats):
                    if self._work.waiting(repeat):
                        await self._caption(repeat)
        except Exception as failure:
            error = str(failure) or type(failure).__name__
            raise
        finally:
            self._work.end(time.monotonic() - self._started)
            self._ended.set()
            self._emit(RunEnded(error))

    def _allow_cancel(self) -> None:
        # From here on only: a task that is cancelled before its first step would never emit its end.
        task, here = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        with self._lock:
            if self._cancelled:
                raise asyncio.CancelledError
            self._stop = lambda: here.call_soon_threadsafe(task.cancel)

    async def _caption(self, repeat: int) -> None:
        recipe = self.run.recipe
        if self.run.repeats > 1:
            recipe = replace(recipe, seed=(recipe.seed or 0) + repeat)
        # Loading takes seconds to minutes: not in the loop that other runs share.
        backend = await asyncio.to_thread(self._open_backend, recipe)
        events = caption(
            self._claimed(repeat), recipe, backend, self._pool,
            batch_size=self._batch_size, priority=self._priority,
        )  # fmt: skip
        async with contextlib.aclosing(events):
            async for event in events:
                self._record(event)

    async def _claimed(self, repeat: int) -> AsyncIterator[PlannedWindow]:
        """Windows of claimed jobs; ends when no job of the run waits, here or elsewhere."""
        while True:
            claimed = self._work.claim(self._batch_size, repeat)
            for job in claimed:
                self._jobs[job.window_key] = job
                yield self._windows[job.window_key]
            if not claimed:
                if not self._work.elsewhere(repeat):
                    return
                await asyncio.sleep(_LOOK_S)

    def _record(self, event: Event) -> None:
        """Store what an event brings, then pass it on."""
        if isinstance(event, StageDone):
            self._work.add_caption(self._jobs[event.window.key], event.caption)
        elif isinstance(event, WindowDone):
            self._work.finish(self._jobs.pop(event.window.key), event.error, event.warnings)
            self._finished += 1
        self._emit(event)

    def _emit(self, event: Event | RunEnded) -> None:
        for callback in list(self._callbacks):
            try:
                callback(event)
            except Exception:
                logger.exception("a callback of run %d failed", self.run.id)


@contextlib.asynccontextmanager
async def _renewed(renew: Callable[[], None]) -> AsyncIterator[None]:
    """Renew a lease while a block runs."""

    async def again() -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            await asyncio.to_thread(renew)

    renewing = asyncio.create_task(again())
    try:
        yield
    finally:
        renewing.cancel()
