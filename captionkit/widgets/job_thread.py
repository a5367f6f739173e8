"""JobThread: does what must not hold up a widget's callback."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

logger = logging.getLogger(__name__)


@dataclass
class _Job:
    due: float
    work: Callable[[], None]


class JobThread:
    """A daemon thread that does named jobs one after another; it starts with the first.

    A job replaces a waiting one of the same name: of many requests for pictures that a person scrolls
    past, the last one counts.

    Parameters
    ----------
    name
        Of the thread.
    on_error
        Called with what a job raises; it should show that where a person looks.
    """

    def __init__(self, name: str, on_error: Callable[[Exception], None]) -> None:
        self._name = name
        self._on_error = on_error
        self._waiting: dict[Hashable, _Job] = {}
        self._ready = threading.Condition()
        self._thread: threading.Thread | None = None
        self._busy = False
        self._closed = False

    def submit(
        self, name: Hashable, work: Callable[[], None], *, delay_s: float = 0.0, first: bool = False
    ) -> None:
        """Queue a job and return at once.

        ``delay_s`` bounds how often a job is done: it begins that long after the first of the
        submissions that it replaces. ``first`` puts it before all waiting jobs.
        """
        with self._ready:
            if self._closed:
                return
            kept = self._waiting.get(name)
            due = 0.0 if first else kept.due if kept else time.monotonic() + delay_s
            self._waiting[name] = _Job(due, work)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._ready.notify_all()

    def submit_unless_waiting(self, name: Hashable, work: Callable[[], None]) -> None:
        """Queue a job, unless a newer one of its name waits already."""
        with self._ready:
            if name not in self._waiting:
                self.submit(name, work)

    def _run(self) -> None:
        while (work := self._next()) is not None:
            try:
                work()
            except Exception as error:
                logger.exception("a job of %s failed", self._name)
                self._on_error(error)

    def _next(self) -> Callable[[], None] | None:
        with self._ready:
            self._busy = False
            self._ready.notify_all()
            while not self._closed:
                if self._waiting:
                    name = min(self._waiting, key=lambda each: self._waiting[each].due)
                    wait = self._waiting[name].due - time.monotonic()
                    if wait <= 0:
                        self._busy = True
                        return self._waiting.pop(name).work
                    self._ready.wait(wait)
                else:
                    self._ready.wait()
            return None

    def join(self, timeout_s: float) -> bool:
        """Wait until nothing is left to do; False where that takes longer than ``timeout_s``."""
        with self._ready:
            return self._ready.wait_for(lambda: not self._waiting and not self._busy, timeout_s)

    def close(self) -> None:
        """Drop waiting jobs and end the thread; wait for the current job, unless it is the caller."""
        with self._ready:
            self._closed = True
            self._waiting.clear()
            self._ready.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=10)
