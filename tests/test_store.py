"""The store keeps finished work, whatever happens to the process or the file."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import programs
import psutil
import pytest
from stores import CAPTION, WINDOWS, begin, claimed, done, failed, window

from captionkit.recipe import Recipe
from captionkit.run import open_run, runs
from captionkit.store import Store, StoreError, work


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "runs.sqlite")
    yield store
    store.close()


def test_the_same_work_is_the_same_run_and_resumes(store):
    run = begin(store)
    done(store, run, 1)
    assert begin(store) == run
    assert [job.done for job in store.jobs(run)] == [False, True, False, False]
    assert begin(store, fresh=True) != run
    assert begin(store, Recipe(prompt="short")) != run


def test_a_run_on_other_windows_takes_over_finished_ones(store):
    done(store, begin(store), 1, "Known.")
    other = begin(store, windows=WINDOWS[1:3])
    assert [job.done for job in store.jobs(other)] == [True, False]
    assert list(open_run(other, store).captions["text"]) == ["Known."]
    fresh = begin(store, windows=WINDOWS[1:3], fresh=True)
    assert not any(job.done for job in store.jobs(fresh))


def test_a_failed_window_keeps_its_reason_and_is_not_taken_over(store):
    run = begin(store)
    failed(store, run, 0, "broken file", ["damaged"])
    assert store.jobs(run)[0].error == "broken file"
    table = open_run(run, store).captions
    assert list(table["error"]) == ["broken file"]
    assert list(table["warnings"]) == ["damaged"]
    other = begin(store, windows=WINDOWS[:2])
    assert not store.jobs(other)[0].done
    assert store.forget_failures(run) == 1
    assert not store.jobs(run)[0].done


def test_a_stage_is_stored_at_once_and_replaced_by_a_repeat(store):
    run = begin(store, Recipe(stage2="More: {caption}"))
    part, jobs = claimed(store, run)
    part.add_caption(jobs[0], CAPTION)
    assert not store.jobs(run)[0].done
    assert list(open_run(run, store).captions["text"]) == ["A red boat."]
    part.add_caption(jobs[0], replace(CAPTION, text="Again."))
    part.add_caption(jobs[0], replace(CAPTION, stage=2, text="More."))
    part.finish(jobs[0], None)
    assert list(open_run(run, store).captions["text"]) == ["Again.", "More."]


def test_two_workers_share_a_run_and_none_gets_a_job_of_the_other(store, tmp_path):
    run = begin(store)
    other = Store(tmp_path / "runs.sqlite")
    one, two = store.begin_work(run), other.begin_work(run)
    first, second = one.claim(3), two.claim(3)
    assert [job.position for job in first] == [0, 1, 2]
    assert [job.position for job in second] == [3]
    assert (one.claim(3), one.elsewhere(), two.elsewhere()) == ([], 1, 3)
    for part, jobs in ((one, first), (two, second)):
        for job in jobs:
            part.add_caption(job, CAPTION)
            part.finish(job, None)
        part.end()
    assert (store.counts(run).done, store.counts(run).working) == (4, False)
    other.close()


def test_jobs_of_an_ended_worker_or_an_expired_lease_are_free_again(store, monkeypatch):
    run = begin(store)
    left = store.begin_work(run)
    left.claim(2)
    left.end()
    monkeypatch.setattr(work, "LEASE_S", -1.0)
    late = store.begin_work(run)
    jobs = late.claim(4)
    monkeypatch.undo()
    assert len(jobs) == 4
    assert not store.counts(run).working
    now = store.begin_work(run)
    taken = now.claim(4)
    assert [job.position for job in taken] == [0, 1, 2, 3]
    # The late worker has lost its jobs: its later writes are skipped.
    late.add_caption(jobs[0], CAPTION)
    late.finish(jobs[0], "too late")
    assert store.counts(run).failed == 0
    now.add_caption(taken[0], CAPTION)
    now.finish(taken[0], None)
    assert store.counts(run).done == 1


def test_jobs_of_a_killed_process_are_free_at_once(store):
    run = begin(store)
    worker = programs.start("claim", store.path, run, stdout=subprocess.PIPE)
    assert worker.stdout.readline() == "claimed 4\n"
    assert store.counts(run).working
    assert store.begin_work(run).claim(4) == []
    worker.kill()
    worker.communicate()
    assert not store.counts(run).working or store.begin_work(run).elsewhere() == 4
    assert len(store.begin_work(run).claim(4)) == 4


@pytest.mark.parametrize("step_s", [-3600.0, 3600.0])
def test_a_step_of_the_clock_ends_no_lease_and_frees_no_job(store, monkeypatch, step_s):
    run = begin(store)
    worker = programs.start("claim", store.path, run, stdout=subprocess.PIPE)
    assert worker.stdout.readline() == "claimed 4\n"
    now, created = time.time, psutil.Process.create_time
    monkeypatch.setattr(time, "time", lambda: now() + step_s)
    # The start of a process moves with the clock: it is counted from the boot, whose time moves.
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: created(self) + step_s)
    assert store.counts(run).working
    assert store.begin_work(run).claim(4) == []
    worker.kill()
    worker.communicate()
    assert len(store.begin_work(run).claim(4)) == 4


def test_a_worker_from_before_the_machine_was_started_again_holds_no_job(store):
    run = begin(store)
    claimed(store, run)
    with store._file.transaction() as db:
        db.execute("UPDATE workers SET place = 'another-boot pid:[1]'")
    assert not store.counts(run).working
    assert len(store.begin_work(run).claim(4)) == 4


def test_windows_of_a_page_are_found_by_an_index_also_in_an_earlier_store(tmp_path):
    path = tmp_path / "runs.sqlite"
    Store(path).close()
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("DROP INDEX jobs_by_window")
        for table, column in (("results", "texts"), ("jobs", "texts"), ("jobs", "follows")):
            db.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        db.execute("PRAGMA user_version = 3")
    Store(path).close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        query = "EXPLAIN QUERY PLAN SELECT run FROM jobs WHERE window_key IN ('a', 'b')"
        assert "jobs_by_window" in str(db.execute(query).fetchall())


def test_deleting_a_run_keeps_captions_of_another_run(store):
    first = begin(store)
    for position in range(4):
        done(store, first, position)
    second = begin(store, windows=WINDOWS[:1])
    open_run(first, store).delete()
    assert list(runs(store).index) == [second]
    assert len(open_run(second, store).captions) == 1
    with contextlib.closing(sqlite3.connect(store.path)) as db, db:
        assert db.execute("SELECT count(*) FROM captions").fetchone() == (1,)
    with pytest.raises(KeyError, match=f"no run {first}; there are: {second}"):
        open_run(first, store)


def test_history_lists_recipe_counts_rate_and_note(store):
    run = begin(store, Recipe(prompt="short"))
    done(store, run, 0)
    done(store, run, 1)
    failed(store, run, 2, "broken")
    with contextlib.closing(sqlite3.connect(store.path)) as db, db:
        db.execute("UPDATE runs SET busy_s = 4.0")
    open_run(run, store).note("the shorter the better")
    row = runs(store).loc[run]
    assert row["prompt"] == "short"
    assert (row["windows"], row["done"], row["failed"]) == (4, 2, 1)
    assert row["windows_per_s"] == pytest.approx(0.5)
    assert row["note"] == "the shorter the better"


def test_an_empty_store_has_an_empty_history(store):
    assert runs(store).empty


def test_a_store_of_a_newer_version_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "runs.sqlite"
    Store(path).close()
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"newer captionkit \(store version 99.*update captionkit"):
        Store(path)
    assert path.read_bytes() == before


def test_a_store_of_captionkit_0_1_keeps_its_captions_its_recipes_and_its_keys(tmp_path):
    path = tmp_path / "runs.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.executescript((Path(__file__).parent / "store_0_1.sql").read_text())
    store = Store(path)
    run = open_run(1, store)
    assert run.recipe == Recipe(prompt="short", stage2="More: {caption}", max_tokens=64)
    table = run.captions
    assert list(table["text"]) == ["A boat.", "A red boat.", None]
    assert list(table["error"]) == [None, None, "broken file"]
    assert list(table["rating"])[1] == 4
    assert [(job.done, job.error) for job in store.jobs(1)] == [
        (True, None), (True, "broken file"), (False, None),
    ]  # fmt: skip
    # The same recipe on the same windows is not computed again.
    again = store.add_run(run.recipe, [window(0)], repeats=1, batch_size=16, fresh=False)
    assert store.counts(again).done == 1
    store.close()
    Store(path).close()


@pytest.mark.parametrize(
    "content", [b"not a database at all, but long enough to look" * 100, b"\0" * 9000]
)
def test_a_file_that_is_not_a_store_is_refused_with_a_remedy(tmp_path, content):
    path = tmp_path / "runs.sqlite"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged, or not a store"):
        Store(path)
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_refused(tmp_path):
    path = tmp_path / "runs.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE recipes (name TEXT)")
    with pytest.raises(StoreError, match="database of another program"):
        Store(path)


def test_a_damaged_store_is_named_as_damaged(tmp_path):
    path = tmp_path / "runs.sqlite"
    store = Store(path)
    run = begin(store, windows=[window(number) for number in range(300)])
    for position in range(300):
        done(store, run, position)
    store.close()
    data = bytearray(path.read_bytes())
    data[4096 : len(data) // 2] = os.urandom(len(data) // 2 - 4096)
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"malformed|damaged"):
        damaged = Store(path)
        damaged.check()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot make .*file.*give store="):
        Store(tmp_path / "file" / "runs.sqlite")


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="needs a mount of its own")
def test_a_full_disk_is_an_error_and_earlier_captions_stay(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", disk], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("cannot mount here")
    try:
        store = Store(disk / "runs.sqlite")
        run = begin(store, windows=[window(number) for number in range(300)])
        part, jobs = claimed(store, run)
        kept = 0
        with pytest.raises(StoreError, match="disk is full: free some space"):
            for job in jobs.values():
                part.add_caption(job, replace(CAPTION, text="long " * 2000))
                part.finish(job, None)
                kept += 1
        assert kept > 5
        assert sum(job.done for job in store.jobs(run)) == kept
        store.close()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_many_threads_and_processes_may_write_at_once(tmp_path):
    path = tmp_path / "runs.sqlite"
    Store(path).close()
    each = [programs.start("write", path, seed, stderr=subprocess.PIPE) for seed in range(3)]
    for process in each:
        _, errors = process.communicate()
        assert process.returncode == 0, errors[-2000:]
    assert list(runs(path)["done"]) == [50, 50, 50]


def test_threads_and_processes_that_share_a_run_caption_each_window_once(tmp_path):
    path = tmp_path / "runs.sqlite"
    store = Store(path)
    each = [programs.start("write", path, 7, stderr=subprocess.PIPE) for _ in range(3)]
    for process in each:
        _, errors = process.communicate()
        assert process.returncode == 0, errors[-2000:]
    assert list(runs(store)["done"]) == [50]
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        assert db.execute("SELECT count(*) FROM captions").fetchone() == (50,)
        assert db.execute("SELECT count(*) FROM results").fetchone() == (50,)
    store.close()


def test_a_killed_kernel_loses_no_caption_that_it_reported(tmp_path):
    path = tmp_path / "runs.sqlite"
    random.seed(4)
    reported: set[int] = set()
    for _ in range(12):
        process = programs.start("write_and_say", path, stdout=subprocess.PIPE)
        first = process.stdout.readline()
        time.sleep(random.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
        # Skip a last line that the pipe cut off.
        lines = (first + rest).splitlines(keepends=True)
        reported |= {int(line) for line in lines if line.endswith("\n")}
        store = Store(path)
        store.check()
        table = open_run(1, store).captions
        store.close()
        assert (
            dict(zip(table["window"], table["text"], strict=True)).items()
            >= {number: f"Caption {number}." for number in reported}.items()
        )
    # Each of the twelve processes reported at least one caption.
    assert len(reported) >= 12


def test_a_power_cut_leaves_a_sound_store_with_the_earliest_captions(tmp_path):
    """Cut the log of writes anywhere, with old bytes or none after the cut."""
    path = tmp_path / "runs.sqlite"
    store = Store(path)
    windows = [window(number) for number in range(60)]
    run = begin(store, windows=windows)
    for number in range(60):
        done(store, run, number, f"Caption {number}.")
    files = {name: (tmp_path / name).read_bytes() for name in ("runs.sqlite", "runs.sqlite-wal")}
    store.close()
    log = files["runs.sqlite-wal"]
    assert len(log) > 50_000
    rng = random.Random(5)
    kept = []
    for turn in range(40):
        end = rng.randrange(len(log))
        rest = (b"", bytes(len(log) - end), rng.randbytes(len(log) - end))[turn % 3]
        folder = tmp_path / f"cut-{turn}"
        folder.mkdir()
        (folder / "runs.sqlite").write_bytes(files["runs.sqlite"])
        (folder / "runs.sqlite-wal").write_bytes(log[:end] + rest)
        cut = Store(folder / "runs.sqlite")
        try:
            cut.check()
            if not cut.history():
                continue
            texts = open_run(run, cut).captions["text"].dropna().tolist()
            assert texts == [f"Caption {number}." for number in range(len(texts))]
            kept.append(len(texts))
            # Let the lease of the lost worker expire, and resume.
            with cut._file.transaction() as db:
                db.execute("UPDATE workers SET lease = 0")
            part, jobs = claimed(cut, run)
            for job in jobs.values():
                part.add_caption(job, replace(CAPTION, text="After the cut."))
                part.finish(job, None)
            assert cut.counts(run).done == 60
        finally:
            cut.close()
    assert len(set(kept)) > 10


def test_a_read_only_store_is_named_as_not_writable(tmp_path):
    path = tmp_path / "runs.sqlite"
    store = Store(path)
    run = begin(store)
    store._file._db.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreError, match="not writable"):
        done(store, run, 0)
    store.close()


def test_a_window_and_a_rating_may_be_numpys_integers_as_a_table_has_them(session):
    run = session.caption("short")
    row = run.captions.iloc[0]
    assert isinstance(row["window"], np.integer)
    run.rate(row["video"], row["window"], np.int64(4))
    run.edit(row["video"], row["window"], "A boat.")
    kept = run.captions.iloc[0]
    assert (kept["rating"], kept["edited_text"]) == (4, "A boat.")
