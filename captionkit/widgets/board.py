"""Board: what the widgets of one workbench share: the session, its rows, and the runs under way.

Runs happen in captionkit's own loop and slow work in worker threads; listeners are told what changed
at most ten times a second. Imports sessions and rows; called by all widgets.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from captionkit.engine.client import Engine
from captionkit.recipe import Recipe
from captionkit.runs.run import Run, RunEvent
from captionkit.session import Session
from captionkit.store import StoreError
from captionkit.widgets.rows import Row, Rows
from captionkit.widgets.job_thread import Worker

EVERY_S = 0.1
_MOST_CLIP_BYTES = 32 << 20


@dataclass(frozen=True)
class Change:
    """What listeners are told: ``places`` changed, ``ended`` runs stand still, ``recut`` all is new."""

    places: frozenset[int]
    ended: bool = False
    recut: bool = False


@dataclass(frozen=True)
class _Work:
    """A run under way: when it began, for how many windows, and which view asked for it."""

    run: Run
    recipe: Recipe
    begun: float
    waiting: int
    where: str


class Board:
    """See the module.

    Parameters
    ----------
    session
        Videos, model and store.
    owned
        Whether closing the board closes the session.
    """

    def __init__(self, session: Session, *, owned: bool = False) -> None:
        self.session = session
        self._owned = owned
        self.closed = False
        #: What went wrong, by the view that shows it: ``browser``, ``tuner``, ….
        self.problems: dict[str, str] = {}
        # What Enter in the browser captions with; a tuner puts its own in.
        self.recipe: Callable[[], Recipe] = lambda: self.session.recipe
        self.batch_size: Callable[[], int] = lambda: self.session.batch_size
        self.run: Run | None = None
        self.reads = Worker("captionkit-reads", self._on_error)
        self.work = Worker("captionkit-work", self._on_error)
        self.long = Worker("captionkit-long", self._on_error)
        self._ticks = Worker("captionkit-ticks", self._on_error)
        self._lock = threading.Lock()
        self._listeners: list[Callable[[Change], None]] = []
        self._changed: set[int] = set()
        self._to_load: set[int] = set()
        self._ended = False
        self._active: dict[int, Run] = {}
        # What was asked for and has not begun; a stop takes it back.
        self._asked: set[int] = set()
        self._numbers = itertools.count()
        # What each engine has seen, to tell what a change will cost.
        self._seen: dict[tuple[int, object], set[int]] = {}
        self.measured: dict[str, float] = {}
        self._clips: dict[tuple[str, int], bytes] = {}
        self._begin_rows()

    def _begin_rows(self) -> None:
        self.rows = Rows([Row(each) for each in self.session.sources.windows])
        self.rows.load(self.session.store, range(len(self.rows.rows)))

    def listen(self, listener: Callable[[Change], None]) -> None:
        """Have a function told of changes, from a thread."""
        self._listeners.append(listener)

    def forget(self, listener: Callable[[Change], None]) -> None:
        """Tell a function no more."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def say(self, problem: str, where: str = "browser") -> None:
        """Show a problem in a view, in words to act on; an empty text takes it back."""
        self.problems[where] = problem
        self._tick()

    def _on_error(self, error: Exception) -> None:
        self.say(str(error) or type(error).__name__)

    @property
    def busy(self) -> bool:
        """Whether a run is under way."""
        with self._lock:
            return bool(self._active or self._asked)

    @property
    def status(self) -> str:
        """One line on how far the runs are."""
        with self._lock:
            active = list(self._active.values())
        if not active:
            return (
                "" if self.run is None else f"Run {self.run.id} {self.run.status}: {self.run.progress}"
            )
        if not any(run.progress.done + run.progress.failed for run in active) and not (
            Engine.live() or self.session.endpoint
        ):
            return f"Run {active[-1].id}: the engine starts…"
        return "; ".join(f"Run {run.id}: {run.progress}" for run in active)

    def caption(
        self,
        places: Iterable[int],
        recipe: Recipe,
        *,
        batch_size: int,
        priority: int = 0,
        fresh: bool = False,
        where: str = "browser",
    ) -> None:
        """Begin to caption some windows; returns at once, listeners see them fill up.

        What goes wrong is told by the view ``where`` it was asked for.
        """
        some = list(places)
        number = next(self._numbers)
        with self._lock:
            self._asked.add(number)

        def start() -> None:
            if number in self._asked:
                try:
                    self._start(some, recipe, batch_size, priority, fresh, where)
                finally:
                    self._asked.discard(number)
                    self._tick()

        self.say("", where)
        self.work.submit(("caption", number), start)

    def _start(
        self,
        places: list[int],
        recipe: Recipe,
        batch_size: int,
        priority: int,
        fresh: bool,
        where: str,
    ) -> None:
        begun = time.monotonic()
        try:
            run = self.session.start(
                recipe=recipe,
                windows=self.session.windows.iloc[places],
                batch_size=batch_size,
                priority=priority,
                fresh=fresh,
            )
        except (ValueError, StoreError) as error:
            self.say(str(error), where)
            return
        self.run = run
        with self._lock:
            self._active[run.id] = run
            for place in places:
                self.rows.rows[place].wanted = run.id
        waiting = len(places) - run.progress.done
        work = _Work(run, recipe, begun, waiting, where)
        run.add_callback(lambda event: self._on_event(work, event))
        # What the store had already, and what happened before the callback was there.
        self.refresh(places)
        if run.status != "running":
            self._end(work)

    def _on_event(self, work: _Work, event: RunEvent) -> None:
        run = work.run
        if event.kind == "end":
            self.work.submit(("end", run.id), lambda: self._end(work))
            return
        place = self.rows.by_name.get((event.video, event.window))
        if place is None:
            return
        row = self.rows.rows[place]
        with self._lock:
            if row.wanted != run.id:
                return
            self._changed.add(place)
            if event.kind == "text":
                row.state, row.text, row.stage, row.run = "running", event.text, event.stage, run.id
            else:
                self._to_load.add(place)
        self._tick()

    def _reload(self, places: Iterable[int]) -> None:
        """Read some windows' captions from the store."""
        some = set(places)
        with self._lock:
            self.rows.load(self.session.store, some)
            for place in some:
                row = self.rows.rows[place]
                if row.wanted in self._active and row.state in ("new", "waiting"):
                    # With a text, stage 1 is stored and stage 2 is on its way.
                    row.state = "running" if row.text else "waiting"
            self._changed |= some

    def _end(self, work: _Work) -> None:
        run = work.run
        try:
            run.wait(30)
        except Exception as error:
            self.say(str(error) or type(error).__name__, work.where)
        with self._lock:
            self._active.pop(run.id, None)
            left = [
                place
                for place, row in enumerate(self.rows.rows)
                if row.wanted == run.id and row.state in ("waiting", "running")
            ]
            for place in left:
                # What it had before shows again.
                self.rows.rows[place].wanted = None
            self._ended = True
        self._reload(left)
        self._measure(work)
        self._tick()

    def _measure(self, work: _Work) -> None:
        run = work.run
        engine = Engine.live()
        if engine is None:
            return
        self.measured[f"start {engine.key}"] = engine.info["start_s"]
        seen = self._seen.setdefault((engine.pid, frames_key(work.recipe)), set())
        table = self.session.store.rows(
            "SELECT video, number FROM jobs JOIN windows ON key = jobs.window_key JOIN "
            "results ON results.id = result WHERE run = ? AND done AND error IS NULL",
            (run.id,),
        )
        places = {self.rows.by_name[name] for name in table if name in self.rows.by_name}
        if work.waiting and run.status == "done":
            known = "known" if places <= seen else "cold"
            self.measured[known] = (time.monotonic() - work.begun) / work.waiting
        seen |= places

    def seen(self, recipe: Recipe) -> set[int]:
        """The places whose frames the live engine knows, as this recipe shows them."""
        engine = Engine.live()
        if engine is None:
            return set()
        return self._seen.get((engine.pid, frames_key(recipe)), set())

    def stop(self) -> None:
        """Stop all runs; returns at once, what is done stays."""
        with self._lock:
            self._asked.clear()
        self.work.submit("stop", self._stop, first=True)
        self._tick()

    def _stop(self) -> None:
        with self._lock:
            active = list(self._active.values())
        for run in active:
            run.cancel()

    def clip(self, place: int) -> bytes:
        """A window as a small mp4 file; the last ones are kept. Slow, for a worker."""
        name = self.rows.rows[place].name
        if name not in self._clips:
            self._clips[name] = self.session.clip(*name)
            while sum(map(len, self._clips.values())) > _MOST_CLIP_BYTES and len(self._clips) > 1:
                del self._clips[next(iter(self._clips))]
        return self._clips[name]

    def rate(self, place: int, rating: int | None) -> None:
        """Rate the shown caption of a window, in the store at once."""
        run, row = self._shown(place, "rate")
        run.rate(*row.name, rating, stage=row.stage)
        self.refresh([place])

    def edit(self, place: int, text: str | None) -> None:
        """Set a better text beside the shown caption; None takes it back."""
        run, row = self._shown(place, "edit")
        run.edit(*row.name, text, stage=row.stage)
        self.refresh([place])

    def _shown(self, place: int, purpose: str) -> tuple[Run, Row]:
        row = self.rows.rows[place]
        if row.run is None or not row.text:
            raise ValueError(f"{row.name[0]} {row.name[1]} has no caption to {purpose} yet")
        return Run(self.session.store, row.run), row

    def refresh(self, places: Iterable[int]) -> None:
        """Show what the store holds of some windows by now."""
        self._reload(places)
        self._tick()

    def recut(self, window_size: int) -> None:
        """Cut the videos into windows of another length; slow, for a worker."""
        before = self.session
        self.session = before.recut(window_size)
        if self._owned:
            before.sources.close()
        self._seen.clear()
        self._clips.clear()
        self._begin_rows()
        self._tell(Change(frozenset(range(len(self.rows.rows))), recut=True))

    def _tick(self) -> None:
        self._ticks.submit("tick", self._flush, delay_s=EVERY_S)

    def _flush(self) -> None:
        with self._lock:
            load, self._to_load = self._to_load, set()
        if load:
            self._reload(load)
        with self._lock:
            places, self._changed = frozenset(self._changed), set()
            ended, self._ended = self._ended, False
        self._tell(Change(places, ended=ended))

    def _tell(self, change: Change) -> None:
        for listener in list(self._listeners):
            listener(change)

    def idle(self, timeout_s: float = 60.0) -> bool:
        """Wait until no run and no job is under way; False where that takes longer."""
        until = time.monotonic() + timeout_s
        # The ticks last: what they tell may give the others new work, which the second look finds.
        workers = (self.reads, self.work, self.long, self._ticks)
        while time.monotonic() < until:
            for worker in workers:
                worker.join(max(0.0, until - time.monotonic()))
            if not self.busy and all(worker.join(0) for worker in workers):
                return True
            time.sleep(EVERY_S / 2)
        return False

    def close(self) -> None:
        """Stop the runs and end the threads; the engine stays for other sessions."""
        if self.closed:
            return
        self.closed = True
        self._listeners.clear()
        with self._lock:
            active = list(self._active.values())
        for run in active:
            run.cancel()
        for worker in (self.reads, self.work, self.long, self._ticks):
            worker.close()
        if self._owned:
            self.session.close()


def frames_key(recipe: Recipe) -> tuple[object, ...]:
    """What decides which frames a model sees of a window."""
    return recipe.variant, recipe.sampling_fps, recipe.pixel_budget, recipe.window_size
