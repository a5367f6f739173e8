"""RunTask: work on a run in this process, with status, events, cancel and wait.

Several tasks, in one kernel or several, may work on one run: each claims jobs from the store.
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
from captionkit.prompts import PREVIOUS
from captionkit.recipe import Recipe
from captionkit.run.run import Progress, Run
from captionkit.sources import PlannedWindow
from captionkit.store import Job, StoreError, texts_key
from captionkit.store.work import RENEW_S
from captionkit.system import loop
from captionkit.video import DecodePool

logger = logging.getLogger(__name__)

# Seconds between two checks of jobs that other workers have claimed.
_LOOK_S = 0.5
_NO_PREVIOUS = "the window before failed, so {previous} is empty"


@dataclass(frozen=True)
class RunEnded:
    """The last event of a task, after completion, a cancel or an error."""

    error: str | None = None


class RunTask:
    """Work under way on a run; starts at construction.

    Parameters
    ----------
    run
        The run, also readable as ``task.run``.
    windows
        The session's windows by key; must include the run's open windows.
    open_backend
        Function that starts the engine of a recipe; called in a thread, if the run has open windows,
        with an event that ends the start.
    pool
        Processes that read the frames.
    batch_size
        Captions that run at once.
    priority
        Lower goes first: -1 for windows on the screen.
    texts
        Texts beside the picture of a window, with an empty ``previous``; for a recipe with
        `Recipe.texts`.
    """

    def __init__(
        self,
        run: Run,
        windows: Mapping[str, PlannedWindow],
        open_backend: Callable[[Recipe, threading.Event], Backend],
        pool: DecodePool,
        *,
        batch_size: int,
        priority: int = 0,
        texts: Callable[[PlannedWindow], Mapping[str, str]] = lambda window: {},
    ) -> None:
        self.run = run
        self._windows = windows
        self._open_backend = open_backend
        self._pool = pool
        self._batch_size = batch_size
        self._priority = priority
        self._callbacks: list[Callable[[Event | RunEnded], None]] = []
        self._texts = texts
        self._in_order = PREVIOUS in run.recipe.texts
        # The caption before each window under way; None if that one failed.
        self._before: dict[str, str | None] = {}
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._cancelled = False
        self._stop: Callable[[], object] | None = None
        self._end: RunEnded | None = None
        #: When it began, by the monotonic clock, in seconds.
        self.started = time.monotonic()
        self._began: float | None = None
        self._ended: float | None = None
        self._finished = 0
        self._work = run.store.begin_work(run.id)
        self._window_ended = asyncio.Event()
        self._future = loop.submit(self._run())

    def __repr__(self) -> str:
        return f"<RunTask {self.run.id}: {self.status}, {self.progress}>"

    @property
    def running(self) -> bool:
        """Whether the work is still under way."""
        return not self._future.done()

    @property
    def status(self) -> str:
        """``running`` while this task works, else `Run.status`."""
        return "running" if self.running else self.run.status

    @property
    def progress(self) -> Progress:
        """The run's progress, with the rate of this task.

        The rate is measured from the time that the engine is there to the end of the work.
        """
        if self._began is None:
            return self.run.progress
        seconds = (self._ended or time.monotonic()) - self._began
        return replace(self.run.progress, windows_per_s=self._finished / seconds if seconds else 0.0)

    @property
    def captioning(self) -> bool:
        """Whether the engine is there, so that captions come."""
        return self._began is not None

    def add_callback(self, callback: Callable[[Event | RunEnded], None]) -> None:
        """Add a function to call with each event, in another thread; the function must return fast.

        A task that has ended calls it with `RunEnded` at once.
        """
        with self._lock:
            if self._end is None:
                self._callbacks.append(callback)
                return
        self._call(callback, self._end)

    def wait(self, timeout_s: float | None = None) -> Run:
        """Wait until the work has ended; return the run.

        An interrupt (Ctrl-C, a notebook's stop button) cancels the work and keeps finished captions.

        Raises
        ------
        TimeoutError
            If the work is still under way after ``timeout_s``.
        EngineError, WeightsError, StoreError, ValueError
            If the work could not start or continue.
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
        """Stop and wait until the work has ended; finished captions stay, `Run.resume` continues."""
        with self._lock:
            self._cancelled = True
            if self._stop is not None:
                self._stop()
        wait([self._future])
        return self.run

    async def __aiter__(self) -> AsyncIterator[WindowDone]:
        """Yield each window of this task as it ends."""
        here = asyncio.get_running_loop()
        events: asyncio.Queue[WindowDone | RunEnded] = asyncio.Queue()

        def forward(event: Event | RunEnded) -> None:
            if isinstance(event, (WindowDone, RunEnded)):
                here.call_soon_threadsafe(events.put_nowait, event)

        self.add_callback(forward)
        try:
            while not isinstance(event := await events.get(), RunEnded):
                yield event
        finally:
            with contextlib.suppress(ValueError):
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
            self._finish(error)

    def _finish(self, error: str | None) -> None:
        """Release the jobs and emit `RunEnded`, also if the store fails: others wait for it."""
        self._ended = time.monotonic()
        try:
            self._work.end(time.monotonic() - self.started)
        except StoreError as failure:
            logger.warning("run %d could not be ended: %s", self.run.id, failure)
            if error is None:
                error = str(failure)
                raise
        finally:
            with self._lock:
                self._end = RunEnded(error)
            self._emit(self._end)

    def _allow_cancel(self) -> None:
        # Allow a cancel only now: a task cancelled before its first step would never emit RunEnded.
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
        given = {} if recipe.given is None else self.run.store.final_texts(recipe.given)
        stop = threading.Event()
        try:
            # Load in a thread: loading takes seconds to minutes, and other runs share the loop.
            backend = await asyncio.to_thread(self._open_backend, recipe, stop)
        except asyncio.CancelledError:
            stop.set()
            raise
        if self._began is None:
            self._began = time.monotonic()
        events = caption(
            self._claimed(repeat), recipe, backend, self._pool,
            batch_size=self._batch_size, priority=self._priority, given=given, texts=self._texts_of,
        )  # fmt: skip
        async with contextlib.aclosing(events):
            async for event in events:
                self._record(event)

    async def _claimed(self, repeat: int) -> AsyncIterator[PlannedWindow]:
        """Yield windows of claimed jobs until no job of the run is open, here or at another worker."""
        while True:
            self._window_ended.clear()
            claimed = self._work.claim(self._batch_size, repeat)
            for job in claimed:
                # Skip a window under way here: its job came back from a worker that died meanwhile.
                if job.window_key not in self._jobs:
                    self._jobs[job.window_key] = job
                    window = self._windows[job.window_key]
                    if self.run.recipe.texts:
                        self._fill_in(job, window)
                    yield window
            if not claimed:
                # Another window may wait for one under way here.
                waits = self._in_order and bool(self._jobs)
                if not waits and not self._work.elsewhere(repeat):
                    return
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._window_ended.wait(), _LOOK_S)

    def _fill_in(self, job: Job, window: PlannedWindow) -> None:
        """Note what a window's prompt is filled with, and give its job the key of these texts."""
        if job.follows is not None:
            self._before[window.key] = self._work.text_before(job)
        self._work.set_texts(job, self._key_of(window))

    def _texts_of(self, window: PlannedWindow) -> Mapping[str, str]:
        texts = self._texts(window)
        return {**texts, PREVIOUS: self._before.get(window.key) or ""} if self._in_order else texts

    def _key_of(self, window: PlannedWindow) -> str:
        """Return the key of a window's texts; of one whose texts cannot be read, the empty key."""
        try:
            return texts_key(self._texts_of(window))
        except ValueError:
            return ""

    def _record(self, event: Event) -> None:
        """Store the result of an event, then emit the event."""
        if isinstance(event, StageDone):
            self._work.add_caption(self._jobs[event.window.key], event.caption)
        elif isinstance(event, WindowDone):
            if self._before.pop(event.window.key, "") is None:
                event = replace(event, warnings=(*event.warnings, _NO_PREVIOUS))
            job = self._jobs.pop(event.window.key)
            self._work.finish(job, event.error, event.warnings)
            if self._in_order:
                self._look_at_next(job, event)
            self._finished += 1
            self._window_ended.set()
        self._emit(event)

    def _look_at_next(self, job: Job, event: WindowDone) -> None:
        """Caption the next window of the film again if it had another text of this one before."""
        key = self._work.next_key(job)
        if key is not None and key in self._windows:
            self._before[key] = event.captions[-1].text if event.error is None else None
            self._work.reopen_next(job, self._key_of(self._windows[key]))

    def _emit(self, event: Event | RunEnded) -> None:
        for callback in list(self._callbacks):
            self._call(callback, event)

    def _call(self, callback: Callable[[Event | RunEnded], None], event: Event | RunEnded) -> None:
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
            try:
                await asyncio.to_thread(renew)
            except StoreError as error:
                # Try again: the lease outlives several tries.
                logger.warning("a lease could not be renewed: %s", error)

    renewing = asyncio.create_task(again())
    try:
        yield
    finally:
        renewing.cancel()
