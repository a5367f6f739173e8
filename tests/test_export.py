"""JSON lines: whole lines, also when the disk is full."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from captionkit.export import ExportError, JsonLines
from captionkit.recipe import Recipe
from captionkit.stages.tasks import Clip, Window

CLIP = Clip("a.mp4", windows=[Window(0, 255, start_s=0.0, end_s=8.5)])


def test_a_line_holds_the_fields_that_the_docstring_lists(tmp_path):
    import re

    import captionkit.export.lines

    path = tmp_path / "out.jsonl"
    CLIP.windows[0].caption["demo"] = 'A "red" boat\n🎬 </script>\ud800'
    with JsonLines(path, Recipe()) as lines:
        lines.write(CLIP, 0, None)
        lines.write(CLIP, 0, "it broke")
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    table = captionkit.export.lines.__doc__.split("=====")[1:]
    for field in first:
        assert re.search(rf"``{field}``", "".join(table))
    assert first["caption"].startswith('A "red" boat\n🎬')
    assert second["caption"] is None
    assert second["error"] == "it broke"


FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
from captionkit.export import ExportError, JsonLines
from captionkit.recipe import Recipe
from captionkit.stages.tasks import Clip, Window
clip = Clip("a.mp4", windows=[Window(0, 255)])
lines = JsonLines(sys.argv[1], Recipe())
try:
    while True:
        lines.write(clip, 0, None)
except ExportError as error:
    print(lines.lines)
    sys.exit(str(error))
"""


def test_lines_before_a_write_that_failed_are_whole(tmp_path):
    path = tmp_path / "out.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=False
    )
    written = path.read_text()
    assert written.endswith("\n")
    assert len([json.loads(line) for line in written.splitlines()]) == int(done.stdout) > 2
    assert f"cannot write {path}: File too large; the {int(done.stdout)} windows" in done.stderr


def test_a_place_that_cannot_be_written_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ExportError, match=r"cannot write .*nowhere/out\.jsonl: No such file"):
        JsonLines(tmp_path / "nowhere" / "out.jsonl", Recipe())
