"""What was learnt of files, kept between sessions: one SQLite file in the user's cache folder.

An entry counts while its file's size and times of change are the same. The cache is only ever a
shortcut: a damaged file is started anew, a locked or unwritable one is left alone.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

# Rises with the form of the entries; a file of another version is emptied.
_VERSION = 2
_MOST_BYTES = 512 << 20
# Look at the size of the file once in so many additions.
_LOOK_EVERY = 200
_BUSY_S = 2.0
_Result = TypeVar("_Result")
_TABLE = """
CREATE TABLE IF NOT EXISTS entries (
    path TEXT NOT NULL, kind TEXT NOT NULL, stamp TEXT NOT NULL, content BLOB NOT NULL,
    PRIMARY KEY (path, kind))
"""


def cache_folder() -> Path:
    """Return ``CAPTIONKIT_CACHE``, or ``captionkit`` in the user's cache folder."""
    if named := os.environ.get("CAPTIONKIT_CACHE"):
        return Path(named)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "captionkit"
    try:
        return Path.home() / ".cache" / "captionkit"
    except RuntimeError:
        # A user without a home, as in some containers: no folder can be made here.
        return Path(os.devnull) / "captionkit"


def file_cache() -> FileCache:
    """Return this process's cache."""
    return _opened(cache_folder() / "files.sqlite", os.getpid())


@functools.lru_cache(maxsize=4)
def _opened(path: Path, _process: int) -> FileCache:
    return FileCache(path)


def file_stamp(path: str | Path) -> str:
    """Return the size of a file and its times of change, which decide whether an entry counts.

    Raises
    ------
    OSError
        If there is no such file.
    """
    status = os.stat(path)
    # ctime also tells a file that was replaced by one of the same size and mtime.
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


class FileCache:
    """Entries by path and kind; threads and processes may share the file.

    Parameters
    ----------
    path
        The SQLite file; its folder is made when it is needed.
    most_bytes
        Largest size; the oldest entries go first.
    """

    def __init__(self, path: Path, most_bytes: int = _MOST_BYTES) -> None:
        self._path = path
        self._most = most_bytes
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._unusable = False
        self._added = 0

    def get(self, path: str | Path, kind: str, stamp: str) -> bytes | None:
        """Return an entry; None if there is none for the file as its ``stamp`` says it is."""
        query = "SELECT content FROM entries WHERE path = ? AND kind = ? AND stamp = ?"
        values = (_name(path), kind, stamp)
        found = self._use(lambda db: db.execute(query, values).fetchone())
        return found[0] if found and isinstance(found[0], bytes) else None

    def put(self, path: str | Path, kind: str, stamp: str, content: bytes) -> None:
        """Keep an entry; ``stamp`` is from before the file was read."""
        values = (_name(path), kind, stamp, content)

        def work(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)", values)
            self._added += 1
            if self._added % _LOOK_EVERY == 1:
                self._shrink(db)

        self._use(work)

    def close(self) -> None:
        """Close the file; it opens again when it is needed."""
        with self._lock:
            self._close()

    def _use(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result | None:
        """Do some work on the file; None if the file cannot be used."""
        with self._lock:
            if self._unusable:
                return None
            try:
                if self._db is None:
                    self._db = self._open()
                return work(self._db)
            except (sqlite3.OperationalError, OSError) as error:
                # Locked or full: do without this time. Not to be opened: do without it altogether.
                self._unusable = self._db is None and "locked" not in str(error)
            except sqlite3.DatabaseError:
                self._close()
                self._remove()
            return None

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        db = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            if db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                db.execute("PRAGMA journal_mode = WAL")
            # A power cut may damage the file, which is then started anew.
            db.execute("PRAGMA synchronous = OFF")
            if db.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                db.execute("DROP TABLE IF EXISTS entries")
                db.execute(f"PRAGMA user_version = {_VERSION}")
            db.execute(_TABLE)
        except BaseException:
            db.close()
            raise
        # Close the connection of a cache that nobody closed.
        weakref.finalize(self, db.close)
        return db

    def _shrink(self, db: sqlite3.Connection) -> None:
        pages, free, size = (
            db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        if (pages - free) * size > self._most:
            db.execute(
                "DELETE FROM entries WHERE rowid IN (SELECT rowid FROM entries ORDER BY rowid "
                "LIMIT (SELECT count(*) / 4 + 1 FROM entries))"
            )

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
        self._db = None

    def _remove(self) -> None:
        for end in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                os.unlink(f"{self._path}{end}")


def _name(path: str | Path) -> str:
    # Surrogates of a name that is not UTF-8 do not fit into SQLite's text.
    return os.path.realpath(path).encode("utf-8", "backslashreplace").decode()
