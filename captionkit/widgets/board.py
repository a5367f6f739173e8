"""Board: what the views of one workbench share: the session, its windows, and the runs under way.

Runs happen in captionkit's own loop and slow work in job threads; listeners get a `Change` at most ten
times a second.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable

import pandas as pd

from captionkit.pipeline import Event, TextGrew
from captionkit.recipe import Recipe
from captionkit.run import Run, RunEnded, RunTask
from captionkit.session import Session
from captionkit.sources import Cut, windows_table
from captionkit.store import StoreError
from captionkit.widgets.again import Again
from captionkit.widgets.change import Change, Work
from captionkit.widgets.clips import Clips
from captionkit.widgets.job_thread import JobThread
from captionkit.widgets.rates import Rates
from captionkit.widgets.reviewed import Reviewed
from captionkit.widgets.rows import Row, Rows, load_stored
from captionkit.widgets.verified import Verified

EVERY_S = 0.1
# A list of 100,000 windows takes tens of milliseconds to filter: show growth less often.
_GROW_EVERY_S = 0.5
_BEAT_S = 0.5


class Board(Reviewed, Again, Verified):
    """A session with a row for each of its windows, kept up to date while runs are under way.

    Parameters
    ----------
    session
        Videos, model and store.
    owned
        Whether closing the board closes the session.
    """

    def __init__(self, session: Session, *, owned: bool = False) -> None:
        self.session = self._given = session
        self._owned = owned
        self.closed = False
        #: What went wrong, by the view that shows it: ``browser``, ``tuner``, ….
        self.problems: dict[str, str] = {}
        # What Enter in the browser captions with; a tuner puts its own in.
        self.recipe: Callable[[], Recipe] = lambda: self.session.recipe
        self.batch_size: Callable[[], int] = lambda: self.session.batch_size
        #: The run whose captions are shown; None shows each window's newest, `BEST` its best rated.
        self.shown_run: int | None = None
        self.task: RunTask | None = None  # of the last run
        self.reads = JobThread("captionkit-reads", self._on_error)
        self.work = JobThread("captionkit-work", self._on_error)
        self.long = JobThread("captionkit-long", self._on_error)
        self._ticks = JobThread("captionkit-ticks", self._on_error)
        self._lock = threading.Lock()
        self._listeners: list[Callable[[Change], None]] = []
        self._changed: set[int] = set()
        self._to_load: set[int] = set()
        self._ended = False
        self._active: dict[int, RunTask] = {}
        # Numbers of requests that wait for their start; a stop takes them back.
        self._requested: set[int] = set()
        self._numbers = itertools.count()
        self.rates = Rates()
        self._clips = Clips()
        self._load_windows()

    def _load_windows(self) -> None:
        #: Rows of the windows that are opened so far, in the session's order.
        self.windows = Rows()
        self._take_opened()
        self.session.sources.listen(self._on_opened)
        if self.opening:
            # Show it before the next video is opened, which may take long.
            self._on_opened()

    def _take_opened(self) -> None:
        """Append the windows that were opened since the last look."""
        with self._lock:
            new = [Row(each) for each in self.session.sources.ready[len(self.windows) :]]
            load_stored(self.session.store, new)
            self.windows.add(new)

    def _on_opened(self) -> None:
        self._ticks.submit("grow", self._grow, delay_s=_GROW_EVERY_S)

    def _grow(self) -> None:
        self._take_opened()
        self.emit(Change(frozenset(), grown=True))

    @property
    def opening(self) -> bool:
        """Whether videos are still opened."""
        return not self.session.opening.ended

    def index_of(self, video: str, number: int) -> int:
        """The index of a window in `windows`.

        Raises
        ------
        KeyError
            The session has no such window.
        """
        return self.windows.index_of(video, number)

    def listen(self, listener: Callable[[Change], None]) -> None:
        """Call a function with each change, from a thread."""
        self._listeners.append(listener)

    def forget(self, listener: Callable[[Change], None]) -> None:
        """Call a function no more."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def report(self, problem: str, view: str = "browser") -> None:
        """Show a problem in a view, in words to act on; an empty text takes it back."""
        self.problems[view] = problem
        self._tick()

    def _on_error(self, error: Exception) -> None:
        self.report(str(error) or type(error).__name__)

    @property
    def busy(self) -> bool:
        """Whether a run or a verification is under way."""
        with self._lock:
            return bool(self._active or self._requested or self.asking)

    @property
    def run(self) -> Run | None:
        """The last run."""
        return None if self.task is None else self.task.run

    @property
    def active(self) -> list[RunTask]:
        """Runs under way."""
        with self._lock:
            return list(self._active.values())

    def caption(
        self,
        indexes: Iterable[int],
        recipe: Recipe,
        *,
        batch_size: int,
        priority: int = 0,
        fresh: bool = False,
        repeats: int = 1,
        view: str = "browser",
    ) -> None:
        """Begin to caption some windows; returns at once, problems show in the ``view`` that asked."""
        some = list(indexes)
        number = next(self._numbers)
        with self._lock:
            self._requested.add(number)

        def start() -> None:
            if number in self._requested:
                try:
                    self._start(some, recipe, batch_size, priority, fresh, repeats, view)
                finally:
                    self._requested.discard(number)
                    self._tick()

        self.report("", view)
        self.work.submit(("caption", number), start)

    def table(self, indexes: Iterable[int]) -> pd.DataFrame:
        """Make a table of some windows, as `Session.windows` has them."""
        return windows_table([self.windows[index].window for index in indexes], {})

    def _start(
        self,
        indexes: list[int],
        recipe: Recipe,
        batch_size: int,
        priority: int,
        fresh: bool,
        repeats: int,
        view: str,
    ) -> None:
        started = time.monotonic()
        try:
            task = self.session.start(
                recipe=recipe,
                windows=self.table(indexes),
                batch_size=batch_size,
                priority=priority,
                fresh=fresh,
                repeats=repeats,
            )
        except (ValueError, StoreError) as error:
            self.report(str(error), view)
            return
        self._follow(task, started, indexes, view)

    def _follow(self, task: RunTask, started: float, indexes: list[int], view: str) -> None:
        """Show the work on a run under way at its windows."""
        self.task, run = task, task.run
        with self._lock:
            self._active[run.id] = task
            for index in indexes:
                self.windows[index].wanted = run.id
        if self.shown_run is not None:
            self.show_run(None)
        work = Work(task, started, len(indexes) - task.progress.done, view)
        task.add_callback(lambda event: self._on_event(work, event))
        # Load what the store had already, and what happened before the callback was there.
        self.refresh(indexes)
        self._beat(task)

    def show_run(self, run: int | None) -> None:
        """Show a run's captions of all windows, or each window's newest; a new run shows itself."""
        with self._lock:
            self.shown_run = run
            for row in self.windows:
                if row.wanted not in self._active:
                    row.wanted = run
        self.work.submit("show", lambda: self.refresh(range(len(self.windows))))

    def _beat(self, task: RunTask) -> None:
        """Tell listeners how long an engine has been starting; no event does."""
        if task.running and not task.captioning and self.session.backend is None:
            self._ticks.submit(("beat", task.run.id), lambda: self._beat(task), delay_s=_BEAT_S)
            self._tick()

    def _on_event(self, work: Work, event: Event | RunEnded) -> None:
        run = work.task.run
        if isinstance(event, RunEnded):
            self.work.submit(("end", run.id), lambda: self._end(work))
            return
        index = self.windows.by_key.get(event.window.key)
        if index is None:
            return
        row = self.windows[index]
        with self._lock:
            if row.wanted != run.id:
                return
            self._changed.add(index)
            if isinstance(event, TextGrew):
                row.state, row.text, row.stage, row.run = "running", event.text, event.stage, run.id
            else:
                self._to_load.add(index)
        self._tick()

    def _load(self, indexes: Iterable[int]) -> None:
        """Read some windows' captions from the store."""
        some = set(indexes)
        with self._lock:
            load_stored(self.session.store, [self.windows[index] for index in some])
            for index in some:
                row = self.windows[index]
                if row.wanted in self._active and row.state in ("new", "waiting"):
                    # With a text, stage 1 is stored and stage 2 is on its way.
                    row.state = "running" if row.text else "waiting"
            self._changed |= some

    def _end(self, work: Work) -> None:
        run = work.task.run
        try:
            work.task.wait(30)
        except Exception as error:
            self.report(str(error) or type(error).__name__, work.view)
            # Leave no run behind where nothing was captioned, as of an engine that cannot start.
            run.store.delete_untouched(run.id)
        with self._lock:
            self._active.pop(run.id, None)
            if run.status == "deleted" and self.task is work.task:
                self.task = None
            left = [
                index
                for index, row in enumerate(self.windows)
                if row.wanted == run.id and row.state in ("waiting", "running")
            ]
            for index in left:
                # Show again what the window had before.
                self.windows[index].wanted = None
            self._ended = True
        self._load(left)
        self.rates.take(work, self.windows)
        self._tick()

    def stop(self) -> None:
        """Stop all runs, or else the opening; returns at once, what is done stays."""
        if not self.busy:
            self.session.stop_opening()
        with self._lock:
            self._requested.clear()
        self.work.submit("stop", self._stop, first=True)
        self._tick()

    def _stop(self) -> None:
        with self._lock:
            active = list(self._active.values())
        for task in active:
            task.cancel()
        self.stop_asking()

    def clip(self, index: int) -> bytes:
        """A window as a small mp4 file; the last ones are kept. Slow, for a job thread."""
        return self._clips.get(index, lambda: self.session.clip(*self.windows[index].name))

    def refresh(self, indexes: Iterable[int]) -> None:
        """Show what the store holds of some windows by now."""
        self._load(indexes)
        self._tick()

    def recut(self, window_size: int | None, cut: Cut, window_seconds: float | None = None) -> None:
        """Cut the videos into windows of another length or rule; slow, for a job thread."""
        self._take_session(self.session.recut(window_size, cut, window_seconds))

    def look_again(self) -> None:
        """Begin to open replaced and new files of the source; returns at once."""
        if self.busy:
            self.report("captions are under way; stop them before the files are looked at again")
            return
        self.report("")
        self.long.submit("look again", lambda: self._take_session(self.session.look_again()))

    def _take_session(self, session: Session) -> None:
        before, self.session = self.session, session
        before.sources.forget(self._on_opened)
        if self._owned or before is not self._given:
            before.sources.close()
        self.rates.forget_windows()
        self._clips.clear()
        self._load_windows()
        self.emit(Change(frozenset(range(len(self.windows))), recut=True))

    def _tick(self) -> None:
        self._ticks.submit("tick", self._flush, delay_s=EVERY_S)

    def _flush(self) -> None:
        with self._lock:
            load, self._to_load = self._to_load, set()
        if load:
            self._load(load)
        with self._lock:
            indexes, self._changed = frozenset(self._changed), set()
            ended, self._ended = self._ended, False
        self.emit(Change(indexes, ended=ended))

    def emit(self, change: Change) -> None:
        """Tell all listeners of a change."""
        for listener in list(self._listeners):
            listener(change)

    def idle(self, timeout_s: float = 60.0) -> bool:
        """Wait until no run and no job is under way; False where that takes longer."""
        until = time.monotonic() + timeout_s
        # Join the ticks last: a change may give the others new work, which the second look finds.
        threads = (self.reads, self.work, self.long, self._ticks)
        while time.monotonic() < until:
            for thread in threads:
                thread.join(max(0.0, until - time.monotonic()))
            if not (self.busy or self.opening) and all(thread.join(0) for thread in threads):
                return True
            time.sleep(EVERY_S / 2)
        return False

    def close(self) -> None:
        """Stop the runs and end the threads; the engine stays for other sessions."""
        if self.closed:
            return
        self.closed = True
        self._listeners.clear()
        self.session.sources.forget(self._on_opened)
        with self._lock:
            active = list(self._active.values())
        for task in active:
            task.cancel()
        self.stop_asking()
        for thread in (self.reads, self.work, self.long, self._ticks):
            thread.close()
        if self._owned:
            self.session.close()
        elif self.session is not self._given:
            self.session.sources.close()
