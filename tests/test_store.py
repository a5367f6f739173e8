"""The store keeps what was done, whatever happens to the process or the file."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import pytest
from common import ROOT
from stores import CAPTION, WINDOWS, begin, done, window

from captionkit.runs.history import open_run, runs
from captionkit.recipe import Recipe
from captionkit.store import Store, StoreError


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "runs.sqlite")
    yield store
    store.close()


def test_the_same_work_is_the_same_run_and_goes_on_where_it_stopped(store):
    run = begin(store)
    done(store, run, 1)
    assert begin(store) == run
    assert [job.done for job in store.jobs(run)] == [False, True, False, False]
    assert begin(store, fresh=True) != run
    assert begin(store, Recipe(prompt="short")) != run


def test_another_choice_of_windows_takes_over_what_is_done(store):
    done(store, begin(store), 1, "Known.")
    other = begin(store, windows=WINDOWS[1:3])
    assert [job.done for job in store.jobs(other)] == [True, False]
    assert list(open_run(other, store).captions["text"]) == ["Known."]
    fresh = begin(store, windows=WINDOWS[1:3], fresh=True)
    assert not any(job.done for job in store.jobs(fresh))


def test_a_failed_window_is_told_and_not_taken_over(store):
    run = begin(store)
    store.finish(run, 0, 0, "broken file", ["damaged"])
    assert store.jobs(run)[0].error == "broken file"
    table = open_run(run, store).captions
    assert list(table["error"]) == ["broken file"]
    other = begin(store, windows=WINDOWS[:2])
    assert not store.jobs(other)[0].done
    assert store.forget_failures(run) == 1
    assert not store.jobs(run)[0].done


def test_a_stage_is_kept_the_moment_it_is_done_and_replaced_when_done_again(store):
    run = begin(store, Recipe(stage2_prompt="More: {caption}"))
    store.add_caption(run, 0, 0, CAPTION)
    assert not store.jobs(run)[0].done
    assert list(open_run(run, store).captions["text"]) == ["A red boat."]
    store.add_caption(run, 0, 0, replace(CAPTION, text="Again."))
    store.add_caption(run, 0, 0, replace(CAPTION, stage=2, text="More."))
    store.finish(run, 0, 0, None)
    assert list(open_run(run, store).captions["text"]) == ["Again.", "More."]


def test_deleting_a_run_keeps_what_another_run_shows(store):
    first = begin(store)
    for position in range(4):
        done(store, first, position)
    second = begin(store, windows=WINDOWS[:1])
    open_run(first, store).delete()
    assert list(runs(store).index) == [second]
    assert len(open_run(second, store).captions) == 1
    assert store.rows("SELECT count(*) FROM captions") == [(1,)]
    with pytest.raises(KeyError, match=f"no run {first}; there are: {second}"):
        open_run(first, store)


def test_history_lists_recipe_counts_rate_and_note(store):
    run = begin(store, Recipe(prompt="short"))
    done(store, run, 0)
    done(store, run, 1)
    store.finish(run, 2, 0, "broken")
    store.add_busy_time(run, 4.0)
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
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"newer captionkit \(store version 99.*update captionkit"):
        Store(path)
    assert path.read_bytes() == before


def test_an_older_store_is_brought_up_to_date(tmp_path, monkeypatch):
    path = tmp_path / "runs.sqlite"
    store = Store(path)
    run = begin(store)
    store.close()
    monkeypatch.setattr("captionkit.store.VERSION", 2)
    monkeypatch.setattr("captionkit.store.MIGRATIONS", {1: "ALTER TABLE runs ADD COLUMN colour TEXT"})
    store = Store(path)
    assert store.rows("PRAGMA user_version") == [(2,)]
    assert store.rows("SELECT id, colour FROM runs") == [(run, None)]
    store.close()


@pytest.mark.parametrize(
    "content", [b"not a database at all, but long enough to look" * 100, b"\0" * 9000]
)
def test_a_file_that_is_no_store_is_refused_with_the_way_out(tmp_path, content):
    path = tmp_path / "runs.sqlite"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged or no store"):
        Store(path)
    assert path.read_bytes() == content


def test_a_database_of_something_else_is_refused(tmp_path):
    path = tmp_path / "runs.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE recipes (name TEXT)")
    with pytest.raises(StoreError, match="database of something else"):
        Store(path)


def test_a_damaged_store_is_told_as_such(tmp_path):
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
        Store(path).rows("SELECT * FROM runs JOIN jobs ON run = id JOIN captions USING (result)")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot make .*file.*give store="):
        Store(tmp_path / "file" / "runs.sqlite")


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="needs a mount of its own")
def test_a_full_disk_is_told_and_what_was_done_is_there(tmp_path):
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
        kept = 0
        with pytest.raises(StoreError, match="disk is full: make room"):
            for position in range(300):
                done(store, run, position, "long " * 2000)
                kept += 1
        assert kept > 5
        assert sum(job.done for job in store.jobs(run)) == kept
        store.close()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_many_threads_and_processes_may_write_at_once(tmp_path):
    path = tmp_path / "runs.sqlite"
    Store(path).close()
    code = f"""
    import sys
    sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
    from stores import *
    from concurrent.futures import ThreadPoolExecutor
    store = Store({str(path)!r})
    run = begin(store, Recipe(seed=int(sys.argv[1])), [window(n) for n in range(50)])
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda n: done(store, run, n), range(50)))
    """
    each = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(seed)], stderr=subprocess.PIPE
        )
        for seed in range(3)
    ]
    for process in each:
        _, said = process.communicate()
        assert process.returncode == 0, said.decode()[-2000:]
    assert list(runs(path)["done"]) == [50, 50, 50]


def test_a_kernel_that_is_killed_loses_no_caption_that_it_said_was_done(tmp_path):
    path = tmp_path / "runs.sqlite"
    code = f"""
    import sys
    sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
    from stores import *
    from concurrent.futures import ThreadPoolExecutor
    store = Store({str(path)!r})
    run = begin(store, windows=[window(n) for n in range(4000)])
    for job in store.jobs(run):
        if not job.done:
            done(store, run, job.position, f"Caption {{job.position}}.")
            print(job.position, flush=True)
    """
    random.seed(4)
    said: set[int] = set()
    for _ in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
        )
        first = process.stdout.readline()
        time.sleep(random.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
        # The last line may have been cut off in the pipe.
        said |= {int(line) for line in (first + rest).splitlines(keepends=True) if line.endswith("\n")}
        with sqlite3.connect(path) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        store = Store(path)
        table = open_run(1, store).captions
        store.close()
        assert (
            dict(zip(table["window"], table["text"], strict=True)).items()
            >= {number: f"Caption {number}." for number in said}.items()
        )
    assert len(said) > 100


def test_a_power_cut_leaves_a_sound_store_with_the_first_captions_of_what_was_written(tmp_path):
    """After a cut the log of writes may end anywhere, with old or no bytes behind."""
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
            assert cut.rows("PRAGMA integrity_check") == [("ok",)]
            if not cut.rows("SELECT id FROM runs"):
                continue
            texts = open_run(run, cut).captions["text"].dropna().tolist()
            assert texts == [f"Caption {number}." for number in range(len(texts))]
            kept.append(len(texts))
            # It can be gone on with.
            done(cut, run, 59, "After the cut.")
        finally:
            cut.close()
    assert len(set(kept)) > 10


def test_a_store_that_may_only_be_read_says_so(tmp_path):
    path = tmp_path / "runs.sqlite"
    store = Store(path)
    run = begin(store)
    store._db.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreError, match="cannot be written"):
        done(store, run, 0)
    store.close()
