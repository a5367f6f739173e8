"""Work on a run: jobs are claimed, so that two kernels or threads share it and none is done twice.

A worker has a lease that it renews. Jobs of a worker whose lease has run out, or whose process is gone
from this machine, are free again at once.
"""

from __future__ import annotations

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
# By how much two processes may disagree on when a third one started.
_CLOCK_S = 5.0


@dataclass(frozen=True)
class Job:
    """One window of a run; it waits while it is not ``done``."""

    position: int
    repeat: int
    window_key: str
    done: bool = False
    error: str | None = None


class Work:
    """A claim on jobs of one run; `Store.begin_work` makes it.

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
        self._who = (self.owner, run, place(), process.pid, process.create_time())
        self.renew()

    def claim(self, count: int, repeat: int = 0) -> list[Job]:
        """Take up to ``count`` jobs that wait and that no living worker has, in order."""
        with self._file.transaction() as db:
            drop_dead(db)
            values = {
                "owner": self.owner, "run": self.run, "repeat": repeat, "now": time.time(),
                "count": count,
            }  # fmt: skip
            rows = db.execute(queries.CLAIM, values).fetchall()
        return [Job(*row) for row in sorted(rows)]

    def waiting(self, repeat: int = 0) -> int:
        """How many jobs are not done, whoever has them."""
        query = "SELECT count(*) FROM jobs WHERE run = ? AND state = 0 AND repeat = ?"
        ((count,),) = self._file.rows(query, (self.run, repeat))
        return int(count)

    def elsewhere(self, repeat: int = 0) -> int:
        """How many jobs that are not done other workers have."""
        query = (
            "SELECT count(*) FROM jobs WHERE run = ? AND state = 0 AND repeat = ? AND owner IS NOT ?"
        )
        ((count,),) = self._file.rows(query, (self.run, repeat, self.owner))
        return int(count)

    def renew(self) -> None:
        """Renew the lease; every `RENEW_S` seconds."""
        with self._file.transaction() as db:
            # A machine that slept may find that its lease was dropped meanwhile.
            db.execute(
                "INSERT OR REPLACE INTO workers VALUES (?, ?, ?, ?, ?, ?)",
                (*self._who, time.time() + LEASE_S),
            )

    def add_caption(self, job: Job, caption: Caption) -> None:
        """Record a stage of a window; the first one replaces what an interrupted try left.

        Nothing is recorded of a job that another worker has taken over meanwhile.
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
        """The open result of a job, a new one if there is none or if ``new``; None if it was lost."""
        where = (self.run, job.position, job.repeat)
        found = db.execute(
            "SELECT recipe_key, window_key, result, owner FROM jobs JOIN runs ON runs.id = run "
            "WHERE run = ? AND position = ? AND repeat = ?",
            where,
        ).fetchone()
        if found is None:
            raise StoreError(f"run {self.run} was deleted from {self._file.path} while it ran")
        recipe_key, window_key, result, owner = found
        if owner != self.owner:
            return None
        if result is not None and not new:
            return int(result)
        made = db.execute(
            "INSERT INTO results (recipe_key, window_key, repeat, created) "
            "VALUES (?, ?, ?, strftime('%Y-%m-%dT%H:%M:%S+00:00', 'now'))",
            (recipe_key, window_key, job.repeat),
        ).lastrowid
        db.execute(
            "UPDATE jobs SET result = ? WHERE run = ? AND position = ? AND repeat = ?", (made, *where)
        )
        # Left by an interrupted try; a finished one may be shown by other runs.
        db.execute("DELETE FROM results WHERE id = ? AND NOT done", (result,))
        return made

    def end(self, busy_s: float = 0.0) -> None:
        """Give up the lease with the jobs that are not done, and count the time of work."""
        with self._file.transaction() as db:
            db.execute("UPDATE runs SET busy_s = busy_s + ? WHERE id = ?", (busy_s, self.run))
            db.execute(
                "UPDATE jobs SET owner = NULL WHERE run = ? AND owner = ? AND state = 0",
                (self.run, self.owner),
            )
            db.execute("DELETE FROM workers WHERE owner = ?", (self.owner,))


def drop_dead(db: sqlite3.Connection) -> None:
    """Forget workers of this machine whose process is gone, and those whose lease ran out."""
    for owner, pid, started in db.execute(
        "SELECT owner, pid, started FROM workers WHERE place = ?", (place(),)
    ).fetchall():
        if not _lives(pid, started):
            db.execute("DELETE FROM workers WHERE owner = ?", (owner,))
    db.execute("DELETE FROM workers WHERE lease <= ?", (time.time(),))


def place() -> str:
    """Names this machine's process ids: the boot and the namespace that they are counted in."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.exists():
        return platform.node()
    return f"{boot.read_text().strip()} {os.readlink('/proc/self/ns/pid')}"


def _lives(pid: int, started: float) -> bool:
    try:
        process = psutil.Process(pid)
        return (
            abs(process.create_time() - started) < _CLOCK_S and process.status() != psutil.STATUS_ZOMBIE
        )
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
