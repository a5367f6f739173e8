"""What a day at the workbench needs, seen from the kernel: runs, knobs, prompts, reviews, new tries."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

import pytest
from common import VIDEOS
from fakes import FakeBackend
from test_widgets import Halting, Sent, ask, caption_all, until

import captionkit as ck
from captionkit import prompts
from captionkit.engine import EngineError
from captionkit.store import SavedPrompt
from captionkit.widgets.cost import SAMPLE


@pytest.fixture
def source(tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("harbour", "street"):
        shutil.copy(VIDEOS / f"{name}.mp4", tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def open_bench(source, tmp_path, fake):
    made = []

    def opened(**how):
        how = {"store": tmp_path / "runs.sqlite", "backend": fake, **how}
        made.append(ck.Workbench(ck.Session(str(source), **how), _owned=True))
        return made[-1]

    yield opened
    for each in made:
        each.close()


@pytest.fixture
def bench(open_bench):
    return open_bench()


def captions(bench):
    return [row.text for row in bench.board.windows]


def settle(bench):
    assert bench.board.idle(30)


# Nothing one did disappears.


def test_the_best_rated_caption_of_each_window_is_one_choice(bench):
    caption_all(bench)
    ask(bench.browser, kind="rate", index=0, rating=5)
    first = bench.board.windows[0].text
    bench.tuner.prompt.value = "Another prompt."
    caption_all(bench)
    assert bench.board.windows[0].text != first
    assert bench.board.windows[0].elsewhere == (1,)
    bench.browser.filter = {"run": -1}
    settle(bench)
    assert bench.board.windows[0].text == first
    assert bench.board.windows[1].run == 2


def test_a_review_of_another_run_is_one_click_away(bench):
    caption_all(bench)
    ask(bench.browser, kind="note", index=2, text="look at the mast")
    bench.tuner.prompt.value = "Another prompt."
    caption_all(bench)
    bench.browser.filter = {"review": "elsewhere"}
    assert bench.browser.listed == [2]
    ask(bench.browser, kind="show-run", run=bench.board.windows[2].elsewhere[-1])
    settle(bench)
    assert bench.board.windows[2].note == "look at the mast"


def test_a_try_that_failed_leaves_no_run(bench, fake):
    fake.broken = None
    bench.session.backend, kept = None, bench.session.backend
    bench.session.endpoint = "http://127.0.0.1:9/v1"
    bench.tuner.run_all.click()
    settle(bench)
    assert "127.0.0.1:9" in bench.tuner.problem.value
    assert ck.runs(bench.session.store).empty
    bench.session.backend, bench.session.endpoint = kept, None
    fake.broken = EngineError("it died")
    caption_all(bench)
    # Windows that failed are a result: their reasons stay.
    assert list(ck.runs(bench.session.store)["failed"]) == [9]


def test_the_form_comes_back_as_it_was_left_and_not_for_another_recipe(open_bench):
    bench = open_bench()
    bench.tuner.prompt.value = "My prompt."
    bench.tuner.top_p.value, bench.tuner.seed.value = 0.5, "7"
    settle(bench)
    bench.close()
    again = open_bench()
    assert again.tuner.recipe == replace(again.session.recipe, prompt="My prompt.", top_p=0.5, seed=7)
    again.close()
    other = open_bench(recipe=ck.Recipe(prompt="dense"))
    assert other.tuner.recipe == other.session.recipe


def test_the_recipe_of_any_run_fills_the_form(bench):
    bench.tuner.prompt.value, bench.tuner.top_p.value = "First prompt.", 0.3
    caption_all(bench)
    bench.tuner.prompt.value, bench.tuner.top_p.value = "Second prompt.", 0.9
    caption_all(bench)
    ask(bench.browser, kind="use-recipe", run=1)
    assert (bench.tuner.recipe.prompt, bench.tuner.recipe.top_p) == ("First prompt.", 0.3)


def test_look_again_takes_a_replaced_file_and_a_new_one(source, open_bench):
    (source / "late.mp4").write_bytes(b"not a film")
    bench = open_bench()
    assert "late" in bench.left_out.value
    assert bench.banner.layout.display is None
    bench.browser.value = ("street", 1)
    shutil.copy(VIDEOS / "harbour.mp4", source / "late.mp4")
    shutil.copy(VIDEOS / "countryside.mp4", source / "new.mp4")
    ask(bench.browser, kind="look-again")
    settle(bench)
    names = {row.name[0] for row in bench.board.windows}
    assert "new" in names
    assert bench.browser.value == ("street", 1)
    # It holds the same film as another file now, and says so.
    assert "late" in names or "late" in bench.left_out.value
    caption_all(bench)
    assert {row.state for row in bench.board.windows} == {"done"}


# All knobs.


def test_each_knob_of_a_recipe_is_in_the_form(bench):
    tuner = bench.tuner
    wanted = replace(
        bench.session.recipe, pixel_budget=112 * 112, top_p=0.7, repetition_penalty=1.2, seed=3
    )
    tuner.recipe = wanted
    assert tuner.recipe == wanted
    settle(bench)
    assert " px, " in tuner.note.value
    assert "video tokens a window" in tuner.note.value
    tuner.seed.value = "three"
    tuner.run_all.click()
    assert "give a whole number" in bench.board.problems["tuner"]
    tuner.seed.value = ""
    tuner.presets.menu.value = "varied"
    assert (tuner.recipe.temperature, tuner.recipe.top_p, tuner.presets.menu.value) == (0.8, 0.9, "")
    tuner.repeats.value = 2
    caption_all(bench)
    assert bench.run.repeats == 2


# Own prompts.


def test_prompts_are_saved_used_exported_and_imported(bench, tmp_path):
    view, tuner = bench.prompts, bench.tuner
    tuner.prompt.value, tuner.two_stages.value, tuner.stage2.value = "Mine.", True, "Shorten {caption}"
    view.saved_name.value = "mine"
    view.save.click()
    settle(bench)
    assert bench.session.store.shelf.prompts() == {
        "mine": SavedPrompt("mine", "Mine.", "Shorten {caption}")
    }
    tuner.prompt.value, tuner.two_stages.value = "Other.", False
    view.a.value = "mine"
    settle(bench)
    assert view.diff.value.count("Shorten {caption}") == 1
    tuner.prompt.value = "Mine again."
    settle(bench)
    assert "<mark>Mine</mark>" in view.diff.value
    view.use.click()
    assert (tuner.recipe.prompt, tuner.recipe.stage2) == ("Mine.", "Shorten {caption}")
    view.path.value = str(tmp_path / "some" / "prompts.toml")
    view.export.click()
    view.delete.click()
    settle(bench)
    assert bench.session.store.shelf.prompts() == {}
    view.take.click()
    settle(bench)
    assert list(bench.session.store.shelf.prompts()) == ["mine"]
    view.saved_name.value = "  "
    view.save.click()
    assert "no name" in bench.board.problems["prompts"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nonsense [", "not valid TOML"),
        ("a = 1", "no table"),
        ("[prompts.one]\nprompt = 3", "'one'"),
        ("[prompts.one]\nprompt = 'x'\nmore = 'y'", "more"),
        ("[prompts.good]\nprompt = 'x'\n[prompts.one]\nprompt = '{nonsense}'", "'one'.*nonsense"),
    ],
)
def test_a_file_that_holds_no_prompts_is_refused_whole(bench, tmp_path, text, why):
    path = tmp_path / "prompts.toml"
    path.write_text(text)
    shelf = bench.session.store.shelf
    with pytest.raises(ValueError, match=why):
        shelf.import_prompts(path)
    assert shelf.prompts() == {}


def test_tried_prompts_have_their_rates_and_ratings(bench):
    caption_all(bench)
    bench.tuner.prompt.value = "Second prompt."
    caption_all(bench)
    bench.run.rate("harbour", 0, 5)
    bench.run.rate("harbour", 1, 2)
    bench.session.store.shelf.save_prompt(SavedPrompt("second", "Second prompt."))
    table = ck.prompts_tried(bench.session.store)
    assert list(table["prompt"]) == ["Second prompt.", "default"]
    assert (table["rating"][0], table["rated"][0], table["saved"][0]) == (3.5, 2, "second")
    assert table["windows_per_s"].gt(0).all()
    # A prompt of the library is found by its text.
    bench.session.store.shelf.save_prompt(SavedPrompt("usual", prompts.PROMPTS["default"]))
    bench.tuner.two_stages.value, bench.tuner.stage2.value = True, "Shorten {caption}"
    caption_all(bench)
    table = ck.prompts_tried(bench.session.store)
    assert list(table["stage2"]) == ["Shorten {caption}", None, None]
    assert list(table["saved"]) == [None, "second", "usual"]
    settle(bench)
    bench.prompts._list()
    assert "3.5 of 5 (2)" in bench.prompts.history.value
    assert "stage 2: Shorten {caption}" in bench.prompts.history.value
    assert "nan" not in bench.prompts.history.value
    assert not any(bench.board.problems.values())


# Tags, notes, search.


def test_tags_and_notes_are_filtered_searched_and_kept(bench):
    caption_all(bench)
    ask(bench.browser, kind="tag", index=0, text="boat, calm")
    ask(bench.browser, kind="note", index=1, text="Blurred mast")
    settle(bench)
    assert [each["value"] for each in bench.browser._choices["tag"]] == ["", "boat", "calm"]
    for wanted, found in (
        ({"tag": "calm"}, [0]),
        ({"search": "blurred"}, [1]),
        ({"search": "boat"}, [0]),
        ({"search": "harbour mast"}, [1]),
        ({"search": "street mast"}, []),
    ):
        bench.browser.filter = wanted
        assert bench.browser.listed == found
    bench.browser.filter = {"tag": "calm"}
    ask(bench.browser, kind="save-filter", name="calm ones")
    bench.browser.filter = {}
    ask(bench.browser, kind="use-filter", name="calm ones")
    assert bench.browser.filter == {"tag": "calm"}
    assert "notes" in bench.browser._searched


def test_a_window_has_tags_and_a_note_of_its_own_by_hand(bench, monkeypatch):
    sent = Sent(bench.browser, monkeypatch)
    # Before any caption: they are of the window.
    ask(bench.browser, kind="tag", of="window", index=0, text="night, bay")
    ask(bench.browser, kind="note", of="window", index=1, text="Cut badly")
    settle(bench)
    assert not any(bench.board.problems.values())
    ask(bench.browser, kind="tag", of="caption", index=0, text="boat")
    assert "no caption to tag yet" in bench.board.problems["browser"]
    caption_all(bench)
    ask(bench.browser, kind="tag", of="caption", index=0, text="boat")
    settle(bench)
    ask(bench.browser, kind="find", index=0)
    detail = sent.of("detail")[-1][0]
    assert (detail["tags"], detail["windowTags"]) == ("boat", "night, bay")
    assert (detail["row"]["tags"], detail["row"]["windowTags"]) == (["boat"], ["night", "bay"])
    assert [each["value"] for each in bench.browser._choices["tag"]] == ["", "bay", "boat", "night"]
    for wanted, found in (
        ({"tag": "night"}, [0]),
        ({"search": "badly"}, [1]),
        ({"review": "noted"}, [1]),
    ):
        bench.browser.filter = wanted
        assert bench.browser.listed == found
    table = bench.session.windows
    assert list(table["tags"][:1]) + list(table["note"][1:2]) == ["night, bay", "Cut badly"]
    # Another run keeps them; they are the window's.
    bench.tuner.prompt.value = "Another prompt."
    caption_all(bench)
    row = bench.board.windows[0]
    assert (row.tags, row.window_tags) == ((), ("night", "bay"))


# Bulk and undo.


def test_many_captions_are_changed_at_once_and_each_step_is_undone(bench):
    caption_all(bench)
    before = captions(bench)
    view = bench.review
    bench.browser.selection = [bench.board.windows[index].name for index in (0, 1, 2)]
    view.rating.value = 4
    view.rate.click()
    view.tags.value = "sea"
    view.add.click()
    view.accept.click()
    rows = bench.board.windows
    assert [row.rating for row in rows[:4]] == [4, 4, 4, None]
    assert [row.tags for row in rows[:2]] == [("sea", "accepted")] * 2
    view.which.value = "all listed windows"
    view.find.value, view.replacement.value = "video", "film"
    view.preview.click()
    assert "<ins>film" in view.found.value
    assert captions(bench) == before
    count = int(view.replace.description.rsplit(" ", 1)[1])
    assert count > 0
    view.replace.click()
    assert sum(row.edited for row in bench.board.windows) == count
    assert bench.run.captions["text"].tolist() == before
    view.undo.click()
    assert captions(bench) == before
    for _ in range(3):
        view.undo.click()
    assert all(row.rating is None and not row.tags for row in bench.board.windows)
    view.undo.click()
    assert "no step" in view.status.value


def test_notes_and_tags_of_many_captions_or_windows_are_written_at_once_and_made_again(bench, fake):
    fake.fail = {"17.07"}
    caption_all(bench)
    view, rows = bench.review, bench.board.windows
    failed = {index for index, row in enumerate(rows) if row.state == "failed"}
    captioned = [index for index in range(9) if index not in failed]
    view.which.value = "all listed windows"
    ask(bench.browser, kind="note", index=0, text="mine")
    view.note.value = "dark"
    # A window without a caption costs its neighbours nothing.
    view.add_note.click()
    view.add_note.click()
    assert view.status.value.count(f"{9 - len(failed)} captions noted") == 1
    assert [rows[index].note for index in captioned] == ["mine; dark"] + ["dark"] * 6
    view.of.value = "windows"
    view.tags.value, view.note.value = "night", "all of it"
    view.add.click()
    view.set_note.click()
    assert all((row.window_tags, row.window_note) == (("night",), "all of it") for row in rows)
    settle(bench)
    assert [each["value"] for each in bench.browser._choices["tag"]] == ["", "night"]
    view.note.value = ""
    view.add_note.click()
    assert "there is no note" in bench.board.problems["review"]
    view.set_note.click()
    view.remove.click()
    assert not any(row.window_tags or row.window_note for row in rows)
    for _ in range(4):
        ask(bench.browser, kind="undo")
    assert not any(row.window_tags or row.window_note for row in rows)
    for _ in range(2):
        ask(bench.browser, kind="redo")
    assert all((row.window_tags, row.window_note) == (("night",), "all of it") for row in rows)
    settle(bench)
    steps = re.sub(' style="[^"]*"', "", view.steps.value)
    assert steps.index("<del>tag 9 windows</del>") < steps.index("undone, can be made again")
    assert "<td>note 9 windows</td><td>done</td>" in steps
    for _ in range(9):
        view.undo.click()
    assert all(not row.note for row in rows)
    for _ in range(9):
        view.redo.click()
    assert "no step to make again" in view.status.value
    assert (rows[0].note, rows[0].window_note) == ("mine; dark", "")


def test_bulk_without_a_window_says_what_to_do(bench):
    bench.review.rate.click()
    assert "tick some" in bench.board.problems["review"]
    bench.review.preview.click()
    assert "tick some" in bench.board.problems["review"]


def test_failed_windows_are_tried_again_in_their_run(bench, fake):
    fake.fail = {"0.00", "8.53"}
    caption_all(bench)
    failed = [index for index, row in enumerate(bench.board.windows) if row.state == "failed"]
    assert len(failed) == 4
    fake.fail, fake.calls = set(), []
    bench.browser.selection = [bench.board.windows[index].name for index in failed[:3]]
    bench.review.retry.click()
    settle(bench)
    assert [bench.board.windows[index].state for index in failed] == ["done"] * 3 + ["failed"]
    assert len(fake.calls) == 3
    assert len(ck.runs(bench.session.store)) == 1


# New tries of faulty captions.


def test_faulty_captions_are_tried_again_until_they_pass_and_both_texts_stay(bench, fake):
    seeds = {}

    def say(prompt, start, stage):
        tries = seeds[start] = seeds.get(start, 0) + 1
        if start == "0.00" and tries < 3 * 2:
            return "the sea and " * 40
        return f"A fine text at {start}."

    fake.say = say
    caption_all(bench)
    faulty = bench.board.faulty(range(9))
    assert [bench.board.windows[index].window.start_s for index in faulty] == [0.0, 0.0]
    bench.review.which.value = "all listed windows"
    bench.review.reroll.click()
    settle(bench)
    assert bench.board.faulty(range(9)) == []
    assert "2 of 2 captions pass" in bench.board.rerolled
    table = ck.runs(bench.session.store)
    assert table["note"].iloc[0].startswith("re-roll")
    used = [request.sampling.seed for request in fake.requests]
    assert {1, 2} <= set(used)
    first = ck.open_run(1, bench.session.store).final
    assert first["text"].str.startswith("the sea and").sum() == 2


def test_a_caption_that_never_passes_is_tried_so_often_and_no_more(bench, fake):
    fake.say = lambda prompt, start, stage: "the sea and " * 40
    caption_all(bench)
    before = len(fake.calls)
    assert bench.board.reroll([0], 2) == 1
    settle(bench)
    assert len(fake.calls) == before + 2
    assert bench.board.rerolled == "0 of 1 captions pass, tried 2 times"
    with pytest.raises(ValueError, match="give 1 or more"):
        bench.board.reroll([0], 0)


# What it will cost.


def test_the_cost_is_unknown_until_a_sample_of_eight_was_timed(bench, fake):
    assert bench.tuner.estimate("all").seconds is None
    settle(bench)
    assert bench.tuner.measure.layout.display is None
    bench.tuner.measure.click()
    settle(bench)
    assert len(fake.calls) == SAMPLE
    whole = bench.tuner.estimate("all")
    assert whole.windows == 9
    assert whole.seconds > 0
    assert whole.stored == SAMPLE
    assert bench.tuner.measure.layout.display == "none"
    assert "Whole set" not in bench.tuner.cost.value
    bench.browser.selection = [bench.board.windows[0].name]
    settle(bench)
    bench.tuner.fresh.value = True
    settle(bench)
    assert "Whole set: 9 windows: about" in bench.tuner.cost.value


# The review queue.


def test_the_queue_lists_what_nobody_reviewed_and_counts_what_is_left(bench):
    caption_all(bench)
    bench.review.begin.click()
    settle(bench)
    assert bench.browser.value == bench.board.windows[0].name
    assert "9 left in this list" in bench.review.left.value
    ask(bench.browser, kind="rate", index=0, rating=3)
    ask(bench.browser, kind="next")
    assert bench.browser.value == bench.board.windows[1].name
    settle(bench)
    assert "8 of 9 captions not reviewed" in bench.review.left.value


def test_windows_on_which_two_runs_disagree_come_first(bench, fake):
    fake.say = lambda prompt, start, stage: f"A red boat in the bay at {start}."
    caption_all(bench)
    fake.say = lambda prompt, start, stage: (
        "Nothing of that." if start == "17.07" else f"A red boat in the bay at {start}."
    )
    bench.tuner.prompt.value = "Another prompt."
    caption_all(bench)
    view = bench.review
    view.queue.value = "runs that disagree"
    view.begin.click()
    settle(bench)
    first = bench.browser.listed[: len([r for r in bench.board.windows if r.apart])]
    assert {f"{bench.board.windows[index].window.start_s:.2f}" for index in first} == {"17.07"}
    assert "differ in" in view.status.value
    assert bench.board.windows[bench.browser.listed[-1]].apart == 0


def test_two_reviewers_rate_under_their_names_and_agree(bench):
    caption_all(bench)
    for name, stars in (("Ada", (5, 3)), ("Ben", (5, 4))):
        bench.review.reviewer.value = name
        for index, rating in enumerate(stars):
            ask(bench.browser, kind="rate", index=index, rating=rating)
    assert bench.board.idle(30)
    bench.browser.value = bench.board.windows[2].name
    settle(bench)
    bench.compare.sides[0].rating.value = 2
    rated = {(who, stars) for _, _, who, stars in bench.session.store.reviews.ratings()}
    assert ("Ben", 2) in rated
    table = ck.agreement(bench.session.store)
    assert list(table.loc[0, ["reviewer_a", "reviewer_b", "captions", "same"]]) == [
        "Ada",
        "Ben",
        2,
        0.5,
    ]
    settle(bench)
    bench.review._count()
    assert "Ada and Ben" in bench.review.agreement.value


# What was just run.


def test_matrix_and_compare_take_what_was_just_run(bench):
    for prompt in ("One.", "Two.", "Three.", "Four."):
        bench.tuner.prompt.value = prompt
        caption_all(bench)
    settle(bench)
    assert bench.compare.run_b.value == 4
    assert 4 in bench.compare.several.value
    bench.compare.mode.value = "two runs"
    settle(bench)
    assert "<img" in bench.compare.heading.value


def test_code_names_the_store_and_repeats_the_windows_and_knobs(bench):
    bench.tuner.repeats.value, bench.tuner.top_p.value = 2, 0.5
    code = bench.tuner._as_code()
    assert str(bench.session.store.path.resolve()) in code
    assert "top_p=0.5" in code
    assert "repeats=2" in code


def test_stopping_a_reroll_ends_its_tries(bench):
    backend = bench.session.backend
    backend.say = lambda prompt, start, stage: "the sea and " * 40
    caption_all(bench)
    halting = Halting()
    halting.say = backend.say
    bench.session.backend = halting
    assert bench.board.reroll([0, 1], 5) == 2
    until(lambda: bench.board.busy)
    until(lambda: halting.calls)
    bench.board.stop()
    settle(bench)
    assert "0 of 2 captions pass" in bench.board.rerolled
    assert len(ck.runs(bench.session.store)) <= 2
    assert isinstance(backend, FakeBackend)
