"""The SQLite file: open, migrate to this version, write in whole transactions."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from captionkit.store.schema import MIGRATIONS, TABLES, VERSION

_BUSY_S = 30.0

# Rows of tables hold numpy's integers, which SQLite would keep and compare as bytes.
for _kind in "bhilqBHILQ":
    sqlite3.register_adapter(np.dtype(_kind).type, int)


def _readable(data: bytes) -> str:
    return data.decode("utf-8", "replace")


class StoreError(RuntimeError):
    """Raised when the store cannot be opened, read or written; the message names the remedy."""


class StoreFile:
    """A connection that threads share; other processes open their own.

    Parameters
    ----------
    path
        The file; created if missing.

    Raises
    ------
    StoreError
        If the folder cannot be written, or the file is damaged, not a store, or of a newer captionkit.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        # Device and inode of the file, once it is open.
        self._identity: tuple[int, int] | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot make {self.path.parent}: {error.strerror}; give store= a writable path"
            ) from error
        with self._explained():
            self._db = sqlite3.connect(
                self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
        # Close the connection of a store that nobody closed, as in a notebook.
        weakref.finalize(self, self._db.close)
        try:
            with self._explained():
                self._open()
            self._identity = self._found()
        except BaseException:
            self._db.close()
            raise

    def _found(self) -> tuple[int, int] | None:
        """Return device and inode of the file at the path; None if there is none."""
        try:
            facts = os.stat(self.path)
        except OSError:
            return None
        return facts.st_dev, facts.st_ino

    def require_in_place(self, consequence: str) -> None:
        """Check that the path still leads to the open file.

        Raises
        ------
        StoreError
            If the file was deleted, moved or replaced; SQLite itself would go on with a file that
            nobody can open again. The message ends with ``consequence``.
        """
        if lost := self._lost():
            raise StoreError(f"{lost}; {consequence}")

    def _lost(self) -> str | None:
        found = self._found()
        if self._identity in (None, found):
            return None
        how = "deleted or moved" if found is None else "replaced by another file"
        return f"{self.path} was {how} while it was open"

    def _open(self) -> None:
        self._db.execute("PRAGMA foreign_keys = ON")
        if self._write_ahead() != "wal":
            raise StoreError(f"{self.path} is on a disk that cannot hold a store; choose a local one")
        # Sync less often: a killed process loses nothing. A power cut may lose the last captions, but
        # the file stays sound.
        self._db.execute("PRAGMA synchronous = NORMAL")
        with self.transaction():
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                if self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                    raise StoreError(
                        f"{self.path} is a database of another program; give store= another path"
                    )
                self._script(TABLES)
            elif version > VERSION:
                raise StoreError(
                    f"{self.path} was written by a newer captionkit (store version {version}, this "
                    f"version reads {VERSION}); update captionkit, or give store= another path"
                )
            for step in range(max(version, 1), VERSION if version else 0):
                self._script(MIGRATIONS[step])
            self._db.execute(f"PRAGMA user_version = {VERSION}")

    def _write_ahead(self) -> str:
        """Return the journal mode after the switch; SQLite itself does not wait for others here."""
        end = time.monotonic() + _BUSY_S
        while True:
            try:
                return str(self._db.execute("PRAGMA journal_mode = WAL").fetchone()[0])
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def _script(self, script: str) -> None:
        # Avoid executescript, which commits earlier statements first.
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
        if lost := self._lost():
            return f"{lost} ({error}); open a new session"
        reason = str(error)
        if "full" in reason:
            what = "the disk is full: free some space and run again; all earlier captions are stored"
        elif "locked" in reason or "busy" in reason:
            what = f"another process held the store for more than {_BUSY_S:.0f} s; try again"
        elif "closed" in reason:
            what = "the session that opened it was closed; open another one"
        elif "readonly" in reason or "unable to open" in reason:
            what = "the file is not writable; give store= a writable path"
        elif isinstance(error, sqlite3.DatabaseError) and ("malformed" in reason or "not a" in reason):
            what = (
                "the file is damaged, or not a store; move it away to start a new one "
                f"(sqlite3 {self.path.name} .recover may save its captions)"
            )
        else:
            what = (
                "the disk may be failing, or the file is not in order; what was stored before is kept, "
                "so the same call goes on from there"
            )
        return f"{self.path}: {reason}; {what}"

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit everything or nothing.

        Take the write lock at once: a reader that becomes a writer later can fail.
        """
        with self._lock, self._explained():
            # Begin and commit inside: an interrupt may come between a statement and the next line.
            try:
                self._db.text_factory = _readable
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                raise
            finally:
                self._db.text_factory = str

    def rows(self, query: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self._lock, self._explained():
            try:
                return self._db.execute(query, values).fetchall()
            except sqlite3.OperationalError as error:
                if "decode to UTF-8" not in str(error):
                    raise
            # One text of a stranger's store is not UTF-8: read all of them with marks in it.
            self._db.text_factory = _readable
            try:
                return self._db.execute(query, values).fetchall()
            finally:
                self._db.text_factory = str

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


def now() -> str:
    """Return the time of day for a row: UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
