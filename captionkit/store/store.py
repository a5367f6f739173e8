"""Runs, captions, ratings and notes; the file has each caption before its event is emitted.

The file is in write-ahead mode: a kernel killed at any moment leaves a sound file with every caption
that was reported as done, and several notebooks may share the file. Times are UTC.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from captionkit.prompts import PREVIOUS
from captionkit.recipe import Recipe
from captionkit.sources import PlannedWindow
from captionkit.store import queries
from captionkit.store.answers import Answers
from captionkit.store.earlier import Kind, adopt, earlier_kinds, runs_without_key
from captionkit.store.file import StoreError, StoreFile, now
from captionkit.store.results import Results
from captionkit.store.reviews import Change, Reviews, add_windows, joined
from captionkit.store.shelf import Shelf
from captionkit.store.texts import chains, take_over_in_order, texts_key
from captionkit.store.view import WindowState, window_states
from captionkit.store.work import Job, Work, drop_dead, lives

__all__ = ["BEST", "DEFAULT_PATH", "RunCounts", "RunFacts", "Store", "StoreError", "open_store"]

DEFAULT_PATH = Path(".captionkit") / "runs.sqlite"
#: Stands for a run in `Store.states`: each window's best-rated caption.
BEST = -1
_AT_ONCE = 500


@dataclass(frozen=True)
class RunFacts:
    """The settings of a run."""

    recipe: Recipe
    repeats: int


@dataclass(frozen=True)
class RunCounts:
    """Counts of a run's windows: all, captioned and failed; ``working`` if a worker has a lease."""

    total: int
    done: int
    failed: int
    working: bool


class Store:
    """A store in one file, which several threads and processes may share.

    Parameters
    ----------
    path
        The SQLite file; created if missing.

    Raises
    ------
    StoreError
        If the folder cannot be written, or the file is damaged, not a store, or of a newer captionkit.
    """

    def __init__(self, path: str | Path = DEFAULT_PATH) -> None:
        self._file = StoreFile(path)
        self._earlier: set[Kind] | None = None
        #: What people say of captions and windows, in steps that can be undone.
        self.reviews = Reviews(self._file)
        #: Captions, failures and facts of runs, as rows.
        self.results = Results(self._file)
        #: What models answered to questions about windows.
        self.answers = Answers(self._file)
        #: Saved prompts, and what a workbench keeps for its next opening.
        self.shelf = Shelf(self._file)

    @property
    def path(self) -> Path:
        """Path of the file."""
        return self._file.path

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def check(self) -> None:
        """Check the whole file for damage.

        Raises
        ------
        StoreError
            If the file is damaged.
        """
        found = self._file.rows("PRAGMA integrity_check")
        if found != [("ok",)]:
            raise StoreError(f"{self.path} is damaged: {found[0][0]}")

    def add_run(
        self,
        recipe: Recipe,
        windows: Sequence[PlannedWindow],
        *,
        repeats: int,
        batch_size: int,
        fresh: bool,
        texts: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    ) -> int:
        """Add a run, or find the run of the same work; return its id.

        Windows that the same recipe has captioned before are done at once, also in a run that is found.
        ``fresh`` always adds a run and takes over nothing. ``texts`` fill in the prompt of each window,
        by its key, for a recipe with `Recipe.texts`; ``previous`` is empty there, and a window of such
        a run waits for the window before in its film.
        """
        keys = {window.key: texts_key(texts.get(window.key, {})) for window in windows}
        key = _run_key(recipe.key, repeats, (window + filled for window, filled in keys.items()))
        with self._file.transaction() as db:
            for number, recipe_key, times, known_keys in runs_without_key(db):
                values = (_run_key(recipe_key, times, known_keys), number)
                db.execute("UPDATE runs SET key = ? WHERE id = ?", values)
            if not fresh:
                known = db.execute(
                    "SELECT id FROM runs WHERE key = ? ORDER BY id DESC", (key,)
                ).fetchone()
                if known:
                    _take_over(db, known[0], recipe, repeats, windows, texts)
                    return int(known[0])
            run = db.execute(
                "INSERT INTO runs (key, recipe, recipe_key, repeats, batch_size, created) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (key, recipe.to_json(), recipe.key, repeats, batch_size, now()),
            ).lastrowid
            assert run is not None
            add_windows(db, windows)
            follows: dict[int, int] = {}
            if PREVIOUS in recipe.texts:
                for film in chains(windows):
                    follows.update(zip(film[1:], film, strict=False))
            db.executemany(
                "INSERT INTO jobs (run, position, repeat, window_key, video, number, texts, follows) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (
                        run, position, repeat, each.key, each.video, each.number, keys[each.key],
                        follows.get(position),
                    )
                    for repeat in range(repeats)
                    for position, each in enumerate(windows)
                ),
            )  # fmt: skip
            if not fresh:
                _take_over(db, run, recipe, repeats, windows, texts)
            return run

    def adopt(self, windows: Sequence[PlannedWindow]) -> None:
        """Give what earlier versions stored of some windows the windows' keys; see `store.earlier`.

        Reads the files of windows that an earlier version may have captioned, no others.
        """
        if self._earlier is None:
            self._earlier = earlier_kinds(self._file)
        if self._earlier:
            adopt(self._file, self._earlier, windows)

    def begin_work(self, run: int) -> Work:
        """Register a worker on a run; see `store.work.Work`."""
        self.facts(run)
        return Work(self._file, run)

    def facts(self, run: int) -> RunFacts:
        """Return the settings of a run.

        Raises
        ------
        KeyError
            If the run does not exist; the message lists the existing runs.
        """
        found = self._file.rows("SELECT recipe, repeats FROM runs WHERE id = ?", (run,))
        if not found:
            there = self._file.rows("SELECT id FROM runs ORDER BY id DESC LIMIT 20")
            listed = ", ".join(str(number) for (number,) in there) or "none"
            raise KeyError(f"{self.path} holds no run {run}; there are: {listed}")
        recipe, repeats = found[0]
        try:
            return RunFacts(Recipe.from_json(recipe), repeats)
        except (ValueError, TypeError) as error:
            raise StoreError(
                f"{self.path}: the recipe of run {run} cannot be read ({error}); other runs can"
            ) from error

    def counts(self, run: int) -> RunCounts:
        """Count a run's windows, including the work of other kernels."""
        states = dict(
            self._file.rows("SELECT state, count(*) FROM jobs WHERE run = ? GROUP BY state", (run,))
        )
        workers = self._file.rows(
            "SELECT place, pid, started, lease FROM workers WHERE run = ?", (run,)
        )
        done, failed = states.get(1, 0), states.get(2, 0)
        working = any(lives(*facts) for facts in workers)
        return RunCounts(sum(states.values()), done, failed, working)

    def jobs(self, run: int) -> list[Job]:
        """Return all jobs of a run, in order."""
        return [
            Job(position, repeat, key, state != 0, error if state == 2 else None)
            for position, repeat, key, state, error in self._file.rows(queries.JOBS, (run,))
        ]

    def forget_failures(self, run: int, keys: Iterable[str] | None = None) -> int:
        """Reopen a run's failed windows, all or some by their keys; return their number."""
        some = [(run, key) for key in keys] if keys is not None else [(run, None)]
        with self._file.transaction() as db:
            return sum(db.execute(queries.REOPEN, each).rowcount for each in some)

    def states(
        self,
        keys: Sequence[str] | None = None,
        run: int | None = None,
        *,
        before: int | None = None,
    ) -> dict[str, WindowState]:
        """Return the state of each window in the newest run with a result, by window key.

        Parameters
        ----------
        keys
            Keys of the windows; None takes all.
        run
            Only this run; None takes each window's newest, `BEST` each window's best rated.
        before
            Only runs before this one.
        """
        only, values = "", list[int]()
        rank = queries.BEST_RATED if run == BEST else queries.NEWEST
        run = None if run == BEST else run
        for rule, number in (("AND run = ?", run), ("AND run < ?", before)):
            if number is not None:
                only, values = f"{only} {rule}", [*values, number]
        if keys is None:
            return window_states(self._file.rows(queries.STATES.format(only=only, rank=rank), values))
        found: dict[str, WindowState] = {}
        for begin in range(0, len(keys), _AT_ONCE):
            some = keys[begin : begin + _AT_ONCE]
            which = f"{only} AND window_key IN ({','.join('?' * len(some))})"
            rows = self._file.rows(queries.STATES.format(only=which, rank=rank), (*values, *some))
            found |= window_states(rows)
        return found

    def reviewed(self) -> dict[str, dict[int, int]]:
        """Return the runs with a person's review, each with its result, by window key."""
        found: dict[str, dict[int, int]] = {}
        for key, run, result in self._file.rows(queries.REVIEWED):
            found.setdefault(key, {})[run] = result
        return found

    def captioned_keys(self, run: int) -> set[str]:
        """Return the keys of the windows that a run has captioned."""
        return {key for (key,) in self._file.rows(queries.CAPTIONED_KEYS, (run,))}

    def final_texts(self, recipe_key: str, stage: int | None = None) -> dict[str, str]:
        """Return the text that a recipe has written last for each window, by window key.

        ``stage`` takes the last text of this stage instead of the last stage's.
        """
        return dict(self._file.rows(queries.FINAL_TEXTS, {"key": recipe_key, "stage": stage}))

    def captioned_by(
        self,
        recipe_key: str,
        keys: Iterable[str],
        texts: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    ) -> set[str]:
        """Return the windows that a recipe has captioned, in any run, with these texts."""
        known = set(self._file.rows(queries.CAPTIONED_BY_RECIPE, (recipe_key,)))
        return {key for key in keys if (key, texts_key(texts.get(key, {}))) in known}

    def history(self) -> list[tuple[Any, ...]]:
        """Return id, created, recipe (JSON), windows, done, failed, seconds, note; newest first."""
        return self._file.rows(queries.HISTORY)

    def annotate(
        self,
        run: int,
        video: str,
        number: int,
        stage: int,
        repeat: int = 0,
        reviewer: str = "",
        **values: str | int | None,
    ) -> None:
        """Set ``rating``, ``edited_text``, ``note`` or ``tags`` of a caption; see `store.reviews`.

        Raises
        ------
        KeyError
            If the run lacks the window, or the window lacks a caption of the stage.
        """
        found = self._file.rows(
            "SELECT result FROM jobs WHERE run = ? AND repeat = ? AND video = ? AND number = ?",
            (run, repeat, video, number),
        )
        if not found:
            raise KeyError(f"run {run} has no window {number} of {video!r}")
        result = found[0][0]
        changes = [Change(name, value, result, stage) for name, value in values.items()]
        what = f"{', '.join(values)} of {video} {number}"
        if result is None or not self.reviews.write(changes, what, reviewer):
            raise KeyError(f"window {number} of {video!r} has no caption of stage {stage} in run {run}")

    def mark_windows(
        self,
        windows: Sequence[PlannedWindow],
        note: str | None = None,
        tags: Iterable[str] | None = None,
        reviewer: str = "",
    ) -> None:
        """Set the note and the tags of windows; None leaves them as they are."""
        self.reviews.add_windows(windows)
        values = {"note": note, "tags": None if tags is None else joined(tags)}
        given = {name: value for name, value in values.items() if value is not None}
        changes = [
            Change(name, value, window_key=each.key)
            for each in windows
            for name, value in given.items()
        ]
        self.reviews.write(changes, f"{', '.join(given)} of {len(windows)} windows", reviewer)

    def window_marks(self, keys: Sequence[str] | None = None) -> dict[str, tuple[str, str]]:
        """Return notes and tags of windows, by window key; ``keys`` None takes all windows."""
        if keys is None:
            found = self._file.rows(queries.MARKED.format(only=""))
        else:
            found = []
            for begin in range(0, len(keys), _AT_ONCE):
                some = keys[begin : begin + _AT_ONCE]
                only = f"AND key IN ({','.join('?' * len(some))})"
                found += self._file.rows(queries.MARKED.format(only=only), some)
        return {key: (note, tags) for key, note, tags in found}

    def note_run(self, run: int, note: str) -> None:
        """Set a run's note."""
        with self._file.transaction() as db:
            db.execute("UPDATE runs SET note = ? WHERE id = ?", (note, run))

    def delete_untouched(self, run: int) -> None:
        """Delete a run that has no result, no note and no worker: a try that failed."""
        with self._file.transaction() as db:
            db.execute(queries.DELETE_UNTOUCHED, (run,))

    def delete(self, run: int) -> None:
        """Delete a run, and the captions that no other run uses."""
        self.facts(run)
        with self._file.transaction() as db:
            db.execute("DELETE FROM runs WHERE id = ?", (run,))
            db.execute(
                "DELETE FROM results WHERE id NOT IN (SELECT result FROM jobs WHERE result NOT NULL)"
            )
            db.execute(queries.DROP_ANSWERS)


def open_store(store: Store | str | Path | None) -> Store:
    """Open a store by its path; None takes the project's own, ``.captionkit/runs.sqlite``."""
    return store if isinstance(store, Store) else Store(store or DEFAULT_PATH)


def _take_over(
    db: sqlite3.Connection,
    run: int,
    recipe: Recipe,
    repeats: int,
    windows: Sequence[PlannedWindow],
    texts: Mapping[str, Mapping[str, str]],
) -> None:
    """Give free jobs of a run what the same recipe has captioned in other runs, with the same texts."""
    drop_dead(db)
    db.execute(queries.TAKE_OVER, {"run": run, "recipe": recipe.key})
    if PREVIOUS in recipe.texts:
        take_over_in_order(db, run, recipe.key, repeats, windows, texts)
    db.execute(queries.DROP_REPLACED, (recipe.key,))


def _run_key(recipe_key: str, repeats: int, windows: Iterable[str]) -> str:
    """Return the key of a run's work: its recipe, its repeats and the keys of its windows."""
    work = "\n".join([recipe_key, str(repeats), *windows])
    return hashlib.sha256(work.encode()).hexdigest()[:16]
