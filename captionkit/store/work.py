"""Work on a run: workers claim jobs, so that kernels and threads share a run and repeat no job.

Each worker renews a lease. Jobs become free again if the lease expires, or if the worker's process is
gone from this machine.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import sqlite3
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from captionkit.pipeline.events import Caption
from captionkit.store import queries
from captionkit.store.file import StoreError, StoreFile

LEASE_S = 60.0
RENEW_S = 10.0


@dataclass(frozen=True)
class Job:
    """One window of a run, open until ``done``."""

    position: int
    repeat: int
    window_key: str
    done: bool = False
    error: str | None = None
    #: Position of the job before in its film, if the prompt has that one's caption.
    follows: int | None = None


class Work:
    """A worker on one run, with claimed jobs and a lease; made by `Store.begin_work`.

    Parameters
    ----------
    file, run
        The store's file and the run.
    """

    def __init__(self, file: StoreFile, run: int) -> None:
        self._file = file
        self.run = run
        self.owner = uuid.uuid4().hex
        process = psutil.Process()
        self._identity = (self.owner, run, place(), process.pid, _started(process.pid))
        self._ended = False
        file.require_in_place("nothing was captioned: open a new session")
        self.renew()

    def claim(self, count: int, repeat: int = 0) -> list[Job]:
        """Claim up to ``count`` open jobs without a living owner, in order."""
        with self._file.transaction() as db:
            # Renew first: after a sleep of this machine, the own jobs under way would look free.
            self._renew(db)
            drop_dead(db)
            values = {"owner": self.owner, "run": self.run, "repeat": repeat, "count": count}
            rows = db.execute(queries.CLAIM, values).fetchall()
        return [
            Job(position, repeat, key, follows=follows)
            for position, repeat, key, follows in sorted(rows, key=lambda row: row[:2])
        ]

    def waiting(self, repeat: int = 0) -> int:
        """Count all open jobs, claimed or not."""
        query = "SELECT count(*) FROM jobs WHERE run = ? AND state = 0 AND repeat = ?"
        ((count,),) = self._file.rows(query, (self.run, repeat))
        return int(count)

    def elsewhere(self, repeat: int = 0) -> int:
        """Count the open jobs of other workers."""
        query = (
            "SELECT count(*) FROM jobs WHERE run = ? AND state = 0 AND repeat = ? AND owner IS NOT ?"
        )
        ((count,),) = self._file.rows(query, (self.run, repeat, self.owner))
        return int(count)

    def renew(self) -> None:
        """Renew the lease; call every `RENEW_S` seconds."""
        with self._file.transaction() as db:
            # Look inside: a thread may wait here while `end` releases the lease.
            if not self._ended:
                self._renew(db)

    def _renew(self, db: sqlite3.Connection) -> None:
        # Insert again if another worker dropped the lease, say while this machine slept.
        db.execute(
            "INSERT OR REPLACE INTO workers VALUES (?, ?, ?, ?, ?, ?)",
            (*self._identity, time.monotonic() + LEASE_S),
        )

    def text_before(self, job: Job) -> str | None:
        """Return the last text of the job that a job follows; None if that one failed."""
        where = (self.run, job.repeat, job.follows)
        ((state, text),) = self._file.rows(queries.ENDED, where)
        return str(text) if state == 1 else None

    def set_texts(self, job: Job, texts: str) -> None:
        """Set the key of the texts that fill in the prompt of a claimed job."""
        with self._file.transaction() as db:
            db.execute(
                "UPDATE jobs SET texts = ? WHERE run = ? AND position = ? AND repeat = ? AND owner = ?",
                (texts, self.run, job.position, job.repeat, self.owner),
            )

    def next_key(self, job: Job) -> str | None:
        """Return the window of the job that follows a job, or None."""
        query = "SELECT window_key FROM jobs WHERE run = ? AND repeat = ? AND follows = ?"
        found = self._file.rows(query, (self.run, job.repeat, job.position))
        return str(found[0][0]) if found else None

    def reopen_next(self, job: Job, texts: str) -> None:
        """Reopen the job that follows a job, if it was captioned with other texts than these."""
        with self._file.transaction() as db:
            db.execute(queries.REOPEN_NEXT, (self.run, job.repeat, job.position, texts))

    def add_caption(self, job: Job, caption: Caption) -> None:
        """Record a stage of a window; stage 1 replaces the rest of an interrupted try.

        Skip a job that another worker has claimed meanwhile.
        """
        with self._file.transaction() as db:
            result = self._result(db, job, new=caption.stage == 1)
            if result is not None:
                values = [getattr(caption, name) for name in queries.COMPLETION]
                db.execute(queries.ADD_CAPTION, (result, *values))

    def finish(self, job: Job, error: str | None, warnings: Sequence[str] = ()) -> None:
        """Record a window as captioned, or as failed with ``error``."""
        with self._file.transaction() as db:
            result = self._result(db, job, new=False)
            if result is None:
                return
            db.execute(
                "UPDATE results SET done = 1, error = ?, warnings = ? WHERE id = ?",
                (error, json.dumps(list(warnings)), result),
            )
            db.execute(
                "UPDATE jobs SET state = ?, owner = NULL WHERE run = ? AND position = ? AND repeat = ?",
                (1 if error is None else 2, self.run, job.position, job.repeat),
            )

    def _result(self, db: sqlite3.Connection, job: Job, *, new: bool) -> int | None:
        """Return the open result of a job, a new one if missing or ``new``; None for a lost job."""
        where = (self.run, job.position, job.repeat)
        found = db.execute(
            "SELECT recipe_key, window_key, texts, result, owner FROM jobs JOIN runs ON runs.id = run "
            "WHERE run = ? AND position = ? AND repeat = ?",
            where,
        ).fetchone()
        if found is None:
            raise StoreError(f"run {self.run} was deleted from {self._file.path} while it ran")
        recipe_key, window_key, texts, result, owner = found
        if owner != self.owner:
            return None
        if result is not None and not new:
            return int(result)
        made = db.execute(
            "INSERT INTO results (recipe_key, window_key, repeat, texts, created) "
            "VALUES (?, ?, ?, ?, strftime('%Y-%m-%dT%H:%M:%S+00:00', 'now'))",
            (recipe_key, window_key, job.repeat, texts),
        ).lastrowid
        db.execute(
            "UPDATE jobs SET result = ? WHERE run = ? AND position = ? AND repeat = ?", (made, *where)
        )
        # Delete the result of an interrupted try; other runs may use a finished one.
        db.execute("DELETE FROM results WHERE id = ? AND NOT done", (result,))
        return made

    def end(self, busy_s: float = 0.0) -> None:
        """Release the lease and the open jobs, and add the time of work."""
        self._ended = True
        with self._file.transaction() as db:
            db.execute("UPDATE runs SET busy_s = busy_s + ? WHERE id = ?", (busy_s, self.run))
            db.execute(
                "UPDATE jobs SET owner = NULL WHERE run = ? AND owner = ? AND state = 0",
                (self.run, self.owner),
            )
            db.execute("DELETE FROM workers WHERE owner = ?", (self.owner,))
        self._file.require_in_place(
            f"the captions of run {self.run} are in memory only: save them with "
            f"ck.open_run({self.run}, session.store).export(PATH) before the session closes"
        )


def drop_dead(db: sqlite3.Connection) -> None:
    """Delete workers of this machine whose process is gone, and workers with an expired lease."""
    for owner, *facts in db.execute("SELECT owner, place, pid, started, lease FROM workers").fetchall():
        if not lives(*facts):
            db.execute("DELETE FROM workers WHERE owner = ?", (owner,))


def lives(where: str, pid: int, started: float, lease: float) -> bool:
    """Return whether a worker has a lease, and its process lives as far as can be seen from here.

    Leases count by the monotonic clock, which all processes of a machine share until it boots again: a
    step of the wall clock ends no lease, and a sleep of the machine neither.
    """
    # A row of a stranger's store may hold anything.
    if not all(map(isinstance, (where, pid, started, lease), (str, int, float, float))):
        return False
    if where.split(" ")[0] != place().split(" ")[0]:
        return False
    return lease > time.monotonic() and (where != place() or _runs(pid, started))


@functools.cache
def place() -> str:
    """Return the scope of this process's id: the machine's boot and the process namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.exists():
        return platform.node()
    return f"{boot.read_text().strip()} {os.readlink('/proc/self/ns/pid')}"


def _runs(pid: int, started: float) -> bool:
    try:
        return _started(pid) == started and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _started(pid: int) -> float:
    """Return when a process began, by a clock that no step of the wall clock moves."""
    facts = Path(f"/proc/{pid}/stat")
    if not Path("/proc/self/stat").exists():
        return psutil.Process(pid).create_time()
    try:
        # The name of a program is in parentheses and may hold some itself; 20 fields follow it.
        return float(facts.read_text().rpartition(")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError) as error:
        raise psutil.NoSuchProcess(pid) from error
