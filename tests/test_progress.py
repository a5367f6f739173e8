"""What is seen of a run while it runs: in a notebook, in a terminal, in a pipe."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import textwrap

import nbformat
from common import ROOT, VIDEOS
from nbclient import NotebookClient

SESSION = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
import asyncio, fakes, captionkit as ck
class Patch:
    setattr = staticmethod(setattr)
fake = fakes.install(Patch)
session = ck.Session({str(VIDEOS / "harbour.mp4")!r}, store=STORE)
"""


def test_a_notebook_shows_one_line_that_ends_with_the_result(tmp_path):
    setup = SESSION.replace("STORE", repr(str(tmp_path / "runs.sqlite")))
    cells = [setup, 'run = session.caption("Say it.")', "run", "session.windows.head(2)"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    (shown,) = notebook.cells[1].outputs
    html = shown["data"]["text/html"]
    assert "<progress" in html
    assert "run 1: 4 of 4 windows captioned" in html
    assert "(done)" in html
    for cell, images in ((notebook.cells[2], 4), (notebook.cells[3], 2)):
        assert cell.outputs[0]["data"]["text/html"].count("data:image/jpeg") == images


def test_a_terminal_shows_a_bar_and_a_pipe_shows_nothing(tmp_path):
    code = SESSION.replace("STORE", repr(str(tmp_path / "runs.sqlite")))
    code = textwrap.dedent(code) + 'session.caption("Say it.", fresh=True)'
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", code], stderr=theirs, check=True)
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 65536):
            said += part
    except OSError:
        pass
    assert "4 of 4 windows captioned" in said.decode()
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert piped.stdout + piped.stderr == b""


def test_the_store_benchmark_measures_what_it_says():
    from captionkit.bench.store import bench_store

    times = bench_store(20)
    assert "run.captions, 40 rows" in times
    assert all(spent > 0 for spent in times.values())
