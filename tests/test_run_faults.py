"""Runs whose store, engine or machine fails: nothing hangs, nothing is captioned twice or lost."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
import time
from contextlib import closing
from dataclasses import replace

import pytest
from common import VIDEOS
from stores import CAPTION, WINDOWS, begin, claimed, done

import captionkit as ck
from captionkit.cli import caption as caption_command
from captionkit.cli import main
from captionkit.engine import EngineGoneError
from captionkit.run import RunEnded, open_run, task
from captionkit.store import Store, StoreError, work
from captionkit.system import loop


@pytest.fixture
def other(session):
    """A second connection to the session's store, as another process has."""
    with closing(sqlite3.connect(session.store.path, timeout=0, isolation_level=None)) as connection:
        yield connection


def start_and_wait_for_claims(session, fake, other, **settings):
    fake.gate = asyncio.Event()
    started = session.start(**settings)
    while not other.execute("SELECT count(*) FROM jobs WHERE owner NOT NULL").fetchone()[0]:
        time.sleep(0.01)
    return started


def test_a_store_that_fails_at_the_end_is_raised_and_cancel_returns(session, monkeypatch):
    def end(self, busy_s=0.0):
        raise StoreError("the disk is full")

    monkeypatch.setattr(work.Work, "end", end)
    events = []
    started = session.start()
    started.add_callback(events.append)
    with pytest.raises(StoreError, match="the disk is full"):
        started.wait(60)
    started.cancel()
    assert events[-1] == RunEnded("the disk is full")


def test_a_store_that_fails_between_windows_is_raised_as_itself(session, monkeypatch):
    claims, claim = [], work.Work.claim

    def claim_once(self, *arguments):
        claims.append(arguments)
        if len(claims) > 1:
            raise StoreError("the disk is full")
        return claim(self, *arguments)

    monkeypatch.setattr(work.Work, "claim", claim_once)
    with pytest.raises(StoreError, match="the disk is full"):
        session.start(batch_size=1).wait(60)


def test_a_lease_that_expired_in_a_sleep_makes_no_window_run_twice(session, fake, other):
    started = start_and_wait_for_claims(session, fake, other, batch_size=1)
    other.execute("UPDATE workers SET lease = 1")
    loop.submit(fake.open_gate()).result()
    assert started.wait(60).status == "done"
    assert sorted(start for start, _ in fake.calls) == ["0.00", "17.07", "25.60", "8.53"]


def test_a_lease_is_renewed_again_after_a_failed_try(session, fake, other, monkeypatch):
    tries, renew = [], work.Work.renew

    def renew_later(self):
        tries.append(self)
        if len(tries) == 2:
            raise StoreError("locked")
        renew(self)

    monkeypatch.setattr(work.Work, "renew", renew_later)
    monkeypatch.setattr(task, "RENEW_S", 0.01)
    started = start_and_wait_for_claims(session, fake, other)
    while len(tries) < 4:
        time.sleep(0.01)
    assert started.status == "running"
    started.cancel()


def test_a_renewal_behind_the_end_leaves_no_lease(tmp_path):
    store = Store(tmp_path / "runs.sqlite")
    run = begin(store)
    ended, _ = claimed(store, run)
    ended.end()
    ended.renew()
    assert not store.counts(run).working
    store.close()


def test_counts_are_read_while_another_process_writes(session, fake, other):
    started = start_and_wait_for_claims(session, fake, other)
    other.execute("BEGIN IMMEDIATE")
    assert started.status == "running"
    assert started.progress.total == 4
    other.execute("ROLLBACK")
    started.cancel()


def test_an_interrupt_right_after_a_transaction_begins_leaves_none_open(tmp_path):
    store = Store(tmp_path / "runs.sqlite")
    connection = store._file._db

    class Interrupted:
        in_transaction = property(lambda self: connection.in_transaction)

        def execute(self, statement, *values):
            done = connection.execute(statement, *values)
            if statement == "BEGIN IMMEDIATE":
                raise KeyboardInterrupt
            return done

    store._file._db = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        begin(store)
    store._file._db = connection
    assert not connection.in_transaction
    assert begin(store) == 1
    store.close()


def test_an_engine_that_is_gone_ends_the_run_and_its_windows_stay_open(session, fake):
    fake.broken = EngineGoneError("the engine was closed")
    with pytest.raises(EngineGoneError, match="the engine was closed"):
        session.caption()
    run = session.open(1)
    assert (run.status, run.progress.failed) == ("interrupted", 0)
    fake.broken = None
    assert session.caption().status == "done"


def test_a_run_found_again_takes_over_what_other_runs_captioned_since(session, fake, other):
    whole = start_and_wait_for_claims(session, fake, other).cancel()
    fake.gate = None
    session.caption(windows=session.windows.head(3))
    again = session.caption()
    assert (again.id, again.status, len(fake.calls)) == (whole.id, "done", 4)
    assert other.execute("SELECT count(*) FROM results").fetchone() == (4,)


def test_an_interrupted_try_is_replaced_by_the_caption_of_another_run(tmp_path):
    store = Store(tmp_path / "runs.sqlite")
    run = begin(store)
    part, jobs = claimed(store, run)
    part.add_caption(jobs[0], replace(CAPTION, text="Half of it"))
    part.end()
    done(store, begin(store, windows=WINDOWS[:1]), 0, "All of it.")
    assert begin(store) == run
    assert list(open_run(run, store).captions["text"]) == ["All of it."]
    store.close()
    with closing(sqlite3.connect(tmp_path / "runs.sqlite")) as file:
        assert file.execute("SELECT count(*) FROM results").fetchone() == (1,)


def test_each_run_keeps_the_numbers_of_its_own_session(session, fake):
    path = str(VIDEOS / "harbour.mp4")
    run = session.caption()
    part = ck.VideoTask(ck.Video(path, clips=[ck.Clip(path, windows=[ck.Window(256, 511)])]))
    second = ck.Session(part, store=session.store, backend=fake)
    assert list(second.caption().captions["window"]) == [0]
    second.close()
    assert list(run.captions["window"]) == [0, 1, 2, 3]
    run.rate("harbour", 1, 5)
    assert list(run.captions["rating"].notna()) == [False, True, False, False]


def test_a_session_leaves_a_store_open_that_it_was_given(session):
    session.recut(128).close()
    assert session.caption().status == "done"


def test_async_for_ends_at_once_for_a_task_that_has_ended(session):
    started = session.start()
    started.wait(60)

    async def windows():
        return [event async for event in started]

    assert asyncio.run(asyncio.wait_for(windows(), 60)) == []


def test_a_deleted_run_has_the_status_deleted(session):
    run = session.caption()
    run.delete()
    assert run.status == "deleted"


@pytest.fixture
def command(fake, monkeypatch):
    """The command ``caption`` with the fake as its backend."""
    made = caption_command.Session
    monkeypatch.setattr(caption_command, "Session", lambda *a, **k: made(*a, **{**k, "backend": fake}))

    def run(*arguments) -> int:
        return main(["caption", *map(str, arguments)])

    return run


def test_the_command_line_tries_failed_windows_again(command, fake, harbour, tmp_path):
    fake.fail = {"8.53"}
    options = [harbour, "--store", tmp_path / "runs.sqlite", "--out", tmp_path / "captions.jsonl"]
    assert command(*options) == 1
    fake.fail = set()
    assert command(*options) == 0
    assert len(fake.calls) == 4
    assert ck.load_captions(tmp_path / "captions.jsonl")["error"].isna().all()


def test_an_output_file_that_is_an_input_is_refused(command, harbour, tmp_path, capsys):
    film = tmp_path / "film.mp4"
    film.write_bytes((VIDEOS / "harbour.mp4").read_bytes())
    assert command(tmp_path, "--store", tmp_path / "runs.sqlite", "--out", film) == 2
    assert "is one of the videos" in capsys.readouterr().err
    assert film.stat().st_size == (VIDEOS / "harbour.mp4").stat().st_size


def delete(path):
    for each in path.parent.glob(f"{path.name}*"):
        each.unlink()


def replace_by_a_new_store(path):
    delete(path)
    Store(path).close()


def replace_by_another_file(path):
    (path.parent / "another").write_bytes(b"")
    (path.parent / "another").replace(path)


def move(path):
    path.rename(path.with_name("moved.sqlite"))


@pytest.mark.parametrize("lose", [delete, replace_by_a_new_store, replace_by_another_file, move])
def test_a_run_on_a_store_that_was_lost_while_open_says_so_and_captions_nothing(session, fake, lose):
    lose(session.store.path)
    with pytest.raises(StoreError, match=r"runs.sqlite was .* while it was open; .*new session"):
        session.caption("Say what it is.")
    assert not fake.calls


@pytest.mark.parametrize("lose", [delete, replace_by_a_new_store, replace_by_another_file, move])
def test_captions_of_a_store_that_is_lost_during_a_run_can_be_exported(
    session, fake, other, lose, tmp_path
):
    started = start_and_wait_for_claims(session, fake, other)
    lose(session.store.path)
    loop.submit(fake.open_gate()).result()
    with pytest.raises(StoreError, match=r"was .* while it was open; .*are in memory only") as failure:
        started.wait(60)
    assert f"ck.open_run({started.run.id}, session.store).export" in str(failure.value)
    kept = ck.open_run(started.run.id, session.store).export(tmp_path / "kept.csv")
    assert len(ck.load_captions(kept)) == 4


def test_the_command_fails_if_its_store_is_lost_during_the_run(session, fake, monkeypatch, capsys):
    path = session.store.path
    finish = work.Work.finish

    def finish_and_lose(self, *arguments):
        finish(self, *arguments)
        path.unlink(missing_ok=True)

    monkeypatch.setattr(work.Work, "finish", finish_and_lose)
    monkeypatch.setattr(ck.Session, "open_backend", lambda *_: fake)
    assert main(["caption", str(VIDEOS / "harbour.mp4"), f"--store={path}"]) == 1
    shown = capsys.readouterr()
    assert "deleted or moved while it was open" in shown.err
    assert "4 of 4" not in shown.out + shown.err.splitlines()[-1]


def test_a_store_whose_file_alone_was_replaced_is_named_as_the_reason(session):
    session.store.path.unlink()
    Store(session.store.path).close()
    with pytest.raises(StoreError, match="was replaced by another file while it was open"):
        session.caption("Say what it is.")


class FailsOnce:
    """A connection whose disk fails at one of its commits."""

    def __init__(self, connection, commit):
        self._connection, self._left = connection, commit

    def __getattr__(self, name):
        return getattr(self._connection, name)

    def execute(self, statement, *values):
        if statement == "COMMIT":
            self._left -= 1
            if not self._left:
                raise sqlite3.OperationalError("disk I/O error")
        return self._connection.execute(statement, *values)


@pytest.mark.parametrize("commit", [1, 2, 3, 5, 8])
def test_a_disk_that_fails_once_is_named_and_costs_no_earlier_caption(session, fake, commit):
    session.caption("Say it.", windows=session.windows.head(1))
    connection = session.store._file._db
    session.store._file._db = FailsOnce(connection, commit)
    with pytest.raises(StoreError, match=r"disk I/O error; the disk may.* goes on from there"):
        session.caption("Say it.", batch_size=1)
    session.store._file._db = connection
    assert not connection.in_transaction
    run = session.caption("Say it.")
    assert (run.status, run.progress.done) == ("done", 4)
    assert list(run.captions["window"]) == [0, 1, 2, 3]
    assert len(fake.calls) <= 5


def test_a_disk_that_fails_during_an_export_keeps_the_earlier_file(session, tmp_path, monkeypatch):
    run = session.caption("Say it.")
    path = run.export(tmp_path / "out" / "captions.csv")
    before = path.read_bytes()

    def fsync(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("os.fsync", fsync)
    with pytest.raises(ck.export.ExportError, match=r"cannot write .*\.csv: Input/output error"):
        run.export(path, overwrite=True)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
