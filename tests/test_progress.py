"""Progress of a run in a notebook, in a terminal and in a pipe."""

from __future__ import annotations

import os
import pty
import subprocess

import nbformat
import programs
from common import ROOT, VIDEOS
from nbclient import NotebookClient

from captionkit.bench.store import bench_store


def test_a_notebook_shows_one_line_that_ends_with_the_result(tmp_path):
    cells = [
        f"import sys; sys.path[:0] = {[str(ROOT), str(ROOT / 'tests')]!r}",
        "import captionkit as ck; from fakes import FakeBackend",
        f"film, store = {str(VIDEOS / 'harbour.mp4')!r}, {str(tmp_path / 'runs.sqlite')!r}",
        "session = ck.Session(film, store=store, backend=FakeBackend())",
        'run = session.caption("Say it.")',
        "run",
        "session.windows.head(2)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    (shown,) = notebook.cells[4].outputs
    html = shown["data"]["text/html"]
    assert "<progress" in html
    assert "run 1: 4 of 4 windows captioned" in html
    assert "(done)" in html
    for cell, images in ((notebook.cells[5], 4), (notebook.cells[6], 2)):
        assert cell.outputs[0]["data"]["text/html"].count("data:image/jpeg") == images


def test_a_terminal_shows_a_bar_and_a_pipe_shows_nothing(tmp_path):
    arguments = ("fresh_run", VIDEOS / "harbour.mp4", tmp_path / "runs.sqlite")
    ours, theirs = pty.openpty()
    assert programs.start(*arguments, stderr=theirs).wait(120) == 0
    os.close(theirs)
    printed = b""
    try:
        while part := os.read(ours, 65536):
            printed += part
    except OSError:
        pass
    assert "4 of 4 windows captioned" in printed.decode()
    piped = programs.start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert piped.communicate()[0] == ""
    assert piped.returncode == 0


def test_the_store_benchmark_measures_every_figure():
    times = bench_store(20)
    assert "run.captions, 40 rows" in times
    assert all(spent > 0 for spent in times.values())
