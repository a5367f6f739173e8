"""What a saved notebook shows without a kernel, in each place where notebooks are read."""

from __future__ import annotations

import os
import re
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from common import ROOT, VIDEOS
from fakes import FakeBackend
from nbclient import NotebookClient
from nbconvert import HTMLExporter

import captionkit as ck
from captionkit import display
from captionkit.demo.recall import fact_recall, summary
from captionkit.widgets.twin import static_html

SOURCE = """
import captionkit as ck
from fakes import FakeBackend
session = ck.Session({films!r}, store={store!r}, backend=FakeBackend())
one = session.caption("short")
two = session.caption("default", stage2=True)
"""
VIEWS = {
    "workbench": "bench = ck.Workbench(session)\n"
    "bench.board.caption(range(3), two.recipe, batch_size=4)\n"
    "assert bench.board.idle(60)\nbench",
    "browser": "ck.Browser(session)",
    "tuner": "ck.Tuner(session)",
    "compare": "view = ck.CompareView(session)\nview.show('harbour', 1)\n"
    "view.mode.value = 'two runs'\nview.run_a.value, view.run_b.value = one.id, two.id\n"
    "assert view.board.idle(60)\nview",
    "search": "ck.SearchView(session)",
    "sweep": "ck.SweepView(session)",
    "export": "ck.ExportPanel(session)",
    "ab": "ck.ab(one, two)",
    "session": "session.windows",
    "run": "two",
    "comparison": "ck.compare(one, two)",
}


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A notebook with each view, run without a page, as a converter or a service runs it."""
    store = str(tmp_path_factory.mktemp("twins") / "runs.sqlite")
    first = SOURCE.format(films=str(VIDEOS / "harbour.mp4"), store=store)
    cells = [nbformat.v4.new_code_cell(source) for source in (first, *VIEWS.values())]
    notebook = nbformat.v4.new_notebook(cells=cells)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), str(ROOT)]))
        return NotebookClient(notebook, timeout=120).execute()


def html_of(cell):
    return "".join(each.data["text/html"] for each in cell.outputs if "data" in each)


class Tags(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.found, self.words = set(), []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.add(tag)

    def handle_data(self, data):
        self.words.append(data)


def test_each_view_leaves_results_that_need_no_kernel_script_or_style_sheet(executed):
    for name, cell in zip(VIEWS, executed.cells[1:], strict=True):
        html = html_of(cell)
        tags = Tags(html)
        assert not tags.found & {"script", "style", "input", "button", "select", "progress"}, name
        said = " ".join(tags.words)
        assert "children=" not in said, name
        assert "harbour" in said or name in ("tuner", "search", "sweep", "export"), name
        assert len(html) < 150_000, name
    shown = dict(zip(VIEWS, map(html_of, executed.cells[1:]), strict=True))
    for name in ("workbench", "browser", "session", "run"):
        assert "data:image/jpeg;base64," in shown[name], name
    assert "at 8.53" in shown["workbench"]
    assert len(set(re.findall(r"<b>run (\d)</b>", shown["compare"]))) == 2
    assert re.search("<(ins|mark)[ >]", shown["compare"])
    assert "Prompt text" in shown["tuner"]
    assert "exports/run-" in shown["export"]
    assert "Batch sizes" in shown["sweep"]
    assert "What counts" in shown["search"]


def test_a_widget_is_never_named_by_its_children(executed):
    for cell in executed.cells[1:]:
        for output in cell.outputs:
            plain = output.data.get("text/plain", "")
            assert not re.search(r"(VBox|HBox|HTML)\(", plain), plain
            if "application/vnd.jupyter.widget-view+json" in output.data:
                assert output.data["text/html"]


def test_a_page_made_by_nbconvert_shows_results(executed):
    page, _ = HTMLExporter().from_notebook_node(executed)
    bare = nbformat.from_dict(executed)
    bare.metadata.pop("widgets", None)
    without_state, _ = HTMLExporter().from_notebook_node(bare)
    for each in (page, without_state):
        assert "at 8.53" in each
        assert "VBox(children" not in re.sub(r"<script.*?</script>", "", each, flags=re.DOTALL)


def test_tables_are_aligned_left_and_break_no_words(executed):
    for cell in executed.cells[1:]:
        for tag in re.findall(r"<t[dh][ >][^>]*", html_of(cell)):
            assert "text-align:left" in tag
            assert "anywhere" not in tag


def test_every_table_is_one_of_pandas_and_aligned_left(tmp_path):
    session = ck.Session(VIDEOS / "harbour.mp4", store=tmp_path / "s", backend=FakeBackend())
    one = session.caption("short", repeats=2)
    schema = '{"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}'
    shaped = session.caption("short", schema=schema)
    matrix = session.matrix(["short", "default"])
    for reviewer in ("Ada", "Ben"):
        one.rate("harbour", 0, 4, reviewer=reviewer)
    sweep = session.sweep(batch_sizes=[1], prompts=["short"])
    report = one.report()
    loaded = ck.load_captions(one.export(tmp_path / "one.jsonl"))
    tables = [
        session.windows[["video", "window"]], session.captions, one.captions, one.final, one.checks,
        one.human, one.stability(), one.scores(one), shaped.structured, matrix.table,
        matrix.scores(one), sweep.table, sweep.captions, sweep.scores(one),
        ck.compare(1, 2, session.store).table,
        ck.runs(session.store), ck.prompts_tried(session.store), ck.agreement(session.store),
        report.captions, report.phrases, report.openings, report.vocabulary, report.videos, loaded,
        fact_recall(one), summary(one),
    ]  # fmt: skip
    session.close()
    for number, table in enumerate(tables):
        assert isinstance(table, pd.DataFrame)
        html = table.head(1)._repr_html_()
        left = re.findall(r'<t[dh] style="text-align:left"', html)
        assert len(left) == len(re.findall(r"<t[dh]\b", html)), (number, list(table))
        # A table of the user's own stays as pandas has it.
        assert "left" not in pd.DataFrame(table)._repr_html_()


def test_a_twin_holds_fields_and_texts_but_no_controls(tmp_path):
    session = ck.Session(VIDEOS / "harbour.mp4", store=tmp_path / "s", backend=FakeBackend())
    tuner = ck.Tuner(session)
    tuner.prompt.value = "Say <b>what</b> moves."
    html = static_html(tuner)
    assert "Say &lt;b&gt;what&lt;/b&gt; moves." in html
    assert "All windows" not in html
    # A folded field is not on the page either.
    assert "Max tokens" not in html
    tuner.close()
    session.close()


def test_the_red_of_a_fault_follows_the_colour_of_the_text_around_it():
    assert "currentcolor" in display.left_out_html({"a.mp4": "broken"})
