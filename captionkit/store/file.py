"""The SQLite file: opened, brought to this version, written to in whole transactions."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from captionkit.store.schema import MIGRATIONS, TABLES, VERSION

_BUSY_S = 30.0


class StoreError(RuntimeError):
    """The store cannot be opened, read or written; the message says what to do."""


class StoreFile:
    """A connection that threads share; other processes may have theirs.

    Parameters
    ----------
    path
        The file; made if there is none.

    Raises
    ------
    StoreError
        The folder cannot be written, or the file is damaged, not a store, or of a newer captionkit.
    """

    def __init__(self, path: str | Path) -> None:
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
        # A killed process loses nothing this way. Only a power cut may lose the last captions, and
        # even then the file stays sound.
        self._db.execute("PRAGMA synchronous = NORMAL")
        with self.transaction():
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
            for step in range(max(version, 1), VERSION if version else 0):
                self._script(MIGRATIONS[step])
            self._db.execute(f"PRAGMA user_version = {VERSION}")

    def _script(self, script: str) -> None:
        # executescript would commit the statements before it.
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
                "it is damaged, or not a store; move it away to begin a new one "
                f"(sqlite3 {self.path.name} .recover may save its captions)"
            )
        else:
            what = "see the reason above"
        return f"{self.path}: {reason}; {what}"

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing.

        The write lock is taken at once, so that a reader does not become a writer too late.
        """
        with self._lock, self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def rows(self, query: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of a query."""
        with self._lock, self._explained():
            return self._db.execute(query, values).fetchall()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()
