"""Captions read back: parts of Ray in any state, and files with values that do not fit."""

from __future__ import annotations

import csv
import json
import os
import threading

import pandas as pd
import pytest
import stores

import captionkit as ck
from captionkit.captions import COLUMNS, captions_table, window_columns
from captionkit.export import ExportError

ROW = {"video": "film", "path": "film.mp4", "window": 0, "stage": 1, "text": "A boat.", "start_s": 0.0}


def row(path="film.mp4", window=0, stage=1, text="A boat.", error=None, **more):
    changed = {"path": path, "window": window, "stage": stage, "repeat": 0, "error": error}
    text = None if error else text
    return {**window_columns(stores.window(0)), **changed, "text": text, **more}


def write_part(folder, name, rows, age_s=0):
    """Write a part that is ``age_s`` seconds old."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.parquet"
    captions_table([{**dict.fromkeys(COLUMNS), **each} for each in rows]).to_parquet(path, index=False)
    os.utime(path, (1e9 - age_s, 1e9 - age_s))
    return path


def found(folder):
    table = ck.load_captions(folder)
    assert tuple(table.columns) == COLUMNS
    return list(table[["window", "stage", "text", "error"]].itertuples(index=False, name=None))


@pytest.mark.parametrize("name", ["parts", "other"])
def test_a_folder_of_parts_may_have_any_name(tmp_path, name, monkeypatch):
    folder = tmp_path / name
    path = write_part(folder, "a", [row()])
    write_part(folder, "b", [row(window=1)])
    both = [(0, 1, "A boat.", None), (1, 1, "A boat.", None)]
    assert found(folder) == both
    assert found(path) == both[:1]
    monkeypatch.chdir(folder)
    assert found(".") == both


def test_an_empty_part_is_skipped(tmp_path):
    write_part(tmp_path, "a", [])
    with pytest.raises(ExportError, match="holds no captions"):
        ck.load_captions(tmp_path)
    with pytest.raises(ExportError, match=r"a\.parquet holds no captions"):
        ck.load_captions(tmp_path / "a.parquet")
    write_part(tmp_path, "b", [row()])
    assert found(tmp_path) == [(0, 1, "A boat.", None)]


def test_a_part_that_is_gone_is_named(tmp_path):
    (tmp_path / "a.parquet").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ExportError, match=r"cannot read .*: .*a\.parquet"):
        ck.load_captions(tmp_path)


def test_parts_without_paths_keep_the_windows_of_each_video(tmp_path):
    write_part(tmp_path, "a", [row(None), row(None, video="other", text="A tram.")])
    write_part(tmp_path, "b", [row(None, 1, error="it broke"), row(None, video="third", error="no")])
    table = ck.load_captions(tmp_path)
    assert list(table["video"]) == ["film", "film", "other", "third"]
    assert table["path"].isna().all()


def test_of_two_failures_of_a_window_the_last_one_is_kept(tmp_path):
    broke = [row(text="First."), row(stage=2, error="it broke")]
    write_part(tmp_path, "a", [row(text="Again."), row(stage=2, error="it broke again")])
    write_part(tmp_path, "b", broke, age_s=60)
    assert found(tmp_path) == [(0, 1, "Again.", None), (0, 2, None, "it broke again")]
    # A failure of stage 1 leaves neither the caption nor the error of the try before.
    write_part(tmp_path, "a", [row(error="out of memory")])
    assert found(tmp_path) == [(0, 1, None, "out of memory")]
    # A window that is done in an earlier part stays done.
    write_part(tmp_path, "c", [row(text="Done."), row(stage=2, text="More.")], age_s=99)
    assert found(tmp_path) == [(0, 1, "Done.", None), (0, 2, "More.", None)]


def test_a_video_that_cannot_be_read_has_one_row_beside_the_captions_of_other_tries(tmp_path):
    write_part(tmp_path, "a", [row(window=-1, error="cannot be read")])
    write_part(tmp_path, "b", [row(window=-1, error="cannot be opened")], age_s=60)
    assert found(tmp_path) == [(-1, 1, None, "cannot be read")]
    write_part(tmp_path, "c", [row(error="it broke"), row(window=1)], age_s=99)
    unread = (-1, 1, None, "cannot be read")
    assert found(tmp_path) == [unread, (0, 1, None, "it broke"), (1, 1, "A boat.", None)]


def test_a_failed_repeat_of_a_captioned_window_is_kept(tmp_path):
    write_part(tmp_path, "a", [row(repeat=0)])
    write_part(tmp_path, "b", [row(repeat=1, error="it broke")])
    assert found(tmp_path) == [(0, 1, "A boat.", None), (0, 1, None, "it broke")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start_s": 10**400}, r"start_s is 10{59}…, which is too large"),
        ({"window": 2**53 + 1}, "window is 9007199254740993, which is too large"),
        ({"window": float("inf")}, "window is inf, which is not a whole number"),
        ({"text": "\ud800"}, r"'text' holds half of a surrogate pair: '\\ud800'"),
        ({"\udfff": 1}, "holds half of a surrogate pair"),
    ],
)
def test_a_value_of_a_json_line_that_does_not_fit_is_named_with_its_line(tmp_path, change, message):
    path = tmp_path / "a.jsonl"
    path.write_text(f"{json.dumps(ROW)}\n{json.dumps({**ROW, **change})}\n")
    with pytest.raises(ExportError, match=f"a.jsonl, line 2: .*{message}"):
        ck.load_captions(path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("window", "inf", "window is 'inf', which is not a whole number"),
        ("window", "nan", "window is 'nan', which is not a whole number"),
        ("window", "1.7", "window is '1.7', which is not a whole number"),
        ("window", "1e30", "window is 10{15}.*, which is too large"),
        ("start_s", "1,5", "start_s is '1,5', which is not a number"),
    ],
)
def test_a_cell_of_a_csv_that_does_not_fit_is_named_with_its_line(tmp_path, name, value, message):
    path = tmp_path / "a.csv"
    pd.DataFrame([ROW, {**ROW, name: value}]).to_csv(path, index=False)
    with pytest.raises(ExportError, match=f"a.csv, line 3: {message}"):
        ck.load_captions(path)


@pytest.mark.parametrize("value", [float("inf"), 1.7, 1e30])
def test_a_number_of_parquet_that_does_not_fit_is_named_with_its_row(tmp_path, value):
    path = tmp_path / "a.parquet"
    pd.DataFrame([{**ROW, "window": 0.0}, {**ROW, "window": value}]).to_parquet(path)
    with pytest.raises(ExportError, match=r"a.parquet, row 1: window is .*, which is "):
        ck.load_captions(path)


def test_whole_numbers_that_a_table_saved_as_floats_are_read(tmp_path):
    table = pd.DataFrame([{**ROW, "rating": 4.0}, {**ROW, "window": 2**53, "rating": None}])
    for suffix, write in (("csv", table.to_csv), ("parquet", table.to_parquet)):
        write(tmp_path / f"a.{suffix}", index=False)
        loaded = ck.load_captions(tmp_path / f"a.{suffix}")
        assert loaded["window"].tolist() == [0, 2**53]
        assert loaded["rating"].tolist() == [4, pd.NA]


def test_a_text_of_any_length_is_read_from_a_csv_and_the_limit_of_others_stays(tmp_path):
    path = tmp_path / "a.csv"
    text = "A long shot. " * 50_000
    pd.DataFrame([{**ROW, "text": text}]).to_csv(path, index=False)
    limit = csv.field_size_limit()
    texts = []
    threads = [
        threading.Thread(target=lambda: texts.append(ck.load_captions(path)["text"].item()))
        for _ in range(4)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert texts == [text] * 4
    path.write_text('video,text\n"a" b,c\n')
    with pytest.raises(ExportError, match="not a sound CSV"):
        ck.load_captions(path)
    assert csv.field_size_limit() == limit
