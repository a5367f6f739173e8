"""What the loop of prompt, run, look shows, seen from the kernel: progress, now and before, marks."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from common import VIDEOS
from fakes import FakeBackend
from test_widgets import Halting, Sent, ask, caption_all, until

import captionkit as ck
from captionkit import display
from captionkit.display import word_diff
from captionkit.engine import Engine
from captionkit.pipeline import engine_key
from captionkit.widgets.standing import bar, status


@pytest.fixture
def bench(tmp_path):
    session = ck.Session(VIDEOS / "harbour.mp4", store=tmp_path / "runs.sqlite", backend=FakeBackend())
    made = ck.Workbench(session)
    yield made
    made.close()
    session.close()


def test_the_rate_of_a_run_that_ended_stands_still_and_leaves_out_the_engines_start(bench):
    caption_all(bench)
    task = bench.board.task
    first = task.progress
    assert first.windows_per_s > 0
    assert task.progress == first
    # A beginning a thousand seconds earlier, as of an engine that loads long, changes nothing.
    task.started -= 1000
    assert task.progress == first
    assert f"{first.windows_per_s:.1f} windows/s" in status(bench.board)


def test_a_bar_beside_the_buttons_counts_windows_and_stays_as_a_result(tmp_path):
    backend = Halting()
    session = ck.Session(VIDEOS / "harbour.mp4", store=tmp_path / "runs.sqlite", backend=backend)
    made = ck.Workbench(session)
    try:
        made.tuner.run_all.click()
        until(lambda: "<progress" in made.tuner.progress.value)
        assert re.search(r"0 of \d+ windows captioned", made.tuner.progress.value)
        let_go(backend)
        assert made.board.idle(30)
        until(lambda: "<progress" not in made.tuner.progress.value)
        assert "● Run 1 done" in made.tuner.progress.value
    finally:
        let_go(backend)
        made.close()
        session.close()


def let_go(backend):
    from captionkit.system import loop

    loop.submit(backend.go_on()).result(10)


def test_a_starting_engine_tells_its_elapsed_and_expected_seconds(bench, monkeypatch):
    monkeypatch.setattr(Engine, "live", lambda: None)
    recipe = bench.tuner.recipe
    now = SimpleNamespace(done=0, failed=0, total=3, windows_per_s=0.0)
    task = SimpleNamespace(
        run=SimpleNamespace(id=7, recipe=recipe), captioning=False, progress=now, started=0.0
    )
    session = SimpleNamespace(
        endpoint=None, backend=None, model_dir=bench.session.model_dir, engine_options={}
    )
    board = SimpleNamespace(
        session=session,
        opening=False,
        active=[task],
        rates=SimpleNamespace(starts={engine_key(recipe, session.model_dir): 12.0}),
    )
    monkeypatch.setattr("captionkit.widgets.standing.time.monotonic", lambda: 4.0)
    assert status(board) == "Run 7: the engine starts… 4 s of about 12 s"
    assert "<progress" in bar(board)
    assert "value=" not in bar(board)


def test_a_window_is_shown_with_its_caption_of_the_run_before(bench, monkeypatch):
    sent = Sent(bench.browser, monkeypatch)
    caption_all(bench)
    ask(bench.browser, kind="find", index=0)
    assert sent.of("detail")[-1][0]["before"] is None
    first = bench.board.windows[0].text
    ask(bench.browser, kind="rate", index=0, rating=4)
    bench.tuner.prompt.value = "Another prompt."
    caption_all(bench)
    ask(bench.browser, kind="find", index=0)
    shown = sent.of("detail")[-1][0]
    assert shown["run"] == 2
    assert shown["before"] == {"run": 1, "text": first, "rating": 4}
    assert "".join(piece for _, piece in shown["marks"]) == shown["text"]


def test_texts_that_share_little_mark_what_they_share_instead_of_everything_else():
    before = "A red bus stops at the corner and three people get in."
    after = "Waves roll over dark rocks while the sun sinks and gulls circle."
    assert {kind for kind, _ in display.marked(before, after)} <= {"same", "shared"}
    left, right = display.diff_cells(word_diff(before, after))
    assert "<del>" not in left
    assert "<ins>" not in right
    close = before.replace("red", "blue")
    assert ("new", "blue ") in display.marked(before, close)
    assert "<ins>blue </ins>" in display.diff_cells(word_diff(before, close))[1]


def test_the_captions_and_ratings_of_an_earlier_run_are_one_choice_away(bench):
    caption_all(bench)
    ask(bench.browser, kind="rate", index=0, rating=4)
    bench.tuner.prompt.value = "Another prompt."
    caption_all(bench)
    assert bench.board.windows[0].rating is None
    offered = [each["label"] for each in bench.browser._choices["run"]]
    assert offered == ["newest run", "best rated", "run 2", "run 1"]
    bench.browser.filter = {"run": 1}
    assert bench.board.idle(30)
    assert {row.run for row in bench.board.windows} == {1}
    assert bench.board.windows[0].rating == 4
    # A new run shows itself.
    bench.tuner.prompt.value = "A third prompt."
    caption_all(bench)
    assert {row.run for row in bench.board.windows} == {3}
    assert bench.browser.filter == {}
    bench.browser.filter = {"run": 2}
    bench.browser.filter = {}
    assert bench.board.idle(30)
    assert {row.run for row in bench.board.windows} == {3}
