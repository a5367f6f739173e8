"""The Python side of the widgets, with a fake engine: what a person does, seen from the kernel."""

from __future__ import annotations

import asyncio
import itertools
import json
import shlex
import threading
import time
from dataclasses import replace

import ipywidgets.widgets.widget as registry
import pytest
import traitlets
from common import VIDEOS
from fakes import install

import captionkit as ck
from captionkit.runs import as_code
from captionkit.system import loop
from captionkit.cli import main
from captionkit.engine.errors import EngineError
from captionkit.stages import CaptionGenerationStage
from captionkit.widgets import workbench_view
from captionkit.widgets.board import Board
from captionkit.widgets.cost import cost, count_tokens
from captionkit.widgets.job_thread import Worker

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "$$x^2$$ and $y$",
    "\x1b[31mred\x1b[0m \x07 \x00",
    "\u202eright to left\u202c and \u2066isolated\u2069",
    "long " * 20_000,
]


@pytest.fixture
def model(monkeypatch):
    return install(monkeypatch)


@pytest.fixture
def session(model, tmp_path):
    made = ck.Session([VIDEOS / "harbour.mp4", VIDEOS / "street.mp4"], store=tmp_path / "runs.sqlite")
    yield made
    made.close()


@pytest.fixture
def bench(session):
    made = ck.Workbench(session)
    yield made
    made.close()


def caption_all(bench):
    bench.tuner.run_all.click()
    assert bench.board.idle(30)


class Sent:
    """What a widget sends to the page."""

    def __init__(self, widget, monkeypatch):
        self.messages = []
        monkeypatch.setattr(
            widget, "send", lambda content, buffers=None: self.messages.append((content, buffers))
        )

    def of(self, kind):
        return [(content, buffers) for content, buffers in self.messages if content["kind"] == kind]


def ask(browser, **message):
    browser._on_message(browser, message, None)


def test_captions_of_all_windows_reach_the_rows_and_the_status(bench):
    caption_all(bench)
    assert {row.state for row in bench.board.rows.rows} == {"done"}
    assert bench.board.rows.rows[1].text.endswith("at 8.53.")
    assert "9 of 9 windows" in bench.browser._status
    assert bench.run.status == "done"


def test_only_the_rows_on_screen_cross_the_wire(bench, monkeypatch):
    sent = Sent(bench.browser, monkeypatch)
    ask(bench.browser, kind="range", view="v", first=2, last=5)
    ((message, _),) = sent.of("rows")
    assert [row["index"] for row in message["rows"]] == [2, 3, 4]
    sent.messages.clear()
    caption_all(bench)
    told = [row["index"] for content, _ in sent.of("rows") for row in content["rows"]]
    assert set(told) == {2, 3, 4}


def test_text_streams_into_rows_while_it_grows(bench, model, monkeypatch):
    model.gate = asyncio.Event()
    bench.tuner.run_all.click()
    deadline = time.monotonic() + 20
    while not any(row.state == "waiting" for row in bench.board.rows.rows):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    seen = set()
    monkeypatch.setattr(
        bench.board,
        "_listeners",
        [lambda change: seen.update(row.state for row in bench.board.rows.rows)],
    )
    loop.run(model.open_gate())
    assert bench.board.idle(30)
    assert "done" in seen


def test_updates_come_at_most_ten_times_a_second(bench):
    told = []
    bench.board.listen(lambda change: told.append(time.monotonic()))
    for _ in range(300):
        bench.board._tick()
        time.sleep(0.002)
    assert bench.board.idle(10)
    gaps = [after - before for before, after in itertools.pairwise(told)]
    assert len(told) >= 3
    assert min(gaps) > 0.08


def test_value_selection_and_filter_are_set_and_read_from_python(bench):
    bench.browser.value = ("street", 2)
    bench.browser.selection = [("street", 1), ("harbour", 3), ("street", 1)]
    bench.browser.filter = {"video": "street", "search": ""}
    assert bench.browser.selection == [("harbour", 3), ("street", 1)]
    assert bench.browser.places == [3, 5]
    assert bench.browser.filter == {"video": "street"}
    assert bench.browser._count == 5
    for name, value, why in (
        ("value", ("street", 99), "no window 99 of 'street'"),
        ("selection", [("moon", 0)], "no window 0 of 'moon'"),
        ("filter", {"colour": "red"}, "no 'colour'; there are: search"),
        ("filter", {"state": "asleep"}, "give one of new, waiting"),
    ):
        with pytest.raises(traitlets.TraitError, match=why):
            setattr(bench.browser, name, value)


def test_what_is_chosen_in_the_page_arrives_as_video_and_window(bench):
    bench.browser.set_state({"value": 4, "selection": [0, 2, 8, 8]})
    assert bench.browser.value == ("street", 0)
    assert bench.browser.places == [0, 1, 2, 8]
    assert bench.browser.get_state("selection")["selection"] == [0, 2, 8, 8]
    assert bench.browser.get_state("value")["value"] == 4


def test_all_of_many_windows_are_selected_in_two_numbers(bench):
    ask(bench.browser, kind="tick-all")
    assert len(bench.browser.selection) == 9
    assert bench.browser.get_state("selection")["selection"] == [0, 8]


def test_search_state_check_rating_and_sort_leave_the_right_windows(bench, model):
    def say(prompt, values, stage):
        start = float(values["start"])
        if start == 0:
            return "A boat."
        return "the dog the dog the dog the dog" if start < 10 else f"A longer text about {start} cars."

    model.say = say
    model.fail = {"17.07"}
    caption_all(bench)
    names = [row.name for row in bench.board.rows.rows]

    def shown(**wanted):
        bench.browser.filter = wanted
        return [names[place] for place in bench.browser._view]

    assert shown(search="BOAT") == [("harbour", 0), ("street", 0)]
    assert shown(state="failed") == [("harbour", 2), ("street", 2)]
    assert shown(state="looping") == [("harbour", 1), ("street", 1)]
    assert shown(check="unfinished", video="street") == [("street", 1)]
    bench.board.rate(3, 4)
    assert shown(rating=4) == [("harbour", 3)]
    assert shown(sort="rating")[0] == ("harbour", 3)
    assert shown(sort="shortest", state="done")[0] == ("harbour", 0)
    assert shown(search="no such words") == []


def test_frames_of_the_player_are_the_ones_the_model_sees(bench, session, monkeypatch):
    sent = Sent(bench.browser, monkeypatch)
    ask(bench.browser, kind="frames", place=1)
    assert bench.board.idle(30)
    ((message, buffers),) = sent.of("frames")
    found = session.frames("harbour", 1)
    assert message["seconds"] == found.seconds
    assert message["size"] == [found.pixels.shape[3], found.pixels.shape[2]]
    assert len(buffers) == len(found.pixels)
    assert all(picture[:2] == b"\xff\xd8" for picture in buffers)
    assert sum(map(len, buffers)) < 300_000


def test_the_clip_of_a_window_is_a_small_h264_film_of_its_frames(bench, session, monkeypatch, tmp_path):
    sent = Sent(bench.browser, monkeypatch)
    ask(bench.browser, kind="clip", place=1)
    assert bench.board.idle(30)
    ((_, (data,)),) = sent.of("clip")
    (tmp_path / "clip.mp4").write_bytes(data)
    facts = ck.probe(tmp_path / "clip.mp4")
    row = session.windows.iloc[1]
    assert facts.codec == "h264"
    assert facts.num_frames == row["frames"]
    assert facts.duration == pytest.approx(row["end"] - row["start"], abs=0.1)
    assert len(data) < 400_000
    assert data.index(b"moov") < data.index(b"mdat")


def test_a_window_that_cannot_be_read_says_so_in_the_player(bench, session, monkeypatch):
    sent = Sent(bench.browser, monkeypatch)

    def gone(*_):
        raise ck.VideoError("harbour.mp4 is gone; put it back")

    monkeypatch.setattr(session, "frames", gone)
    ask(bench.browser, kind="frames", place=0)
    assert bench.board.idle(10)
    assert sent.of("no-frames")[0][0]["why"] == "harbour.mp4 is gone; put it back"


def test_ratings_edits_and_notes_are_in_the_store_at_once(bench, session):
    caption_all(bench)
    ask(bench.browser, kind="rate", place=2, rating=5)
    ask(bench.browser, kind="edit", place=2, text="A better text.")
    bench.browser.value = ("harbour", 2)
    assert bench.board.idle(10)
    side = bench.compare.sides[0]
    assert (side.rating.value, side.edited.value) == (5, "A better text.")
    side.note.value = "look again"
    table = ck.open_run(bench.run.id, session.store).captions
    assert table.loc[2, "rating"] == 5
    assert table.loc[2, "edited_text"] == "A better text."
    assert session.store.rows("SELECT note FROM captions WHERE note NOT NULL") == [("look again",)]
    assert bench.board.rows.rows[2].text == "A better text."


def test_rating_a_window_without_a_caption_says_so_and_changes_nothing(bench):
    ask(bench.browser, kind="rate", place=0, rating=3)
    assert bench.board.idle(10)
    assert "no caption to rate yet" in bench.browser._problem
    ask(bench.browser, kind="dismiss")
    assert bench.board.idle(10)
    assert bench.browser._problem == ""


def test_enter_captions_the_chosen_window_with_the_tuners_recipe(bench):
    bench.tuner.prompt.value = "Name the colours."
    ask(bench.browser, kind="caption", place=3)
    assert bench.board.idle(30)
    assert bench.board.rows.rows[3].text == "Name the colours. at 25.60."
    assert [row.state for row in bench.board.rows.rows].count("done") == 1


def test_stop_ends_a_run_within_a_second_and_keeps_what_is_done(bench, model):
    model.gate = asyncio.Event()
    bench.tuner.run_all.click()
    deadline = time.monotonic() + 20
    while bench.run is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    begun = time.monotonic()
    bench.tuner.stop.click()
    while bench.board.busy:
        assert time.monotonic() - begun < 1.0
        time.sleep(0.01)
    assert bench.board.idle(10)
    assert bench.run.status == "interrupted"
    assert {row.state for row in bench.board.rows.rows} == {"new"}


def test_the_callback_of_a_button_returns_at_once(bench, model):
    model.gate = asyncio.Event()
    begun = time.monotonic()
    bench.tuner.run_all.click()
    assert time.monotonic() - begun < 0.1
    bench.board.stop()
    assert bench.board.idle(10)


def test_the_tuners_recipe_is_what_the_form_says_and_can_be_set(bench):
    made = replace(
        bench.session.recipe, prompt="short", stage2_prompt="Add more: {caption}", temperature=0.5,
        max_output_tokens=40, sampling_fps=1.0,
    )  # fmt: skip
    bench.tuner.recipe = made
    assert bench.tuner.recipe == made
    bench.tuner.library.value = "dense"
    assert bench.tuner.recipe.prompt == "dense"
    bench.tuner.prompt.value = "My own words about {video}."
    assert bench.tuner.recipe.prompt == "My own words about {video}."
    assert bench.board.idle(10)
    assert "<b>{video}</b>" in bench.tuner.note.value


def test_a_bad_prompt_is_told_as_it_is_typed_and_refused_by_the_buttons(bench):
    bench.tuner.prompt.value = "Describe {nonsense} here."
    assert bench.board.idle(10)
    assert "unknown placeholder {nonsense}" in bench.tuner.cost.value
    bench.tuner.run_all.click()
    assert bench.board.idle(10)
    assert "unknown placeholder" in bench.tuner.problem.value
    assert bench.run is None


def test_cost_tells_stored_windows_from_new_ones(bench, session):
    recipe = bench.tuner.recipe
    assert cost(bench.board, recipe, [0, 1]).startswith("Needs a new engine")
    assert cost(bench.board, recipe, []) == "No window is chosen."
    caption_all(bench)
    assert "in the store already" in cost(bench.board, recipe, [0, 1])
    other = replace(recipe, window_size=64)
    assert "cut anew" in cost(bench.board, other, [0])


def test_tokens_of_a_prompt_are_counted_by_the_models_own_tokenizer(bench):
    pytest.importorskip("tokenizers")
    few = count_tokens("Describe this video.", bench.tuner.recipe, "models")
    many = count_tokens("Describe this video. " * 10, bench.tuner.recipe, "models")
    assert 3 <= few <= 8
    assert many >= 9 * few
    assert count_tokens("x y", replace(bench.tuner.recipe, variant="qwen"), "nowhere") is None


def test_code_and_command_line_repeat_the_run(bench, session, tmp_path, monkeypatch, capsys):
    bench.tuner.recipe = replace(session.recipe, prompt='It\'s {video}, "quoted".', temperature=0.0)
    bench.tuner._code_button.value = True
    assert bench.board.idle(10)
    told = as_code.python(session.source, bench.tuner.recipe, 16)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(told, names)
    assert names["run"].recipe == bench.tuner.recipe
    assert names["run"].progress.done == 9
    names["session"].close()
    shell = as_code.command([str(VIDEOS / "harbour.mp4")], bench.tuner.recipe, 16)
    assert main([*shlex.split(shell)[1:], "--out", "x.jsonl"]) == 0
    first = json.loads((tmp_path / "x.jsonl").read_text().splitlines()[0])
    assert first["captions"][0]["prompt_text"] == 'It\'s harbour.mp4, "quoted".'


def test_an_engine_that_does_not_start_is_told_where_it_was_asked_for(bench, monkeypatch):
    def broken(stage, worker_metadata=None):
        raise EngineError("the engine did not start: no space left; free some")

    monkeypatch.setattr(CaptionGenerationStage, "setup", broken)
    bench.tuner.run_all.click()
    assert bench.board.idle(20)
    assert "free some" in bench.tuner.problem.value
    assert bench.browser._problem == ""
    assert {row.state for row in bench.board.rows.rows} == {"new"}


def test_the_view_works_on_after_an_error(bench, monkeypatch, model):
    test_an_engine_that_does_not_start_is_told_where_it_was_asked_for(bench, monkeypatch)
    install(monkeypatch)
    caption_all(bench)
    assert bench.tuner.problem.value == ""
    assert {row.state for row in bench.board.rows.rows} == {"done"}


def test_windows_are_cut_anew_from_the_form(bench):
    bench.tuner.window_size.value = 128
    bench.tuner.run_all.click()
    assert bench.board.idle(20)
    assert "Cut windows anew" in bench.tuner.problem.value
    bench.tuner._cut.click()
    assert bench.board.idle(60)
    assert bench.browser._total == 18
    caption_all(bench)
    assert {row.state for row in bench.board.rows.rows} == {"done"}


def test_compare_shows_stages_runs_a_matrix_and_blind_pairs(bench, model):
    bench.tuner.two_stages.value = True
    caption_all(bench)
    bench.browser.value = ("harbour", 1)
    assert bench.board.idle(10)
    left, right = (side.text.value for side in bench.compare.sides)
    assert "stage 1" in left
    assert "<ins>" in right
    assert "tokens in" in right
    assert "As the model got it" in right
    bench.tuner.two_stages.value = False
    bench.tuner.prompt.value = "Another prompt."
    caption_all(bench)
    bench.compare.mode.value = "two runs"
    assert bench.board.idle(10)
    assert [bench.compare.run_a.value, bench.compare.run_b.value] == [1, 2]
    assert "run 1" in bench.compare.sides[0].text.value
    assert "Another" in bench.compare.sides[1].text.value
    bench.compare.mode.value = "matrix of runs"
    assert bench.board.idle(20)
    assert bench.compare.table.value.count("<tr>") == 10
    bench.compare.mode.value = "blind A/B"
    blind = bench.compare.blind
    blind.begin.click()
    for button in [blind.choices[0]] * 4 + [blind.choices[1]] * 5:
        button.click()
    assert "5 ties" in blind.said.value
    assert len(bench.session.store.rows("SELECT * FROM choices")) == 9


def test_export_writes_says_where_and_guards_what_is_there(bench, tmp_path):
    caption_all(bench)
    panel = bench.export
    panel.path.value = str(tmp_path / "out.jsonl")
    for _ in range(2):
        panel.button.click()
        assert bench.board.idle(20)
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 9
    assert "is there already" in panel.problem.value
    panel.overwrite.value = True
    panel.button.click()
    assert bench.board.idle(20)
    assert panel.problem.value == ""
    assert panel.link._name == "out.jsonl"


def test_a_link_hands_the_file_over(bench, tmp_path, monkeypatch):
    caption_all(bench)
    bench.export.format.value = "nemo"
    bench.export.path.value = str(tmp_path / "folder")
    bench.export.button.click()
    assert bench.board.idle(20)
    sent = Sent(bench.export.link, monkeypatch)
    bench.export.link._on_message(bench.export.link, {"kind": "save"}, None)
    assert bench.board.idle(20)
    assert sent.of("file")[0][1][0][:2] == b"PK"


def test_the_sweep_view_draws_and_names_what_cannot_run(bench):
    bench.sweep.sizes.value = (1, 4)
    bench.sweep.fp8.value = True
    bench.browser.selection = [("harbour", 0), ("harbour", 1)]
    bench.sweep.measure()
    assert bench.board.idle(60)
    assert bench.sweep.figure.value.startswith("<img alt=")
    assert "fp8 needs an NVIDIA GPU" in bench.sweep.table.value or bench.sweep.result is not None
    assert set(bench.sweep.result.table["batch_size"]) == {1, 4}
    assert not bench.sweep.button.disabled


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_captions_are_text_in_every_view(bench, model, text, monkeypatch):
    model.say = lambda prompt, values, stage: text if stage == 1 else f"{text} again"
    bench.tuner.two_stages.value = True
    sent = Sent(bench.browser, monkeypatch)
    ask(bench.browser, kind="range", view="v", first=0, last=9)
    caption_all(bench)
    bench.browser.value = ("harbour", 0)
    bench.compare.mode.value = "matrix of runs"
    assert bench.board.idle(30)
    bench.compare.mode.value = "stage 1 and stage 2"
    assert bench.board.idle(30)
    html = [side.text.value for side in bench.compare.sides]
    html += [bench.compare.table.value, bench._results()]
    for each in html:
        for raw in ("<img src=x", "<script", "\x1b", "\x00", "\u202e", "\u2066"):
            assert raw not in each
    assert max(len(content["rows"][0]["text"]) for content, _ in sent.of("rows")) <= 1000
    assert not any("\x1b" in json.dumps(row["text"]) for c, _ in sent.of("rows") for row in c["rows"])


def test_a_saved_notebook_stays_small_with_fifty_windows(model, tmp_path):
    recipe = ck.Recipe(window_size=32, remainder_threshold=16)
    session = ck.Session(
        [VIDEOS / "harbour.mp4", VIDEOS / "street.mp4"], recipe=recipe, store=tmp_path / "s"
    )
    bench = ck.Workbench(session)
    chosen = session.windows.iloc[:50]
    bench.board.caption(chosen.index, bench.tuner.recipe, batch_size=16)
    assert bench.board.idle(60)
    state = sum(
        len(json.dumps(widget.get_state(), default=str))
        for widget in registry._instances.values()
        if widget.comm is not None
    )
    assert len(bench._results()) < 150_000
    assert len(bench._results()) > 2_000
    bench.close()
    session.close()
    assert state < 300_000


def test_twenty_openings_leave_no_widget_thread_or_process_behind(model, tmp_path):
    widgets, threads = len(registry._instances), threading.active_count()
    for _ in range(20):
        session = ck.Session(VIDEOS / "harbour.mp4", store=tmp_path / "runs.sqlite")
        bench = ck.Workbench(session, _owned=True)
        bench.tuner.run_all.click()
        assert bench.board.idle(30)
        bench.close()
    assert len(registry._instances) == widgets
    # One for the loop that all runs share.
    assert threading.active_count() <= threads + 1


def test_running_the_same_cell_again_closes_the_workbench_before(session, monkeypatch):
    monkeypatch.setattr(workbench_view, "_cell", lambda: ("cell", "a"))
    first = ck.Workbench(session)
    second = ck.Workbench(session)
    assert first.board.closed
    assert not second.board.closed
    second.close()


def test_a_worker_does_the_newest_job_of_a_name_and_outlives_errors():
    problems, done = [], []
    worker = Worker("test", problems.append)
    gate = threading.Event()
    worker.submit("block", gate.wait)
    for number in range(5):
        worker.submit("same", lambda number=number: done.append(number))
    worker.submit("bad", lambda: 1 / 0)
    gate.set()
    assert worker.join(5)
    assert done == [4]
    assert [type(each) for each in problems] == [ZeroDivisionError]
    worker.close()
    worker.submit("late", lambda: done.append("late"))
    assert done == [4]


def test_ten_thousand_windows_are_filtered_and_listed_quickly_enough(session):
    board = Board(session)
    row = board.rows.rows[0]
    board.rows.rows = [replace(row, text=f"A text about {n}.", state="done") for n in range(10_000)]
    found = board.rows.view({"search": "about 777", "state": "done", "sort": "longest"})
    assert len(found) == 19
    board.close()
