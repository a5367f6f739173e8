"""What people say of captions and windows: ratings, edits, notes and tags, in steps that can be undone.

A value that is replaced stays in the table ``changes``: no edit destroys a text.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from captionkit.sources import PlannedWindow
from captionkit.store import queries
from captionkit.store.file import StoreFile, now

_CAPTION = ("rating", "edited_text", "note", "tags")
_WINDOW = ("note", "tags")


@dataclass(frozen=True)
class Change:
    """A new value of one column: of a caption (``result``, ``stage``), or else of a window.

    ``field`` is ``rating``, ``edited_text``, ``note`` or ``tags``; a window has only the last two.
    """

    field: str
    value: str | int | None
    result: int | None = None
    stage: int = 0
    window_key: str = ""


@dataclass(frozen=True)
class Step:
    """What a person changed at once: UTC time, the person's name, and what it was.

    ``done`` is false of a step that is undone, ``again`` true of one that can be made again.
    """

    created: str
    reviewer: str
    what: str
    done: bool
    again: bool


class Reviews:
    """Writes and undoes steps, each a number of changes.

    Parameters
    ----------
    file
        The store's file.
    """

    def __init__(self, file: StoreFile) -> None:
        self._file = file

    def add_windows(self, windows: Iterable[PlannedWindow]) -> None:
        """Store the facts of windows, which can have a note and tags before any run."""
        with self._file.transaction() as db:
            add_windows(db, windows)

    def write(self, changes: Iterable[Change], what: str, reviewer: str = "") -> int:
        """Make changes as one step; return how many captions and windows were found.

        Parameters
        ----------
        changes
            The new values.
        what
            Name of the step, for a person who wants to undo it.
        reviewer
            Name of the person; ratings are kept by person, see `ratings`.
        """
        found = []
        with self._file.transaction() as db:
            for each in changes:
                before = _read(db, each)
                if before is not None:
                    found.append((each, before[0]))
            if not found:
                return 0
            step = db.execute(
                "INSERT INTO steps (created, reviewer, what) VALUES (?, ?, ?)",
                (now(), reviewer, what),
            ).lastrowid
            for each, value in found:
                _set(db, each, each.value)
                db.execute(
                    "INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (step, each.result, each.stage, each.window_key, each.field, value, each.value),
                )
        return len(found)

    def undo(self, reviewer: str | None = None) -> str | None:
        """Undo the last step, of one person if given; return what it was, None without a step.

        A value that was changed again since stays.
        """
        with self._file.transaction() as db:
            step = _found(db, queries.LAST_STEP, reviewer)
            if step is None:
                return None
            # Steps that were undone before this one was made do not come back with it.
            db.execute(queries.LEAVE_UNDONE, {"step": step[0], "reviewer": reviewer})
            return _turn(db, *step, back=True)

    def redo(self, reviewer: str | None = None) -> str | None:
        """Make the step again that was undone last; return what it was, None without one.

        There is none after a new step. A value that was changed since the undoing stays.
        """
        with self._file.transaction() as db:
            step = _found(db, queries.UNDONE_STEP, reviewer)
            return None if step is None else _turn(db, *step, back=False)

    def steps(self, reviewer: str | None = None, most: int = 20) -> list[Step]:
        """Return the last steps, of one person if given, the newest first."""
        found: list[Step] = []
        newest = True
        for *facts, undone in self._file.rows(queries.STEPS, {"reviewer": reviewer, "most": most}):
            newest = newest and bool(undone)
            created, who, what = map(str, facts)
            found.append(Step(created, who, what, not undone, newest and undone == 1))
        return found

    def texts(self, result: int, stage: int) -> list[str]:
        """Return all edited texts that a caption had, the newest first."""
        query = (
            "SELECT after FROM changes WHERE result = ? AND stage = ? AND field = 'edited_text' "
            "AND after NOT NULL ORDER BY rowid DESC"
        )
        return list(dict.fromkeys(text for (text,) in self._file.rows(query, (result, stage))))

    def ratings(self) -> list[tuple[int, int, str, int | None]]:
        """Return result, stage, person and last rating of each caption that a person rated."""
        rows = self._file.rows(
            "SELECT result, stage, reviewer, after FROM changes JOIN steps ON steps.id = step "
            "WHERE field = 'rating' AND NOT undone AND typeof(reviewer) = 'text' "
            "AND (after IS NULL OR after IN (1, 2, 3, 4, 5)) ORDER BY changes.rowid"
        )
        last = {(result, stage, reviewer): rating for result, stage, reviewer, rating in rows}
        return [(*key, rating) for key, rating in last.items()]

    def rated(self) -> list[tuple[int, int, int, int]]:
        """Return run, result, stage and rating of all rated captions."""
        return self._file.rows(queries.RATINGS)

    def choose(self, run_a: int, run_b: int, window_key: str, choice: str) -> None:
        """Record a person's preference between two runs for a window: ``a``, ``b`` or ``tie``."""
        with self._file.transaction() as db:
            db.execute(queries.CHOOSE, (run_a, run_b, window_key, choice, now()))

    def choices(self, run_a: int, run_b: int) -> dict[str, str]:
        """Return the preferences between two runs, by window key."""
        return dict(
            self._file.rows(
                "SELECT window_key, choice FROM choices WHERE run_a = ? AND run_b = ?", (run_a, run_b)
            )
        )


def add_windows(db: sqlite3.Connection, windows: Iterable[PlannedWindow]) -> None:
    """Store the facts of windows, within a transaction."""
    db.executemany(
        queries.ADD_WINDOW,
        (
            (
                each.key, each.path, each.clip, each.start_frame, each.end_frame, each.start_s,
                each.end_s, each.source.facts,
            )
            for each in windows
        ),
    )  # fmt: skip


def split(tags: str | None) -> list[str]:
    """Return the tags of a text with commas, each once, in order."""
    return list(dict.fromkeys(tag for each in (tags or "").split(",") if (tag := each.strip())))


def joined(tags: Iterable[str]) -> str:
    """Return tags as one text with commas; a tag with commas counts as several."""
    return ", ".join(split(",".join(tags)))


def _found(db: sqlite3.Connection, query: str, reviewer: str | None) -> tuple[int, str] | None:
    found: tuple[int, str] | None = db.execute(query, {"reviewer": reviewer}).fetchone()
    return found


def _turn(db: sqlite3.Connection, step: int, what: str, *, back: bool) -> str:
    """Write a step's values from before it, or those from after it again; return what it was."""
    made = db.execute(queries.CHANGES, (step,)).fetchall()
    for before, after, *facts in reversed(made) if back else made:
        old, new = (after, before) if back else (before, after)
        change = Change(facts[0], old, *facts[1:])
        # A damaged row of a stranger's store must not hinder the others.
        if change.field in _fields(change) and _read(db, change) == (old,):
            _set(db, change, new)
    db.execute("UPDATE steps SET undone = ? WHERE id = ?", (int(back), step))
    return str(what)


def _where(change: Change) -> tuple[str, tuple[Any, ...]]:
    if change.result is None:
        return "windows WHERE key = ?", (change.window_key,)
    return "captions WHERE result = ? AND stage = ?", (change.result, change.stage)


def _fields(change: Change) -> tuple[str, ...]:
    return _WINDOW if change.result is None else _CAPTION


def _read(db: sqlite3.Connection, change: Change) -> tuple[Any] | None:
    assert change.field in _fields(change), change.field
    where, values = _where(change)
    found: tuple[Any] | None = db.execute(
        f"SELECT {change.field} FROM {where}",  # noqa: S608
        values,
    ).fetchone()
    return found


def _set(db: sqlite3.Connection, change: Change, value: Any) -> None:
    where, values = _where(change)
    table, condition = where.split(" ", 1)
    if change.result is None and value is None:
        value = ""
    db.execute(f"UPDATE {table} SET {change.field} = ? {condition}", (value, *values))  # noqa: S608
