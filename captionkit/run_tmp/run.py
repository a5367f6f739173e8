"""Run: one recipe on some windows, as it fills up and ever after.

A run lives in the store; while its session works on it, it also has progress, callbacks and a way to
cancel. Imports store, compare and checks; called by sessions, widgets and the command line.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import CancelledError, Future, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import pandas as pd

from captionkit import structured
from captionkit.review import checks
from captionkit.review import comparison
from captionkit.display import html as display
from captionkit.export import export_run
from captionkit.recipe import Recipe
from captionkit.store import DEFAULT_PATH, Store

logger = logging.getLogger(__name__)

COLUMNS = (
    "run", "video", "clip", "window", "start_s", "end_s", "stage", "prompt", "text", "finish_reason",
    "prompt_tokens", "output_tokens", "cached_tokens", "queue_s", "first_token_s", "seconds", "error",
    "rating", "edited_text",
)  # fmt: skip
_CAPTIONS = """
SELECT jobs.run, video, clip, number, start_s, end_s,
    coalesce(stage, 1), prompt_text, text, finish_reason, prompt_tokens, output_tokens, cached_tokens,
    queue_s, first_token_s, seconds, NULL, rating, edited_text, jobs.repeat, jobs.position
FROM jobs JOIN windows ON windows.key = jobs.window_key JOIN captions ON captions.result = jobs.result
WHERE jobs.run = :run
UNION ALL
SELECT jobs.run, video, clip, number, start_s, end_s,
    1 + (SELECT count(*) FROM captions WHERE captions.result = jobs.result), NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, error, NULL, NULL, jobs.repeat, jobs.position
FROM jobs JOIN windows ON windows.key = jobs.window_key JOIN results ON results.id = jobs.result
WHERE jobs.run = :run AND error IS NOT NULL
ORDER BY 20, 21, 7
"""
_RATINGS = range(1, 6)


@dataclass(frozen=True)
class RunEvent:
    """What happened in a run.

    ``text``: the text so far of a stage that grows; ``caption``: a stage is done and stored;
    ``window``: a window is done, or failed with ``error``; ``end``: the run stands still.
    """

    kind: Literal["text", "caption", "window", "end"]
    video: str = ""
    window: int = -1
    stage: int = 0
    text: str = ""
    error: str | None = None


@dataclass(frozen=True)
class Progress:
    """How far a run is; ``windows_per_s`` counts the windows of its current work."""

    done: int
    failed: int
    total: int
    windows_per_s: float

    def __str__(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        rate = f", {self.windows_per_s:.1f} windows/s" if self.windows_per_s else ""
        return f"{self.done} of {self.total} windows captioned{failed}{rate}"


class Worker(Protocol):
    """What can go on with a run: a `session.Session`."""

    def work_on(self, run: Run, batch_size: int | None = None) -> None:
        """Caption what waits; return at once."""

    def thumbnails(self, video: str, window: int) -> bytes | None:
        """A small JPEG of a window."""


class Run:
    """One recipe on some windows.

    `Session.caption` and `Session.start` make one, `open_run` opens one of earlier.

    Parameters
    ----------
    store, id
        Where it is kept.
    session
        What can work on it; None for a run that is only looked at.
    """

    def __init__(self, store: Store, id: int, session: Worker | None = None) -> None:  # noqa: A002
        self.recipe: Recipe = store.recipe(id)
        self.id = id
        self.store = store
        self._session = session
        self._callbacks: list[Callable[[RunEvent], None]] = []
        self._work: Future[None] | None = None
        self._lock = threading.Lock()
        self._stop: Callable[[], object] | None = None
        self._begun = 0.0
        self._worked = 0
        ((self.repeats,),) = store.rows("SELECT repeats FROM runs WHERE id = ?", (id,))
        jobs = store.jobs(id)
        self._total = len(jobs)
        self._done = sum(job.done and job.error is None for job in jobs)
        self._failed = sum(job.error is not None for job in jobs)

    def __repr__(self) -> str:
        return f"<Run {self.id}: {self.recipe.variant}, {self.status}, {self.progress}>"

    @property
    def status(self) -> str:
        """``running``, ``done``, ``failed`` (a part or all of it) or ``interrupted``."""
        if self._work is not None and not self._work.done():
            return "running"
        if self._done + self._failed < self._total:
            return "interrupted"
        return "failed" if self._failed else "done"

    @property
    def progress(self) -> Progress:
        """How far it is."""
        spent = time.monotonic() - self._begun if self._begun else 0.0
        return Progress(self._done, self._failed, self._total, self._worked / spent if spent else 0.0)

    def add_callback(self, callback: Callable[[RunEvent], None]) -> None:
        """Have a function told what happens, in another thread; it should return at once."""
        self._callbacks.append(callback)

    def wait(self, timeout_s: float | None = None) -> Run:
        """Wait until it stands still; gives the run.

        An interrupt (Ctrl-C, a notebook's stop button) cancels it; what is done stays.

        Raises
        ------
        TimeoutError
            It still runs after ``timeout_s``, and goes on.
        EngineError, WeightsError, ValueError
            It could not begin.
        """
        if self._work is None:
            return self
        try:
            self._work.result(timeout_s)
        except CancelledError:
            pass
        except FutureTimeoutError:
            if self._work.done():
                raise
            raise TimeoutError(f"run {self.id} still runs: {self.progress}") from None
        except KeyboardInterrupt:
            self.cancel()
            raise
        return self

    def cancel(self) -> Run:
        """Stop it and wait until it stands still; what is done stays, `resume` goes on."""
        if self._work is not None:
            with self._lock:
                self._cancelled = True
                if self._stop is not None:
                    self._stop()
            self._stopped.wait()
            wait([self._work])
        return self

    def resume(self) -> Run:
        """Go on with the windows that wait; returns at once."""
        if self._session is None:
            raise ValueError(f"run {self.id} has no session to run in; use Session.open({self.id})")
        self._session.work_on(self)
        return self

    def retry_failed(self) -> Run:
        """Try the failed windows again, and only them; returns when they are done."""
        self._failed -= self.store.forget_failures(self.id)
        return self.resume().wait()

    async def __aiter__(self) -> AsyncIterator[RunEvent]:
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[RunEvent] = asyncio.Queue()

        def forward(event: RunEvent) -> None:
            if event.kind in ("window", "end"):
                loop.call_soon_threadsafe(events.put_nowait, event)

        self.add_callback(forward)
        try:
            while self.status == "running" or not events.empty():
                event = await events.get()
                if event.kind == "end":
                    return
                yield event
        finally:
            self._callbacks.remove(forward)

    def begin(self, work: Callable[[], Future[None]]) -> None:
        """Take up work that a session does; for sessions."""
        with self._lock:
            if self.status == "running":
                raise ValueError(f"run {self.id} is running already; wait for it or cancel it")
            self._begun, self._worked = time.monotonic(), 0
            self._stopped, self._cancelled, self._stop = threading.Event(), False, None
            self._work = work()

    def begun(self) -> None:
        """Say that the work has begun, in its own task; for sessions.

        Work is cancelled from here on only: a task that is cancelled before its first step would
        never tell its end.
        """
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        with self._lock:
            if self._cancelled:
                raise asyncio.CancelledError
            self._stop = lambda: loop.call_soon_threadsafe(task.cancel)

    def tell(self, event: RunEvent) -> None:
        """Pass on what happened; for sessions."""
        if event.kind == "window":
            self._worked += 1
            self._done += event.error is None
            self._failed += event.error is not None
        elif event.kind == "end":
            self.store.add_busy_time(self.id, time.monotonic() - self._begun)
            self._stopped.set()
        for callback in list(self._callbacks):
            try:
                callback(event)
            except Exception:
                logger.exception("a callback of run %d failed", self.id)

    @property
    def captions(self) -> pd.DataFrame:
        """One row a window and stage, in the order of the windows; see `COLUMNS`.

        A failed window has a row with its ``error``; one that waits has none. Runs with repeats have
        a column ``repeat`` more.
        """
        rows = self.store.rows(_CAPTIONS, {"run": self.id})
        table = pd.DataFrame.from_records(rows, columns=[*COLUMNS, "repeat", "position"])
        whole = ("stage", "prompt_tokens", "output_tokens", "cached_tokens", "rating")
        table = table.astype(dict.fromkeys(whole, "Int64"))
        return table.drop(columns="position" if self.repeats > 1 else ["repeat", "position"])

    @property
    def final(self) -> pd.DataFrame:
        """One row a window: its last stage."""
        table = self.captions
        keys = [name for name in ("repeat", "clip", "window") if name in table]
        return table.drop_duplicates(keys, keep="last").reset_index(drop=True)

    @property
    def checks(self) -> pd.DataFrame:
        """`captions` with a column for each check of `checks.CHECKS`."""
        table = self.captions
        return table.join(checks.check_table(table, schema=self.recipe.schema))

    @property
    def structured(self) -> pd.DataFrame:
        """`captions` as columns, where the recipe has a schema: one a property, and ``invalid``.

        ``invalid`` says what is wrong with a text that is no JSON or does not fit.

        Raises
        ------
        ValueError
            The recipe has no schema.
        """
        if self.recipe.schema is None:
            raise ValueError(
                f"run {self.id} has captions of free text; caption with schema= for columns"
            )
        table = self.captions
        names = ["video", "window", "start_s", "end_s", "stage", "finish_reason", "error"]
        return table[names].join(structured.table(table["text"], self.recipe.schema))

    def compare_stages(self) -> comparison.Comparison:
        """Stage 1 against stage 2, window by window.

        Raises
        ------
        ValueError
            The recipe has one stage.
        """
        if self.recipe.stage2_prompt is None:
            raise ValueError(f"run {self.id} has one stage; caption with stage2= to compare two")
        table = self.captions
        first, second = (table[table["stage"] == stage] for stage in (1, 2))
        return comparison.compare_tables(first, second, ("stage 1", "stage 2"), self.thumbnails)

    def stability(self) -> pd.DataFrame:
        """How alike the repeats of each window are: share of equal pairs, mean word overlap."""
        if self.repeats < 2:
            raise ValueError(f"run {self.id} has one caption a window; caption with repeats=3")
        return comparison.stability(self.final)

    def rate(
        self, video: str, window: int, rating: int | None, *, stage: int | None = None, repeat: int = 0
    ) -> None:
        """Rate a caption from 1 to 5; None takes a rating back, no stage means the last one."""
        if rating is not None and rating not in _RATINGS:
            raise ValueError(f"the rating is {rating!r}; give 1 to 5, or None for none")
        self._annotate(video, window, stage, repeat, rating=rating)

    def edit(
        self, video: str, window: int, text: str | None, *, stage: int | None = None, repeat: int = 0
    ) -> None:
        """Set a better text beside a caption; None takes it back."""
        self._annotate(video, window, stage, repeat, edited_text=text)

    def remark(
        self, video: str, window: int, text: str | None, *, stage: int | None = None, repeat: int = 0
    ) -> None:
        """Set the note of a caption; None takes it back."""
        self._annotate(video, window, stage, repeat, note=text)

    def _annotate(self, video: str, window: int, stage: int | None, repeat: int, **values: Any) -> None:
        stage = stage or (1 if self.recipe.stage2_prompt is None else 2)
        found = self.store.rows(
            "SELECT position FROM jobs JOIN windows ON key = window_key WHERE run = ? AND repeat = ? "
            "AND video = ? AND number = ?",
            (self.id, repeat, video, window),
        )
        if not found:
            raise KeyError(f"run {self.id} has no window {window} of {video!r}")
        self.store.annotate(self.id, found[0][0], stage, repeat, **values)

    def note(self, text: str) -> None:
        """Set the run's note, shown by `runs`."""
        self.store.note_run(self.id, text)

    def delete(self) -> None:
        """Delete it from the store, with the captions that no other run shows."""
        self.cancel()
        self.store.delete(self.id)

    def export(self, path: str | Path, format: str | None = None, **options: Any) -> Path:  # noqa: A002
        """Write captions to a file or folder; see `export.export_run` for formats and options."""
        return export_run(self, path, format, **options)

    def thumbnails(self, video: str, window: int) -> bytes | None:
        """A small JPEG of a window's middle frame; None where there is no session to read it."""
        return self._session.thumbnails(video, window) if self._session else None

    def _repr_html_(self) -> str:
        two = self.recipe.stage2_prompt is not None
        said = f"run {self.id}: {self.recipe.variant}, {self.status}, {self.progress}"
        return display.run_html(self.captions, self.thumbnails, two_stages=two, said=said)


def open_store(store: Store | str | Path | None) -> Store:
    """A store by its path; None takes the project's own, ``.captionkit/runs.sqlite``."""
    return store if isinstance(store, Store) else Store(store or DEFAULT_PATH)
