"""JSON lines: complete lines, even if the disk is full."""

from __future__ import annotations

import json
import subprocess

import programs
import pytest
import stores

import captionkit as ck
from captionkit.captions import COLUMNS, caption_rows, window_columns
from captionkit.export import ExportError, JsonLines
from captionkit.recipe import Recipe

COLUMNS_OF_A_WINDOW = window_columns(stores.window(0))


def test_a_line_holds_the_columns_of_a_caption_row(tmp_path):
    path = tmp_path / "out.jsonl"
    odd = stores.replace(stores.CAPTION, text='A "red" boat\n🎬 </script>\ud800')
    with JsonLines(path) as lines:
        for rows in (
            caption_rows(COLUMNS_OF_A_WINDOW, Recipe(), [odd]),
            caption_rows(COLUMNS_OF_A_WINDOW, Recipe(), [], "it broke", ["damaged"]),
        ):
            lines.write([vars(row) for row in rows])
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert tuple(first) == tuple(second) == COLUMNS
    for name in COLUMNS:
        assert f"{name}" in (ck.CaptionRow.__doc__ or "")
    assert first["text"].startswith('A "red" boat\n🎬')
    assert (first["key"], first["path"], first["fps"]) == ("film-0", "film.mp4", 30.0)
    assert Recipe.from_json(first["recipe"]) == Recipe()
    assert (second["text"], second["error"], second["warnings"]) == (None, "it broke", "damaged")


def test_lines_before_a_failed_write_are_complete(tmp_path):
    path = tmp_path / "out.jsonl"
    process = programs.start("full_disk", path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    printed, errors = process.communicate()
    written = path.read_text()
    assert written.endswith("\n")
    assert len([json.loads(line) for line in written.splitlines()]) == int(printed) > 2
    assert f"cannot write {path}: File too large; the {int(printed)} windows" in errors


def test_a_path_that_cannot_be_written_is_named_in_the_error(tmp_path):
    with pytest.raises(ExportError, match=r"cannot write .*nowhere/out\.jsonl: No such file"):
        JsonLines(tmp_path / "nowhere" / "out.jsonl")
