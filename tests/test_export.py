"""JSON lines: complete lines of one process, even if the disk is full."""

from __future__ import annotations

import contextlib
import errno
import json
import os
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


def failed_rows(error):
    return [vars(row) for row in caption_rows(COLUMNS_OF_A_WINDOW, Recipe(), [], error)]


def test_a_second_process_cannot_write_a_file_and_leaves_it_intact(tmp_path):
    path = tmp_path / "out.jsonl"
    refusal = f"{path} is being written by another process; give another file"
    with JsonLines(path) as lines:
        # Refuse before the first line too, while the winner's file is empty.
        for count in range(2):
            process = programs.start("full_disk", path, stderr=subprocess.PIPE)
            assert refusal in process.communicate()[1]
            assert process.returncode
            assert [each.name for each in tmp_path.iterdir()] == ["out.jsonl"]
            assert path.read_text().count("\n") == count
            lines.write(failed_rows("it broke"))
    assert ck.load_captions(path)["error"].tolist() == ["it broke"] * 2


def test_a_closed_file_is_free_even_if_a_forked_process_holds_it(tmp_path):
    path = tmp_path / "out.jsonl"
    lines = JsonLines(path)
    copy = os.dup(lines._file.fileno())  # shares the open file, as a fork does
    lines.write(failed_rows("first"))
    lines.close()
    lines.close()
    with JsonLines(path) as again:
        again.write(failed_rows("second"))
    os.close(copy)
    assert ck.load_captions(path)["error"].tolist() == ["second"]
    assert "first" in (tmp_path / "out.jsonl.bak").read_text()


def test_a_file_renamed_between_opening_and_locking_is_opened_anew(tmp_path, monkeypatch):
    path = tmp_path / "out.jsonl"
    path.write_text("earlier\n")
    locked = []

    def lock(file, given):
        if not locked:
            given.rename(tmp_path / "of-the-other")
        locked.append(file)

    monkeypatch.setattr("captionkit.export.lines._lock", lock)
    with JsonLines(path) as lines:
        lines.write(failed_rows("it broke"))
    assert len(locked) == 2
    assert (tmp_path / "of-the-other").read_text() == "earlier\n"
    assert ck.load_captions(path)["error"].tolist() == ["it broke"]
    assert not (tmp_path / "out.jsonl.bak").exists()


@pytest.mark.parametrize(("code", "written"), [(errno.ENOSYS, True), (errno.EIO, False)])
def test_a_file_system_without_locks_is_written_to_all_the_same(tmp_path, monkeypatch, code, written):
    def flock(file, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", flock)
    with (
        contextlib.nullcontext() if written else pytest.raises(ExportError, match="cannot write"),
        JsonLines(tmp_path / "out.jsonl") as lines,
    ):
        lines.write(failed_rows("it broke"))


def test_a_link_is_appended_to_and_stays_a_link(tmp_path):
    log, link = tmp_path / "log", tmp_path / "out.jsonl"
    log.write_text("earlier\n")
    link.symlink_to(log)
    with JsonLines(link) as lines:
        lines.write(failed_rows("it broke"))
        with pytest.raises(ExportError, match="another process"):
            JsonLines(log)
    assert link.is_symlink()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["log", "out.jsonl"]
    first, second = log.read_text().splitlines()
    assert first == "earlier"
    assert json.loads(second)["error"] == "it broke"


def test_a_failed_write_to_a_link_keeps_the_content_before_it(tmp_path):
    log, link = tmp_path / "log", tmp_path / "out.jsonl"
    log.write_text("earlier\n")
    link.symlink_to(log)
    process = programs.start("full_disk", link, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    printed, _ = process.communicate()
    first, *rest = log.read_text().splitlines()
    assert first == "earlier"
    assert len([json.loads(line) for line in rest]) == int(printed) > 2


def test_a_pipe_is_written_to(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with JsonLines(path) as lines:
        lines.write(failed_rows("it broke"))
    assert json.loads(os.read(reader, 65536))["error"] == "it broke"
    os.close(reader)
    assert [each.name for each in tmp_path.iterdir()] == ["pipe"]
