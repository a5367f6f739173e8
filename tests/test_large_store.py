"""A store of many captions: pages are read by indexes, exports hold some windows at a time.

``python -m pytest --million tests/test_large_store.py`` also measures a store of a million captions.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import closing

import pandas as pd
import programs
import pytest
from million import fill

import captionkit as ck
from captionkit.export import base
from captionkit.run import open_run
from captionkit.store import Store

COUNT = 250


@pytest.fixture
def large(tmp_path):
    with closing(Store(tmp_path / "runs.sqlite")) as store:
        fill(store, COUNT)
        yield store


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet", "html", "vtt", "srt", "nemo"])
def test_no_export_has_more_than_some_windows_in_memory(large, tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(base, "AT_ONCE", 40)
    monkeypatch.setattr(sys.modules["captionkit.export.formats.curator"], "AT_ONCE", 40)
    sizes, rows = [], large.results.rows

    def counted(*values):
        found = rows(*values)
        sizes.append(len(found))
        return found

    monkeypatch.setattr(large.results, "rows", counted)
    written = open_run(1, large).export(tmp_path / f"out.{suffix}", suffix)
    assert max(sizes) == 40
    if suffix in ("jsonl", "csv", "parquet", "html"):
        loaded = ck.load_captions(written)
        assert list(loaded["window"]) == list(range(COUNT))
        pd.testing.assert_frame_equal(loaded, open_run(1, large).captions)
    elif suffix == "nemo":
        assert written.read_text().count('"start_frame"') == COUNT
    else:
        assert written.read_text().count("-->") == COUNT


@pytest.mark.parametrize("done", [0, COUNT // 2])
def test_a_claim_reads_no_job_that_is_done(tmp_path, done):
    """Count the rows that SQLite steps over: a claim costs the same at any point of a run."""
    with closing(Store(tmp_path / "runs.sqlite")) as store:
        fill(store, COUNT)
        with store._file.transaction() as db:
            db.execute("UPDATE jobs SET state = position < ?", (done,))
        work, steps = store.begin_work(1), 0

        def count():
            nonlocal steps
            steps += 1

        store._file._db.set_progress_handler(count, 1)
        assert [job.position for job in work.claim(4)] == list(range(done, done + 4))
        store._file._db.set_progress_handler(None, 1)
    assert steps < COUNT * 2


@pytest.mark.skipif("not config.getoption('million')", reason="takes minutes; give --million")
@pytest.mark.timeout(1800)
def test_a_store_of_a_million_captions_opens_shows_filters_and_streams_in_time(tmp_path):
    path = tmp_path / "runs.sqlite"
    with closing(Store(path)) as store:
        fill(store, 1_000_000)
    spent = {}
    before = time.perf_counter()
    store = Store(path)
    run = open_run(1, store)
    spent["open"] = time.perf_counter() - before
    for name, ask in {
        "head": run._repr_html_,
        "filter": lambda: store.states([f"w{number:08}" for number in range(500_000, 500_200)]),
    }.items():
        before = time.perf_counter()
        ask()
        spent[name] = time.perf_counter() - before
    store.close()
    export = programs.start("export_size", path, tmp_path / "out.jsonl", stdout=subprocess.PIPE)
    spent["MB of an export"] = float(export.communicate()[0])
    print(spent)
    assert spent["open"] < 1
    assert spent["head"] < 0.3
    assert spent["filter"] < 0.5
    assert spent["MB of an export"] < 500
