"""Runs, captions, ratings and notes in one SQLite file; each caption is in it the moment it is done.

The file is in write-ahead mode: a kernel that is killed at any moment leaves a sound file with every
caption that was reported as done, and several notebooks may share it. Times are UTC. Imports recipe
and tasks; called by sessions, exports and the command line.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from captionkit.recipe import Recipe
from captionkit.store.schema import MIGRATIONS, TABLES, VERSION
from captionkit.stages.tasks import Caption

DEFAULT_PATH = Path(".captionkit") / "runs.sqlite"
_BUSY_S = 30.0

_CAPTION_FIELDS = (
    "stage", "prompt", "prompt_text", "text", "finish_reason", "prompt_tokens", "output_tokens",
    "cached_tokens", "queue_s", "first_token_s", "seconds",
)  # fmt: skip
_INSERT_CAPTION = (
    f"INSERT INTO captions (result, {', '.join(_CAPTION_FIELDS)}) "  # noqa: S608
    f"VALUES (?, {', '.join('?' * len(_CAPTION_FIELDS))})"
)


class StoreError(RuntimeError):
    """The store cannot be opened, read or written; the message says what to do."""


@dataclass(frozen=True)
class StoredWindow:
    """A window as the store knows it.

    ``key`` follows from the content of the file and the window's frames, ``source`` is the decoder's
    facts of the video as JSON, ``clip`` the clip's id.
    """

    key: str
    video: str
    path: str
    clip: str
    number: int
    start_frame: int
    end_frame: int
    start_s: float
    end_s: float
    source: str


@dataclass(frozen=True)
class Job:
    """One window of a run; it waits while it is not ``done``."""

    position: int
    repeat: int
    window_key: str
    done: bool
    error: str | None


class Store:
    """The file. Safe to use from several threads; several processes may share it.

    Parameters
    ----------
    path
        The SQLite file; made where there is none.

    Raises
    ------
    StoreError
        The folder cannot be written, the file is no store, damaged, or of a newer captionkit.
    """

    def __init__(self, path: str | Path = DEFAULT_PATH) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot make {self.path.parent}: {error.strerror}; give store= a path that can be "
                "written"
            ) from error
        with self._explained():
            self._db = sqlite3.connect(
                self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
        try:
            with self._explained():
                self._open()
        except BaseException:
            self._db.close()
            raise

    def _open(self) -> None:
        self._db.execute("PRAGMA foreign_keys = ON")
        if self._db.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise StoreError(f"{self.path} is on a disk that cannot hold a store; choose a local one")
        # A process that is killed loses nothing so; only a machine that loses power may lose the
        # last captions, and even then the file stays sound.
        self._db.execute("PRAGMA synchronous = NORMAL")
        with self._transaction():
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                if self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                    raise StoreError(
                        f"{self.path} is a database of something else; give store= another path"
                    )
                self._script(TABLES)
            elif version > VERSION:
                raise StoreError(
                    f"{self.path} was written by a newer captionkit (store version {version}, this "
                    f"one knows {VERSION}); update captionkit, or give store= another path"
                )
            for step in range(max(version, 1), VERSION):
                self._script(MIGRATIONS[step])
            self._db.execute(f"PRAGMA user_version = {VERSION}")

    def _script(self, script: str) -> None:
        # executescript would commit what runs before it.
        for statement in script.split(";"):
            if statement.strip():
                self._db.execute(statement)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(self._advice(error)) from error

    def _advice(self, error: sqlite3.Error) -> str:
        reason = str(error)
        if "full" in reason:
            what = "the disk is full: make room and go on; all captions before are in it"
        elif "locked" in reason or "busy" in reason:
            what = f"another process wrote to it for more than {_BUSY_S:.0f} s; try again"
        elif "readonly" in reason or "unable to open" in reason:
            what = "it cannot be written; give store= a path that can"
        elif isinstance(error, sqlite3.DatabaseError) and ("malformed" in reason or "not a" in reason):
            what = (
                "it is damaged or no store; move it away to begin a new one "
                f"(sqlite3 {self.path.name} .recover may save its captions)"
            )
        else:
            what = "see the reason above"
        return f"{self.path}: {reason}; {what}"

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing; takes the write lock at once, so that no reader turns writer too late."""
        with self._lock, self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def rows(self, query: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of a query of the tables; the schema stands in this module."""
        with self._lock, self._explained():
            return self._db.execute(query, values).fetchall()

    def add_run(
        self,
        recipe: Recipe,
        windows: Sequence[StoredWindow],
        *,
        repeats: int,
        batch_size: int,
        fresh: bool,
    ) -> int:
        """Begin a run, or find the one that did the same work; gives its id.

        Windows that the same recipe has captioned before are done at once. ``fresh`` begins anew and
        takes nothing from before.
        """
        work = "\n".join([recipe.key, str(repeats), *(window.key for window in windows)])
        key = hashlib.sha256(work.encode()).hexdigest()[:16]
        with self._transaction():
            known = None
            if not fresh:
                known = self._db.execute(
                    "SELECT id FROM runs WHERE key = ? ORDER BY id DESC", (key,)
                ).fetchone()
            if known:
                return int(known[0])
            run = self._db.execute(
                "INSERT INTO runs (key, recipe, recipe_key, repeats, batch_size, created) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (key, json.dumps(asdict(recipe)), recipe.key, repeats, batch_size, _now()),
            ).lastrowid
            assert run is not None
            self._add_windows(windows)
            earlier = "NULL"
            if not fresh:
                earlier = (
                    "(SELECT max(id) FROM results WHERE recipe_key = ? AND window_key = ? "
                    "AND repeat = ? AND done AND error IS NULL)"
                )
            self._db.executemany(
                f"INSERT INTO jobs VALUES (?, ?, ?, ?, {earlier})",  # noqa: S608
                [
                    (run, position, repeat, window.key)
                    + (() if fresh else (recipe.key, window.key, repeat))
                    for repeat in range(repeats)
                    for position, window in enumerate(windows)
                ],
            )
            return run

    def _add_windows(self, windows: Sequence[StoredWindow]) -> None:
        self._db.executemany(
            "INSERT INTO windows (key, video, path, clip, number, start_frame, end_frame, start_s, "
            "end_s, source) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (key) DO UPDATE SET video = excluded.video, path = excluded.path, "
            "number = excluded.number",
            [astuple(window) for window in windows],
        )

    def add_caption(self, run: int, position: int, repeat: int, caption: Caption) -> None:
        """Record a stage of a window; its first one replaces what an interrupted try left."""
        with self._transaction():
            result = self._result(run, position, repeat, begin=caption.stage == 1)
            values = [getattr(caption, name) for name in _CAPTION_FIELDS]
            self._db.execute(_INSERT_CAPTION, (result, *values))

    def finish(
        self, run: int, position: int, repeat: int, error: str | None, warnings: Sequence[str] = ()
    ) -> None:
        """Record a window as done, or as failed with ``error``."""
        with self._transaction():
            result = self._result(run, position, repeat, begin=False)
            self._db.execute(
                "UPDATE results SET done = 1, error = ?, warnings = ? WHERE id = ?",
                (error, json.dumps(list(warnings)), result),
            )

    def _result(self, run: int, position: int, repeat: int, *, begin: bool) -> int:
        """The open result of a job; a new one where there is none, or with ``begin``."""
        job = (run, position, repeat)
        found = self._db.execute(
            "SELECT recipe_key, window_key, result FROM jobs JOIN runs ON runs.id = run "
            "WHERE run = ? AND position = ? AND repeat = ?",
            job,
        ).fetchone()
        if found is None:
            raise StoreError(f"run {run} was deleted from {self.path} while it ran")
        recipe_key, window_key, result = found
        if result is not None and not begin:
            return int(result)
        made = self._db.execute(
            "INSERT INTO results (recipe_key, window_key, repeat, created) VALUES (?, ?, ?, ?)",
            (recipe_key, window_key, repeat, _now()),
        ).lastrowid
        self._db.execute(
            "UPDATE jobs SET result = ? WHERE run = ? AND position = ? AND repeat = ?", (made, *job)
        )
        # Of an interrupted try; a finished one may be shown by other runs.
        self._db.execute("DELETE FROM results WHERE id = ? AND NOT done", (result,))
        assert made is not None
        return made

    def jobs(self, run: int) -> list[Job]:
        """All windows of a run, in order."""
        rows = self.rows(
            "SELECT position, jobs.repeat, jobs.window_key, coalesce(done, 0), error FROM jobs "
            "LEFT JOIN results ON results.id = result WHERE run = ? ORDER BY jobs.repeat, position",
            (run,),
        )
        return [Job(place, repeat, key, bool(done), why) for place, repeat, key, done, why in rows]

    def forget_failures(self, run: int) -> int:
        """Let a run's failed windows wait again; gives how many."""
        with self._transaction():
            return self._db.execute(
                "UPDATE jobs SET result = NULL WHERE run = ? AND result IN "
                "(SELECT id FROM results WHERE error IS NOT NULL)",
                (run,),
            ).rowcount

    def add_busy_time(self, run: int, seconds: float) -> None:
        """Count time that a run was worked on."""
        with self._transaction():
            self._db.execute("UPDATE runs SET busy_s = busy_s + ? WHERE id = ?", (seconds, run))

    def recipe(self, run: int) -> Recipe:
        """A run's recipe.

        Raises
        ------
        KeyError
            There is no such run; lists the ones there are.
        """
        found = self.rows("SELECT recipe FROM runs WHERE id = ?", (run,))
        if not found:
            there = [row[0] for row in self.rows("SELECT id FROM runs ORDER BY id DESC LIMIT 20")]
            listed = ", ".join(map(str, there)) or "none"
            raise KeyError(f"{self.path} holds no run {run}; there are: {listed}")
        return Recipe(**json.loads(found[0][0]))

    def annotate(
        self,
        run: int,
        position: int,
        stage: int,
        repeat: int = 0,
        **values: str | int | None,
    ) -> None:
        """Set ``rating``, ``edited_text`` or ``note`` of a caption.

        Raises
        ------
        KeyError
            The window has no caption of that stage.
        """
        names = ", ".join(f"{name} = ?" for name in values)
        with self._transaction():
            changed = self._db.execute(
                f"UPDATE captions SET {names} WHERE stage = ? AND result = "  # noqa: S608
                "(SELECT result FROM jobs WHERE run = ? AND position = ? AND repeat = ?)",
                (*values.values(), stage, run, position, repeat),
            ).rowcount
        if not changed:
            raise KeyError(f"window {position} of run {run} has no caption of stage {stage}")

    def note_windows(self, windows: Sequence[StoredWindow], note: str) -> None:
        """Set the note of windows."""
        with self._transaction():
            self._add_windows(windows)
            self._db.executemany(
                "UPDATE windows SET note = ? WHERE key = ?", [(note, each.key) for each in windows]
            )

    def note_run(self, run: int, note: str) -> None:
        """Set a run's note."""
        with self._transaction():
            self._db.execute("UPDATE runs SET note = ? WHERE id = ?", (note, run))

    def choose(self, run_a: int, run_b: int, window_key: str, choice: str) -> None:
        """Record which of two runs somebody preferred for a window: ``a``, ``b`` or ``tie``."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO choices (run_a, run_b, window_key, choice, created) "
                "VALUES (?, ?, ?, ?, ?) ON CONFLICT (run_a, run_b, window_key) "
                "DO UPDATE SET choice = excluded.choice, created = excluded.created",
                (run_a, run_b, window_key, choice, _now()),
            )

    def delete(self, run: int) -> None:
        """Delete a run, and the captions that no other run shows."""
        self.recipe(run)
        with self._transaction():
            self._db.execute("DELETE FROM runs WHERE id = ?", (run,))
            self._db.execute(
                "DELETE FROM results WHERE id NOT IN (SELECT result FROM jobs WHERE result NOT NULL)"
            )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
