"""The search for a recipe: rounds, comparison, metrics, budgets, and proposed prompts."""

from __future__ import annotations

import json
import re
import threading

import numpy as np
import pandas as pd
import pytest
from common import VIDEOS
from fakes import FakeBackend

import captionkit as ck
from captionkit.cli import main
from captionkit.engine import EngineError
from captionkit.prompts import PROMPTS
from captionkit.search import BLOCKS, Aim, Proposals, paired, search, watched
from captionkit.search.metric import UNSUPPORTED
from captionkit.search.plan import cost, rounds
from captionkit.search.proposals import usable_prompts

WORDS = [f"Say {count} words." for count in range(1, 9)]


class Everything(set):
    """Windows that a backend knows without their frames: all."""

    def __contains__(self, uid: object) -> bool:
        return True


@pytest.fixture
def films(fake, tmp_path):
    """Yield a session of 33 windows whose captions have as many words as asked for."""
    fake.known = Everything()
    fake.say = lambda prompt, start, stage: " ".join(["gull"] * int(prompt.split()[1]))
    session = ck.Session(VIDEOS, store=tmp_path / "runs.sqlite", backend=fake)
    yield session
    session.close()


@pytest.fixture(scope="module")
def idle(tmp_path_factory):
    """Yield a session whose searches are refused."""
    backend = FakeBackend()
    backend.known = Everything()
    store = tmp_path_factory.mktemp("idle") / "runs.sqlite"
    session = ck.Session(VIDEOS, store=store, backend=backend)
    yield session
    session.close()


def words(row: pd.Series) -> float:
    return len(row["text"].split())


def test_a_search_finds_the_best_of_eight_prompts_for_less_than_half_of_all_captions(films, fake):
    found = films.search(WORDS, metric=words)
    assert found.best.name == WORDS[-1]
    assert found.best.recipe.prompt == WORDS[-1]
    assert found.tied == []
    assert len(fake.calls) < len(WORDS) * 33 / 2
    table = found.table.set_index("setting")
    assert table.loc[WORDS[-1], "windows"] == 27
    assert table["windows"].min() == 7
    assert table.loc[WORDS[0], "verdict"] == "worse on 7"
    # Settings with fewer windows compare on the leader's scale.
    assert list(table.sort_values("words")["words"]) == list(range(1, 9))
    assert found.runs[WORDS[-1]].progress.done == 27
    assert films.store.path.exists()
    assert f"{WORDS[-1]} has 8.00; on those that decided, 8.00" in found.sentence
    assert found.held_out.windows == 6
    assert found.held_out.gain.mean == 7


def test_every_round_is_spread_over_the_films_and_the_same_for_all(films):
    found = films.search(WORDS, metric=words)
    videos = {name: run.captions["video"] for name, run in found.runs.items()}
    assert all(each.nunique() == min(8, len(each)) for each in videos.values())
    lead = list(found.runs[WORDS[-1]].captions["key"])
    for run in found.runs.values():
        assert list(run.captions["key"]) == lead[: len(run.captions)]


def test_equal_settings_are_not_ranked_by_noise_and_the_cheapest_is_named(films, fake):
    rng = np.random.default_rng(1)
    found = films.search(WORDS[:2], metric=lambda row: rng.random())
    assert "Can't tell" in found.sentence
    assert "on 27 windows" in found.sentence
    assert f"The cheapest of them is {WORDS[0]}" in found.sentence
    assert len(found.tied) == 1
    same = films.search(WORDS[:2], metric=lambda row: 1)
    assert same.best.name == WORDS[0], "of equal settings the cheapest leads"


def test_quality_has_a_price(films):
    found = films.search(WORDS, metric=words)
    assert [each.name for each in found.front] == WORDS
    # The fake backend counts 200 tokens of video and prompt.
    assert found.best_under(tokens=205).name == WORDS[4]
    assert found.cheapest_at(3).name == WORDS[2]
    assert "4.00 more words a caption for 1.0x the tokens (95% interval 4.00 to 4.00)" in str(
        found.best_under(tokens=205)
    )
    with pytest.raises(ValueError, match=r"the cheapest, Say 1 words\., takes 201 tokens"):
        found.best_under(tokens=100)
    with pytest.raises(ValueError, match=r"no setting reaches 9; the best, Say 8 words\., has 8"):
        found.cheapest_at(9)
    with pytest.raises(ValueError, match="give tokens= or seconds="):
        found.best_under()
    assert len(found.figure().axes[0].lines) > 8
    assert "Say 8 words." in found._repr_html_()


def test_two_metrics_are_shown_together_and_each_says_what_it_cannot_see(films):
    found = films.search(WORDS[:2], metric="sound")
    assert found.beside == "truth"
    assert {"sound", "truth"} <= set(found.table)
    assert films.search(WORDS[:2], metric="truth").beside == "sound"
    assert list(ck.metrics().columns) == ["measures", "cannot see"]
    assert ck.metrics()["cannot see"].str.len().min() > 20


class Knowing(FakeBackend):
    """Says yes to claims of gulls, no to others, and prefers the longer caption."""

    def __init__(self):
        super().__init__(lambda prompt, start, stage: self.answer(prompt))
        self.known = Everything()
        self.first_tokens = lambda request, text: {text: 0.9, "no" if text == "yes" else "yes": 0.1}

    def _stage(self, request):
        return 3, request.prompt

    def answer(self, prompt):
        if "Statement: " in prompt:
            return "yes" if "gull" in prompt else "no"
        if "Which caption" in prompt:
            a, b = re.search(r"A: (.*)\nB: (.*)", prompt, re.DOTALL).groups()
            return "tie" if len(a) == len(b) else "A" if len(a) > len(b) else "B"
        return {
            "Be short.": "A gull flies.",
            "Be long.": "A gull flies. A second gull swims. A third gull sleeps.",
            "Be longest.": "A gull flies. A boat swims. A boat sings. A boat sleeps in the harbour.",
        }[prompt]


@pytest.fixture
def knowing(tmp_path):
    session = ck.Session(VIDEOS / "harbour.mp4", store=tmp_path / "runs.sqlite", backend=Knowing())
    yield session
    session.close()


def test_claims_that_a_model_finds_true_decide_and_others_cost_what_is_stated(knowing):
    prompts = ["Be short.", "Be long.", "Be longest."]
    found = knowing.search(prompts, metric="verified", held_out=0)
    assert found.best.name == "Be long."
    assert found.best.score == 3
    scores = found.table.set_index("setting")["verified"]
    assert scores["Be longest."] == 1 - 3 * UNSUPPORTED
    assert "minus 2 for each other one" in ck.metrics().loc["verified", "measures"]
    assert found.beside == "truth"


def test_a_judge_compares_with_the_first_setting_which_stays_to_the_end(knowing):
    prompts = ["Be long.", "Be short.", "Be longest."]
    knowing.backend.first_tokens = None
    found = knowing.search(prompts, metric="judge", held_out=1)
    scores = found.table.set_index("setting")["judge"]
    assert dict(scores) == {"Be longest.": 1, "Be long.": 0.5, "Be short.": 0}
    assert found.best.name == "Be longest."
    windows = found.table.set_index("setting")["windows"]
    assert windows["Be long."] == windows["Be longest."]
    assert found.held_out.score == 1
    assert found.held_out.gain.mean == 0.5


def test_faults_and_words_can_be_subtracted(films):
    found = films.search(WORDS, metric=words, word_penalty=2, held_out=0)
    assert found.best.name == WORDS[0]
    # All captions lack a full stop, which is a fault, and from four words on they repeat a word.
    rows = films.windows.head(8)
    found = films.search([WORDS[2], WORDS[3]], metric=words, fault_penalty=2, windows=rows)
    assert found.best.name == WORDS[2]
    assert found.best.score == 1
    assert films.search([WORDS[2], WORDS[3]], metric=words, windows=rows).best.score == 4


def test_people_decide_where_they_wrote_captions(films, fake, tmp_path):
    keys = list(films.windows["key"])[:12]
    path = tmp_path / "people.jsonl"
    path.write_text("\n".join(json.dumps({"key": key, "text": "gull gull gull"}) for key in keys))
    people = films.import_captions(path)
    found = films.search(WORDS, metric="truth", reference=people)
    assert found.best.name == WORDS[2]
    used = set(found.runs[WORDS[2]].captions["key"])
    assert used <= set(keys)


def test_a_stopped_search_keeps_what_is_known_and_goes_on_without_repeating(films, fake):
    stopped = threading.Event()
    seen = []

    def stop(found):
        seen.append(found)
        if found.steps[0] == 5:
            stopped.set()

    aim = Aim(metric=words)
    part = search(films, {"prompt": WORDS}, aim, stopped, stop)
    assert part.stopped
    assert "Stopped early" in part.sentence
    assert len([each for each in part.measured if each.scores]) == 5
    assert "round 1 of" in seen[0].now
    before = len(fake.calls)
    whole = search(films, {"prompt": WORDS}, aim)
    assert not whole.stopped
    assert whole.best.name == WORDS[-1]
    after = len(fake.calls)
    assert before == 5 * 7
    again = search(films, {"prompt": WORDS}, aim)
    assert len(fake.calls) == after
    assert again.best.name == whole.best.name


def test_an_interrupt_stops_and_the_same_call_goes_on(films, fake, monkeypatch):
    def interrupted(work):
        while work.state()[0] < 3:
            assert not work.wait(0.01)
        assert "leader: Say" in work.state()[2]
        work.stop()
        raise KeyboardInterrupt

    monkeypatch.setattr(watched, "watch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        films.search(WORDS, metric=words)
    before = len(fake.calls)
    assert 0 < before < 8 * 7
    monkeypatch.undo()
    assert films.search(WORDS, metric=words).best.name == WORDS[-1]
    asked = [(request.uid, request.prompt) for request in fake.requests]
    assert len(set(asked)) == len(asked)


def test_windows_are_a_budget(films, fake):
    films.search(WORDS, metric=words, budget_windows=66)
    assert len(fake.calls) <= 66


@pytest.mark.parametrize(("settings", "windows"), [(2, 2), (2, 60), (5, 7), (24, 27), (100, 60)])
def test_a_plan_keeps_its_budget_and_ends_with_all_windows_for_two_settings_or_more(settings, windows):
    free = rounds(settings, windows)
    assert free[0].settings == settings
    assert free[-1].windows == windows
    assert free[-1].settings >= 2
    for budget in range(2 * settings, settings * windows, 7):
        plan = rounds(settings, windows, budget)
        assert cost(plan) <= budget
        assert plan[-1].settings >= 2


def test_a_difference_needs_six_windows_to_be_told():
    assert not paired(np.ones(5)).told
    six = paired(np.ones(6))
    assert six.told
    assert (six.mean, six.low, six.high) == (1, 1, 1)
    assert not paired(np.array([1, 1, 1, 1, 1, -0.1])).told
    assert not paired(np.zeros(60)).told
    assert not paired(np.array([])).told


@pytest.mark.parametrize("count", [8, 30])
def test_settings_without_a_difference_are_told_apart_in_one_of_twenty_cases(count):
    rng = np.random.default_rng(3)
    told = [paired(rng.normal(0, 1, count)).told for _ in range(400)]
    assert 0.02 < np.mean(told) < 0.08


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"prompts": ["short"]}, "nothing varies"),
        ({"prompts": ["short", PROMPTS["short"]]}, "nothing varies"),
        ({"prompts": ["short", "dense"], "sampling_fps": []}, "sampling_fps is empty"),
        ({"prompts": ["short", "dense"], "windows": 1}, "windows is 1: one window tells no settings"),
        ({"prompts": WORDS, "budget_windows": 15, "held_out": 0}, "too small to compare 8 settings"),
        ({"prompts": WORDS, "budget_windows": 3, "held_out": 0}, "give 16 or more$"),
        ({"prompts": WORDS, "budget_windows": 20}, r"hold some out \(12\): give 28 or more; or give 4"),
        ({"prompts": WORDS, "budget_windows": 1}, "budget_windows is 1"),
        ({"prompts": WORDS, "budget_s": 0}, "budget_s is 0"),
        ({"prompts": WORDS, "metric": "truht"}, "no metric 'truht'.*truth"),
        ({"prompts": WORDS, "metric": "schema"}, "needs captions as JSON"),
        ({"prompts": ["shrot", "dnese"]}, "no two settings .* can run: shrot: no prompt is named"),
        ({"prompts": WORDS, "held_out": -1}, "held_out is -1"),
    ],
)
def test_a_search_that_can_find_nothing_is_refused_in_clear_words(idle, axes, message):
    with pytest.raises(ValueError, match=message):
        idle.search(**axes)


def test_an_unknown_setting_is_refused(idle):
    with pytest.raises(TypeError, match="unknown setting sampling_fsp"):
        idle.search(["short", "dense"], sampling_fsp=[1, 2])


def test_one_window_is_too_few(idle):
    rows = idle.windows.head(1)
    with pytest.raises(ValueError, match="1 windows are left to decide, of 1"):
        idle.search(WORDS, metric=words, windows=rows)


def test_films_without_truth_are_refused_by_a_metric_that_needs_truth(films, monkeypatch):
    monkeypatch.setattr("captionkit.demo.recall._scenes", lambda path: [])
    with pytest.raises(ValueError, match="no window has what the metric 'truth' needs"):
        films.search(WORDS)
    assert films.search(WORDS[:2], metric="sound").beside == "words"


def test_a_metric_that_fails_on_a_row_costs_that_row_alone(films, caplog):
    def picky(row):
        if row["video"] == "harbour":
            raise KeyError("no harbour")
        return words(row)

    found = films.search(WORDS, metric=picky)
    assert found.best.name == WORDS[-1]
    assert "picky fails on" in caplog.text
    assert "of harbour: KeyError" in caplog.text
    with pytest.raises(ValueError, match=r"metric failing fails on every caption; the first, window"):
        films.search(WORDS, metric=failing)


def failing(row):
    return float(row["nonesuch"])


def test_a_window_that_fails_costs_no_other_window_and_no_setting(films, fake):
    fake.fail = {"0.00"}
    found = films.search(WORDS, metric=words)
    assert found.best.name == WORDS[-1]
    assert found.table["failed"].max() > 0
    assert found.table["error"].isna().all()


def test_a_setting_that_cannot_run_is_a_row_with_its_reason(films, fake, monkeypatch):
    start = films.start

    def refuse(*args, recipe, **settings):
        if recipe.prompt == WORDS[0]:
            raise EngineError("it does not fit")
        return start(*args, recipe=recipe, **settings)

    monkeypatch.setattr(films, "start", refuse)
    found = films.search(["shrot", *WORDS], metric=words)
    table = found.table.set_index("setting")
    assert table.loc[WORDS[0], "error"] == "it does not fit"
    assert "no prompt is named" in table.loc["shrot", "error"]
    assert found.best.name == WORDS[-1]
    with pytest.raises(ValueError, match=r"no two settings of the search can run: .*it does not fit"):
        films.search(WORDS[:2], metric=words)


def test_settings_that_all_fail_in_a_later_round_end_the_search_with_what_is_known(films, monkeypatch):
    start = films.start

    def refuse(*args, windows, **settings):
        if len(windows) > 7:
            raise EngineError("the engine is gone")
        return start(*args, windows=windows, **settings)

    monkeypatch.setattr(films, "start", refuse)
    found = films.search(WORDS, metric=words, windows=27)
    assert found.best.name == WORDS[-1]
    assert found.stopped
    assert "the engine is gone" in set(found.table["error"])


def test_time_that_ends_before_two_settings_are_measured_is_said(films):
    with pytest.raises(ValueError, match="budget_s=1e-06 ended before two settings"):
        search(films, {"prompt": WORDS}, Aim(metric=words, budget_s=1e-6))


def test_the_demo_model_proposes_nothing_so_prompts_are_built_and_that_is_said(films):
    made = ck.propose(films, "short", 20)
    assert made[0] == "short"
    assert len(made) == 21 == len(set(made))
    assert "built from ready sentences, as the model demo only captions" in made.how
    assert made.windows == frozenset()
    assert all(each.startswith(PROMPTS["short"]) for each in made[1:])
    assert made == ck.propose(films, "short", 20)
    second = ck.propose(films, made[1:3], 4)
    assert second[:2] == made[1:3]
    assert len(second) == 6
    assert all(any(part in each for part in BLOCKS.values()) for each in second)


def test_a_model_proposes_from_its_worst_captions_on_windows_that_decide_nothing(films, fake):
    films.recipe = ck.Recipe(model="qwen")
    asked = []
    good = ["Tell which things move and where to.", "Name the place, then what is in {video}."]

    def say(prompt, start, stage):
        if "Statement: " in prompt:
            return "no"
        if "You improve prompts" not in prompt:
            return "A red boat."
        asked.append(prompt)
        return json.dumps(
            {"prompts": [*good, "short", "Say it in {language}, please, and well.", good[0]]}
        )

    fake.say, fake._stage = say, lambda request: (1, request.prompt)
    made = ck.propose(films, "dense", 2, windows=5)
    assert made[1:] == good
    assert "by qwen, shown the worst of 5 windows" in made.how
    assert PROMPTS["dense"] in asked[0]
    assert "A red boat." in asked[0]
    assert "missing or wrong" in asked[0]
    assert "not true: A red boat." in asked[0]
    assert len(made.windows) == 5
    found = films.search(made, metric=words)
    for run in found.runs.values():
        assert not made.windows & set(run.captions["key"])
    some = ck.propose(films, "dense", 4, windows=5)
    assert "2 by qwen, 2 built from ready sentences" in some.how


def test_a_model_that_answers_nothing_usable_is_said(films, fake):
    films.recipe = ck.Recipe(model="qwen")
    fake.say = lambda prompt, start, stage: "A boat."
    made = ck.propose(films, "dense", 3)
    assert len(made) == 4
    assert "of qwen's answer 0 could be used" in made.how


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n is 0"),
        ({"windows": 0}, "windows is 0"),
        ({"start": []}, "start has no prompt"),
        ({"start": "nonesuch"}, "no prompt is named"),
        ({"start": "Say it in {language}."}, "unknown placeholder"),
    ],
)
def test_an_invalid_proposal_is_refused(idle, arguments, message):
    with pytest.raises(ValueError, match=message):
        ck.propose(idle, **arguments)


def test_prompts_are_read_from_lists_of_any_form():
    answer = (
        "1. Say what moves in this video.\n- Say where it is, please.\n\nshort\n* Say {what} it is now."
    )
    assert usable_prompts(answer, []) == [
        "Say what moves in this video.", "Say where it is, please.",
    ]  # fmt: skip
    assert usable_prompts('{"prompts": 3}', []) == []
    assert usable_prompts(json.dumps({"prompts": [None, "Say what it is."]}), ["say WHAT it is"]) == []
    assert "built" in repr(Proposals(["short"], "built"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", "short"], "nothing varies"),
        (
            ["--prompt", "short", "dense", "--sampling-fps", "fast"],
            "--sampling-fps fast is not a number",
        ),
        (["--prompt", "short", "dense", "--windows", "1"], "one window tells no settings apart"),
        (["--prompt", "short", "dense", "--budget-windows", "3"], "too small to compare 2 settings"),
        (["--prompt", "short", "dense", "--reference", "7"], "no run 7"),
        (["--prompt", "short", "dense", "--recipe", "no.toml"], "no.toml"),
        (["--prompt", "short", "dense", "--save", "nowhere/best.toml"], "there is no folder nowhere"),
    ],
)
def test_bad_usage_of_the_command_is_one_line_and_code_2(arguments, message, tmp_path, capfd):
    store = ["--store", str(tmp_path / "s.sqlite")]
    assert main(["search", str(VIDEOS / "night.mp4"), *store, *arguments]) == 2
    said = capfd.readouterr().err
    assert message in said
    assert "Traceback" not in said


@pytest.mark.engine
def test_the_command_prints_the_table_and_saves_recipe_and_figure(model, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    saved, figure = tmp_path / "best.toml", tmp_path / "cost.png"
    code = main(
        [
            "search", str(VIDEOS / "night.mp4"), "--prompt", "objects", "background",
            "--stage2", "none", "Add the time of day: {caption}", "--max-tokens", "24",
            "--temperature", "0", "--propose", "1", "--store", str(tmp_path / "s.sqlite"),
            "--save", str(saved), "--figure", str(figure), "--under-tokens", "100000",
        ]
    )  # fmt: skip
    printed = capfd.readouterr()
    assert code == 0, printed.err
    assert "built from ready sentences" in printed.err
    assert "objects, then Add the time of day: {caption}" in printed.out
    assert "Best within 100000 tokens a window" in printed.out
    assert ck.Recipe.load(saved).max_tokens == 24
    assert figure.stat().st_size > 5_000


@pytest.mark.engine
def test_the_encoder_runs_once_for_settings_that_share_frames(model, tmp_path):
    session = ck.Session(VIDEOS / "night.mp4", store=tmp_path / "runs.sqlite")
    engine = session.open_backend(session.recipe)
    engine.encoder_runs()
    count = len(session.windows)
    found = session.search(
        ["objects", "background"], stage2=[None, "Add the time of day: {caption}"],
        sampling_fps=[0.7, 1.3], held_out=0, temperature=0, max_tokens=24,
    )  # fmt: skip
    assert engine.encoder_runs() == 2 * count
    assert len(found.table) == 8
    assert found.table["tokens"].nunique() > 4
    assert found.table["seconds"].notna().all()
    session.close()
