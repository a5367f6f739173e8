"""Again: captions of a board that failed or have a fault, tried once more."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable

import pandas as pd

from captionkit.engine import EngineError
from captionkit.recipe import Recipe
from captionkit.run import Run, RunTask, reroll_recipe
from captionkit.session import Session
from captionkit.store import StoreError
from captionkit.widgets.job_thread import JobThread
from captionkit.widgets.rows import Rows


class Again:
    """The part of a board that captions windows again."""

    session: Session
    windows: Rows
    batch_size: Callable[[], int]
    work: JobThread
    long: JobThread
    report: Callable[[str, str], None]
    refresh: Callable[[Iterable[int]], None]
    faulty: Callable[[Iterable[int]], list[int]]
    table: Callable[[Iterable[int]], pd.DataFrame]
    _follow: Callable[[RunTask, float, list[int], str], None]

    #: How the last re-roll ended, in words.
    rerolled = ""

    def retry_failed(self, indexes: Iterable[int], view: str = "browser") -> int:
        """Begin to caption failed windows among some again, each in its run; return their number."""
        by_run: dict[int, list[int]] = {}
        for index in indexes:
            row = self.windows[index]
            if row.state == "failed" and row.run is not None:
                by_run.setdefault(row.run, []).append(index)
        for run, some in by_run.items():
            self.work.submit(("retry", run), functools.partial(self._retry, run, some, view))
        return sum(map(len, by_run.values()))

    def _retry(self, number: int, indexes: list[int], view: str) -> None:
        started, store = time.monotonic(), self.session.store
        store.forget_failures(number, [self.windows[index].window.key for index in indexes])
        try:
            run = Run(store, number, self.session)
            self._follow(self.session.work_on(run, self.batch_size()), started, indexes, view)
        except (ValueError, StoreError) as error:
            self.report(str(error), view)

    def reroll(self, indexes: Iterable[int], times: int = 3, view: str = "browser") -> int:
        """Begin to caption the faulty ones of some windows anew until they pass, ``times`` at most.

        Each try is a run of its own with another seed (see `run.reroll_recipe`): the store keeps both
        texts. Returns the number of faulty captions at once; `rerolled` says how it ended.
        """
        if times < 1:
            raise ValueError(f"a re-roll of {times} tries makes none; give 1 or more")
        left = self.faulty(indexes)
        self.rerolled = ""
        if left:
            self.long.submit("reroll", lambda: self._reroll(left, times, view))
        return len(left)

    def _reroll(self, indexes: list[int], times: int, view: str) -> None:
        by_run: dict[int, list[int]] = {}
        for index in indexes:
            by_run.setdefault(self.windows[index].run or 0, []).append(index)
        store, left, tries = self.session.store, list(indexes), 0
        recipes = {run: store.facts(run).recipe for run in by_run}
        try:
            for tries in range(1, times + 1):
                for run, some in by_run.items():
                    if again := [index for index in some if index in left]:
                        self._try_again(run, again, reroll_recipe(recipes[run], tries), tries, view)
                if not (left := self.faulty(left)):
                    break
        except (ValueError, StoreError, EngineError) as error:
            self.report(str(error), view)
        passed = len(indexes) - len(left)
        times_said = "once" if tries == 1 else f"{tries} times"
        self.rerolled = f"{passed} of {len(indexes)} captions pass, tried {times_said}"
        self.refresh(indexes)

    def _try_again(self, run: int, indexes: list[int], recipe: Recipe, number: int, view: str) -> None:
        started = time.monotonic()
        task = self.session.start(
            recipe=recipe, windows=self.table(indexes), batch_size=self.batch_size(), fresh=True
        )
        self.session.store.note_run(task.run.id, f"re-roll {number} of run {run}")
        self._follow(task, started, indexes, view)
        if task.wait().status == "interrupted":
            raise ValueError(f"run {task.run.id} was stopped; the windows left show their earlier text")
        self.refresh(indexes)
