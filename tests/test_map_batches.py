"""A recipe as a function over batches, as Ray Data, `datasets` and Daft call it."""

from __future__ import annotations

import asyncio
import json
import math
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import programs
import pyarrow as pa
import pytest
from common import VIDEOS

import captionkit as ck
from captionkit.captions import COLUMNS
from captionkit.scale import map_batches

WINTER = str(VIDEOS / "winter.mp4")
RECIPE = ck.Recipe(prompt="Say it.", stage2="More: {caption}")


def test_paths_and_bytes_go_in_and_a_row_for_each_stage_comes_out(fake):
    run = map_batches(RECIPE, backend=fake)
    content = (VIDEOS / "winter.mp4").read_bytes()
    out = run({"video": [WINTER, content, {"bytes": None, "path": WINTER}]})
    assert tuple(out) == COLUMNS
    assert out["window"] == [0, 0, 1, 1, 2, 2] * 3
    assert out["stage"] == [1, 2] * 9
    assert out["text"][:2] == ["Say it. at 0.00.", "Say it. at 0.00. More of it."]
    assert out["key"][:6] == out["key"][6:12]
    assert out["path"][0] == WINTER and out["path"][6].startswith("sha256-")


def test_rows_of_bytes_with_a_path_name_their_video_by_it(fake):
    content, other = (Path(each).read_bytes() for each in (WINTER, VIDEOS / "river.mp4"))
    films = [{"bytes": content, "path": "a/one.mp4"}, {"bytes": other, "path": "a/one.mp4"}, content]
    films.append({"bytes": b"no video", "path": "b/two.mp4"})
    out = map_batches(ck.Recipe(prompt="Say it."), backend=fake)({"video": films})
    assert out["path"][:6] == ["a/one.mp4"] * 6
    assert out["path"][6].startswith("sha256-") and out["path"][9] == "b/two.mp4"
    assert out["video"][:1] + out["video"][9:] == ["one", "two"]
    # The same content has the same keys, whatever its name.
    assert out["key"][:3] == out["key"][6:9] and out["key"][0] != out["key"][3]


def test_a_bad_video_and_a_bad_window_are_rows_with_their_errors(fake):
    fake.fail = {"8.53"}
    out = map_batches(RECIPE, backend=fake)({"video": [b"no video", WINTER]})
    assert out["window"] == [-1, 0, 0, 1, 2, 2]
    assert [bool(each) for each in out["error"]] == [True, False, False, True, False, False]


@pytest.mark.parametrize(
    "missing",
    [None, math.nan, np.float32("nan"), pd.NA, pd.NaT, "", b"", {"bytes": None, "path": None}],
)
def test_a_missing_video_is_a_row_that_says_so_and_costs_no_neighbour(fake, missing):
    out = map_batches(RECIPE, backend=fake)({"video": [missing, WINTER]})
    assert out["window"] == [-1, 0, 0, 1, 1, 2, 2]
    assert out["error"] == ["there is no video in this row", *[None] * 6]


@pytest.mark.parametrize("kind", ["table", "record batch", "arrays", "pandas", "numpy"])
def test_batches_may_be_of_any_library(fake, kind):
    table = pa.table({"video": [WINTER]})
    batch = {
        "table": table,
        "record batch": table.to_batches()[0],
        "arrays": {"video": table["video"]},
        "pandas": table.to_pandas(),
        "numpy": {"video": np.array([WINTER])},
    }[kind]
    out = map_batches(RECIPE, backend=fake)(batch)
    assert out["window"].to_pylist() == [0, 0, 1, 1, 2, 2]
    assert out.schema == map_batches(RECIPE, backend=fake)(table[:0]).schema


def test_videos_of_one_window_are_captioned_at_once(fake):
    films = [str(each) for each in sorted(VIDEOS.glob("*.mp4"))[:3]]
    films.append((VIDEOS / "winter.mp4").read_bytes())
    assert len(films) == 4
    recipe = ck.Recipe(prompt="Say it.", window_size=2000, remainder_threshold=2, sampling_fps=0.5)
    waiting = asyncio.Event()
    stream, running = fake.stream, []

    async def together(request):
        running.append(request)
        if len(running) == len(films):
            waiting.set()
        await asyncio.wait_for(waiting.wait(), 60)
        async for each in stream(request):
            yield each

    fake.stream = together
    out = map_batches(recipe, backend=fake)({"video": films})
    assert out["error"] == [None] * len(films)
    assert out["path"][:-1] == films[:-1]


@pytest.mark.parametrize("order", [(WINTER, "broken.mp4"), ("broken.mp4", WINTER)])
def test_datasets_map_goes_on_behind_a_film_that_cannot_be_read(fake, tmp_path, monkeypatch, order):
    datasets = pytest.importorskip("datasets", reason="needs Hugging Face datasets")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    run = map_batches(RECIPE, backend=fake)
    table = datasets.Dataset.from_dict({"video": list(order)}).map(
        run, batched=True, batch_size=1, remove_columns=["video"]
    )
    assert sorted(table["window"][:]) == [-1, 0, 0, 1, 1, 2, 2]
    assert sum(each is not None for each in table["error"][:]) == 1


def test_a_streaming_dataset_calls_it_as_well(fake):
    datasets = pytest.importorskip("datasets", reason="needs Hugging Face datasets")
    run = map_batches(RECIPE, backend=fake)
    films = datasets.IterableDataset.from_generator(lambda: iter([{"video": WINTER}] * 3))
    how = {"batched": True, "batch_size": 2, "remove_columns": ["video"]}
    rows = list(films.map(run, **how))
    assert [row["window"] for row in rows] == [0, 0, 1, 1, 2, 2] * 3
    assert set(rows[0]) == set(COLUMNS)
    tables = films.with_format("arrow").map(run, **how)
    assert pa.concat_tables(tables)["window"].to_pylist() == [0, 0, 1, 1, 2, 2] * 3


@pytest.mark.parametrize("name", ["x" * 300 + ".mp4", os.fsdecode(b"a\xe4.mp4"), "\ud800.mp4"])
def test_a_name_that_no_file_can_have_is_a_row_and_costs_no_neighbour(fake, name):
    for batch in ({"video": [WINTER, name]}, {"video": np.array([name, WINTER])}):
        out = map_batches(RECIPE, backend=fake)(batch)
        out = out if isinstance(out, dict) else out.to_pydict()
        assert sorted(out["window"]) == [-1, 0, 0, 1, 1, 2, 2]
        (error,) = filter(None, out["error"])
        assert ("name" in error and "rename" in error) or "too long" in error


def test_a_process_forked_behind_a_first_call_captions_as_well():
    assert programs.run("forked_batches", WINTER).splitlines()[-1] == "Say it. at 0.00."


def test_what_does_not_fit_is_refused_by_name(fake):
    with pytest.raises(ValueError, match="batch_size is 0"):
        map_batches(RECIPE, batch_size=0)
    with pytest.raises(TypeError, match="unknown argument batchsize"):
        map_batches(RECIPE, batchsize=3)
    with pytest.raises(ValueError, match="memory_share"):
        map_batches(RECIPE, memory_share=3)
    with pytest.raises(ValueError, match="takes stage 1 from a session's store"):
        map_batches(ck.Recipe(stage2="More: {caption}", given="0123456789abcdef"))
    run = map_batches(RECIPE, column="film", backend=fake)
    with pytest.raises(KeyError, match="no column 'film' but video"):
        run({"video": [WINTER]})
    twice = pa.Table.from_arrays([pa.array(["a.mp4"]), pa.array([WINTER])], names=["film", "film"])
    for batch in (twice, pd.DataFrame([[WINTER, WINTER]], columns=["film", "film"])):
        with pytest.raises(ValueError, match="the batch has 2 columns 'film'"):
            run(batch)
    with pytest.raises(TypeError, match="a video is a int; give a path"):
        run({"film": [3]})
    with pytest.raises(TypeError, match="the column 'film' is a str; give a list"):
        run({"film": WINTER})


def test_one_videos_rows_are_the_batchs_row_by_row(fake):
    run = map_batches(RECIPE, backend=fake)
    rows = list(run.rows(WINTER))
    assert [(row["window"], row["stage"]) for row in rows] == [(n, s) for n in range(3) for s in (1, 2)]
    assert rows[1]["text"] == "Say it. at 0.00. More of it."
    for row in rows:
        assert all(value is None or isinstance(value, run.kinds[name]) for name, value in row.items())


def test_daft_calls_it_for_each_video_and_has_a_row_for_each_caption(fake):
    daft = pytest.importorskip(
        "daft", reason="needs Daft: pip install daft (CI has it beside other Pythons)"
    )
    captions = map_batches(RECIPE, backend=fake)
    kinds = {name: daft.DataType.infer_from_type(kind) for name, kind in captions.kinds.items()}

    @daft.func(return_dtype=daft.DataType.struct(kinds), unnest=True, use_process=False)
    def caption(video: str) -> Iterator[dict]:
        yield from captions.rows(video)

    films = daft.from_pydict({"video": [WINTER, str(VIDEOS / "river.mp4")]})
    out = films.select(caption(films["video"])).to_pydict()
    assert tuple(out) == COLUMNS
    assert out["video"] == ["winter"] * 6 + ["river"] * 6
    assert out["text"][1] == "Say it. at 0.00. More of it."


@pytest.mark.engine
def test_ray_data_calls_it_in_processes_of_its_own(tmp_path):
    """Runs beside the tests with an engine, because Ray comes with these; its backend is a fake."""
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    rows = json.loads(programs.run("ray_batches", WINTER, broken).splitlines()[-1])
    assert tuple(rows[0]) == COLUMNS
    assert [row["text"] for row in rows] == [
        "Say it. at 0.00.",
        "Say it. at 8.53.",
        "Say it. at 17.07.",
        None,
    ]
    assert rows[3]["path"] == str(broken) and "cannot be read as a video" in rows[3]["error"]


def test_the_function_can_be_sent_to_other_processes():
    again = pickle.loads(pickle.dumps(map_batches(RECIPE, column="film")))
    assert (again.recipe, again.column) == (RECIPE, "film")


@pytest.mark.engine
def test_datasets_map_calls_it_with_one_engine_for_all_batches():
    datasets = pytest.importorskip("datasets", reason="needs Hugging Face datasets")
    from captionkit.engine import Engine

    films = datasets.Dataset.from_dict({"video": [WINTER, str(VIDEOS / "river.mp4")]})
    engines = []
    captions = map_batches(ck.Recipe(prompt="short", max_tokens=16))

    def run(batch):
        rows = captions(batch)
        engines.append(Engine.live())
        return rows

    table = films.map(run, batched=True, batch_size=1, remove_columns=["video"])
    assert tuple(table.column_names) == COLUMNS
    assert table["window"][:] == [0, 1, 2, 0, 1, 2]
    assert all(table["text"][:])
    assert len(engines) == 2 and engines[0] is engines[1]
