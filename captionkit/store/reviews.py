"""What people say of captions and windows: ratings, edits, notes and tags, in steps that can be undone.

A value that is replaced stays in the table ``changes``: no edit destroys a text.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

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


class Reviews:
    """Writes and undoes steps, each a number of changes.

    Parameters
    ----------
    file
        The store's file.
    """

    def __init__(self, file: StoreFile) -> None:
        self._file = file

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
        which = "" if reviewer is None else "AND reviewer = ?"
        values = () if reviewer is None else (reviewer,)
        with self._file.transaction() as db:
            last = db.execute(
                f"SELECT id, what FROM steps WHERE NOT undone {which} "  # noqa: S608
                "AND id IN (SELECT step FROM changes) ORDER BY id DESC LIMIT 1",
                values,
            ).fetchone()
            if last is None:
                return None
            made = db.execute(
                "SELECT field, after, result, stage, window_key, before FROM changes WHERE step = ? "
                "ORDER BY rowid DESC",
                (last[0],),
            ).fetchall()
            for *facts, before in made:
                change = Change(*facts)
                # A damaged row of a stranger's store must not hinder the others.
                if change.field in _fields(change) and _read(db, change) == (change.value,):
                    _set(db, change, before)
            db.execute("UPDATE steps SET undone = 1 WHERE id = ?", (last[0],))
        return str(last[1])

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


def split(tags: str | None) -> list[str]:
    """Return the tags of a text with commas, each once, in order."""
    return list(dict.fromkeys(tag for each in (tags or "").split(",") if (tag := each.strip())))


def joined(tags: Iterable[str]) -> str:
    """Return tags as one text with commas; a tag with commas counts as several."""
    return ", ".join(split(",".join(tags)))


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
