"""Claims asked of their windows, judges, events: mechanism with a fake backend, and with real vLLM."""

from __future__ import annotations

import contextlib
import json
import math
import re
from dataclasses import replace

import pandas as pd
import pydantic
import pytest
from common import VIDEOS
from fakes import FakeBackend

import captionkit as ck
from captionkit import structured
from captionkit.cli import main
from captionkit.engine import Engine, EngineError
from captionkit.pipeline.questions import A_B_TIE, YES_NO, Reply
from captionkit.review.claims import content_words, placed, split_claims
from captionkit.review.disagreements import difference, lacking
from captionkit.review.events import event_rows, join_events
from captionkit.review.judges import calibrate
from captionkit.run.asking import Asker
from captionkit.run.verification import check_words
from captionkit.session import Session

CAPTION = "At sea by day, a red car moves right. It stops."


class Knowing(FakeBackend):
    """Captions with ``text``, and says yes to claims whose words stand in ``truth``."""

    def __init__(self, text: str = CAPTION, truth: str = "red car right") -> None:
        super().__init__(lambda prompt, start, stage: self.answer(prompt))
        self.text, self.truth, self.questions = text, truth, []
        self.frames_sent = 0
        self.first_tokens = self.probabilities

    def is_true(self, prompt: str) -> bool:
        return set(re.findall(r"red|blue|car|boat|left|right", prompt.split("Statement: ")[1])) <= set(
            self.truth.split()
        )

    def answer(self, prompt: str) -> str:
        if "Statement: " not in prompt:
            return self.text
        self.questions.append(prompt)
        return "yes" if self.is_true(prompt) else "no"

    def probabilities(self, request, text):
        yes = 0.9 if text == "yes" else 0.2
        return {" Yes": yes / 2, "yes": yes / 2, "No": 1 - yes}

    def _stage(self, request):
        return (3, request.prompt) if request.sampling.schema else super()._stage(request)

    async def stream(self, request):
        if request.video.frames is not None:
            self.frames_sent += 1
            self.known.add(request.video.uid)
        async for item in super().stream(request):
            yield item


class Judge(FakeBackend):
    """Prefers the caption with ``best`` in it, with some liking for the first place."""

    def __init__(self, best="red", bias=0.0):
        super().__init__(lambda prompt, start, stage: self.answer(prompt))
        self.best, self.bias, self.questions = best, bias, []
        self.first_tokens = lambda request, text: self.shares(request.prompt)

    def _stage(self, request):
        return 3, request.prompt

    def shares(self, prompt):
        a, b = re.search(r"\nA: (.*)\nB: (.*)", prompt).groups()
        liking = self.bias / 2 + (0.4 if self.best in a else 0) - (0.4 if self.best in b else 0)
        return {" A": 0.5 + liking, "B": 0.5 - liking}

    def answer(self, prompt):
        if "\nA: " not in prompt:
            return f"{prompt.split()[-1]} thing."
        self.questions.append(prompt)
        found = self.shares(prompt)
        return f"{max(found, key=found.get).strip()}, because it is so."

    def stream(self, request):
        self.known.add(request.video.uid)
        return super().stream(request)


@pytest.fixture
def judged(tmp_path):
    """Two runs, of "red thing." and "blue thing.", and their judge."""
    backend = Judge()
    session = ck.Session(VIDEOS / "harbour.mp4", store=tmp_path / "runs.sqlite", backend=backend)
    yield session.caption("Say red"), session.caption("Say blue"), backend
    session.close()


@pytest.fixture
def knowing():
    return Knowing()


@pytest.fixture
def session(knowing, tmp_path):
    made = ck.Session(VIDEOS / "harbour.mp4", store=tmp_path / "runs.sqlite", backend=knowing)
    yield made
    made.close()


def test_claims_are_sentences_and_clauses_with_their_places():
    text = "At sea by day, a red car moves right; a boat stops. It leaves, while the sun sets."
    claims = split_claims(text)
    assert [each.text for each in claims] == [
        "At sea by day.",
        "A red car moves right.",
        "A boat stops.",
        "A boat stops. It leaves.",
        "The sun sets.",
    ]
    assert [text[each.start : each.end] for each in claims] == [
        "At sea by day", "a red car moves right", "a boat stops.", "It leaves", "the sun sets.",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("Initially, the man sits. At 0:05, the car stops, and the dog runs.",
         ["Initially, the man sits.", "At 0:05, the car stops.", "The dog runs."]),
        ("As the video goes on, a man walks. Suddenly, a dog barks…",
         ["As the video goes on, a man walks.", "Suddenly, a dog barks…"]),
        ("J. K. Rowling waits. This is plan B. A dog runs.",
         ["J. K. Rowling waits.", "J. K. Rowling waits. This is plan B.", "A dog runs."]),
        ("Fruits etc. The man eats at 5 p.m. A dog barks.",
         ["Fruits etc.", "The man eats at 5 p.m.", "A dog barks."]),
        ("एक नाव है। सूरज है।", ["एक नाव है।", "सूरज है।"]),
        ("On the left, a man walks, on the right, a woman sits.",
         ["On the left, a man walks.", "On the right, a woman sits."]),
        ("At 0.5 s, a car stops, and at 2.5 s, a dog runs.",
         ["At 0.5 s, a car stops.", "At 2.5 s, a dog runs."]),
        ("With a hat on his head, a man walks. Because it rains, the dog runs.",
         ["With a hat on his head, a man walks.", "Because it rains, the dog runs."]),
        ("A red car moves right. Then it stops. Suddenly, a dog barks.",
         ["A red car moves right.", "A red car moves right. Then it stops.", "Suddenly, a dog barks."]),
        ("A man stands. Next to him, a dog sits.",
         ["A man stands.", "A man stands. Next to him, a dog sits."]),
        ("Sgt. Pepper plays. Ms. A. B. Smith walks. Jan. 5 is shown. The answer is no. Dogs run.",
         ["Sgt. Pepper plays.", "Ms. A. B. Smith walks.", "Jan. 5 is shown.", "The answer is no.",
          "Dogs run."]),
    ],
)  # fmt: skip
def test_what_qualifies_a_clause_stays_with_it_and_only_sentences_end(text, claims):
    assert [each.text for each in split_claims(text)] == claims


def test_text_in_place_of_json_is_split_as_text_and_cut_off_json_says_nothing():
    schema = structured.canonical("tags")
    assert [each.text for each in split_claims("A red car. A boat.", schema)] == [
        "A red car.",
        "A boat.",
    ]
    assert split_claims('{"tags": ["a red', schema) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", []),
        ("...", []),
        ("1. **Setting:** a beach at 3.5 km.\n- Mr. Smith walks.", 2),
        ("一只猫。它跑了。", 2),
        ("The flag is red, white and blue.", 1),
        ("word " * 50_000, 1),
        # A caption that repeats itself.
        ("a dog runs fast, " * 20_000, 20_000),
        ("A dog" + " " * 100_000 + "runs.", 1),
    ],
)
def test_any_text_is_split_into_claims_that_lie_within_it(text, said):
    claims = split_claims(text)
    assert len(claims) == (said if isinstance(said, int) else len(said))
    assert all(0 <= each.start < each.end <= len(text) for each in claims)


def test_values_of_json_stand_behind_those_before_them_and_long_texts_are_split():
    schema = structured.canonical(
        {"type": "object", "properties": {"objects": {}, "total": {}, "caption": {"type": "string"}}}
    )
    text = (
        '{"objects": [{"kind": "car", "count": 3}], "total": 3, '
        '"caption": "A red car moves. A boat stops."}'
    )
    claims = split_claims(text, schema)
    assert [each.text for each in claims] == [
        "kind car, count 3.", "total: 3.", "caption: A red car moves.", "caption: A boat stops.",
    ]  # fmt: skip
    assert claims[1].start == text.index("3, ")
    assert [text[each.start : each.end] for each in claims[2:]] == ["A red car moves.", "A boat stops."]


@pytest.mark.parametrize(
    ("statement", "said"),
    [("a car.", "a car"), ("a dog  runs", "A dog\nruns"), ("A boat.", None), ("...", None)],
)
def test_a_statement_of_a_model_stands_where_its_words_do(statement, said):
    text = "İİ. A carpet lies there; a car. A dog\nruns. Aboats."
    found = placed(statement, text)
    assert (None if found.start is None else text[found.start : found.end]) == (
        said and said.rstrip(".")
    )


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("A plane flies over the bridge.", "A plane flies under the bridge."),
        ("A man walks into the house.", "A man walks out of the house."),
        ("It is 3.5 m.", "It is 5.3 m."),
        ("The camera zooms in.", "The camera zooms out."),
    ],
)
def test_ways_and_numbers_are_facts(one, two):
    assert difference(one, two) > 0


def test_values_of_json_are_claims():
    schema = structured.canonical(
        {"type": "object", "properties": {"objects": {"type": "array"}, "time": {"type": "string"}}}
    )
    text = '{"objects": [{"kind": "car", "colour": "red"}], "time": "day"}'
    claims = split_claims(text, schema)
    assert [each.text for each in claims] == ["kind car, colour red.", "time: day."]
    assert text[claims[1].start : claims[1].end] == "day"
    twice = '{"time": "day", "objects": [{"kind": "day", "colour": "red"}, {"kind": "day"}]}'
    places = [(claim.start, claim.end) for claim in split_claims(twice, schema)]
    assert [twice[start:end] for start, end in places] == ["day"] * 3
    assert len(set(places)) == 3
    event = '{"events": [{"start": 0, "end": 2.5, "text": "A car stops."}]}'
    (claim,) = split_claims(event, structured.canonical("events"))
    assert claim.text == "From 0 to 2.5 seconds: A car stops."


def test_names_of_values_and_times_are_no_facts_that_another_text_lacks():
    shot = '{"shot": "wide", "subject": "a red car", "action": "stops", "setting": "a city"}'
    assert difference("A wide shot. A red car stops in a city.", shot, (None, "shot")) == 0
    events = '{"events": [{"start": 0, "end": 2.5, "text": "A red car stops."}]}'
    assert difference(events, "A red car stops.", ("events", None)) == 0
    assert lacking('{"camera": ["pan left"]}', "The camera tilts.", "camera") == (
        ["camera: pan left."],
        1,
    )


def test_words_said_of_other_things_are_a_difference_and_come_behind_missing_words():
    one = "A red car moves right. A blue boat moves left."
    assert difference(one, "A blue boat moves left. A red car moves right.") == 0
    assert difference(one, "A blue car moves left. A red boat moves right.") == 0.5
    assert difference(one, "A red car stops. A blue boat stops.") > 0.5
    schema = structured.canonical(
        {"type": "object", "properties": {"cars": {"type": "integer"}, "boats": {"type": "integer"}}}
    )
    counts = ['{"cars": 2, "boats": 1}', '{"cars": 1, "boats": 2}']
    assert difference(*counts, (schema, schema)) == 0.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("There is no car, a boat or a dog in sight.", 1),
        ("Neither a car, a boat, nor a dog is there.", 1),
        ("A man in a hat, a coat, and a scarf walks.", 1),
        ("A car (a taxi, a red one) stops.", 1),
        ("### Overview\nA car stops.\n**Setting:**\n- a city at night\n```json", 2),
        ("**A red car stops.**", 1),
        ("The video shows:\n- a dog\n- two cats", 2),
        ("A car stops, a dog runs away, and the boat moves left.", 3),
        ("A red car moves left, then it stops.", 2),
    ],
)
def test_lists_brackets_denials_and_headings_make_no_claims_of_their_own(text, said):
    claims = split_claims(text)
    assert len(claims) == said, claims
    assert all(text[each.start : each.end].replace("**", "") == each.said for each in claims)


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ('"Hello," says a man.', ['"Hello," says a man.']),
        ("A man says “stop”; a dog sits", ["A man says “stop”.", "A dog sits."]),
        ('A sign says "Go." A car starts.', ['A sign says "Go."', "A car starts."]),
        ('"A man walks."', ["A man walks."]),
        ("(A tall man) walks [fast]", ["(A tall man) walks [fast]."]),
        ("It is vol. 3 of a book. A cat sits.", ["It is vol. 3 of a book.", "A cat sits."]),
        ('A man says "Stop. Go away." and leaves. A cat.',
         ['A man says "Stop. Go away." and leaves.', "A cat."]),
        ('Text reads "Sale, a big one for all".', ['Text reads "Sale, a big one for all".']),
        ("A man walks (he wears a hat. It is red.) and stops.",
         ["A man walks (he wears a hat. It is red.) and stops."]),
        ('A 5" pipe lies there. A man says "stop".',
         ['A 5" pipe lies there.', 'A man says "stop".']),
        ("「走れ。」と彼は言う。", ["「走れ。」と彼は言う。"]),
        ("[0:05] A dog runs.\na) A cat sits.", ["[0:05] A dog runs.", "A cat sits."]),
    ],
)  # fmt: skip
def test_marks_within_a_claim_stay_in_pairs(text, asked):
    claims = split_claims(text)
    assert [each.text for each in claims] == asked
    assert [text[each.start : each.end] for each in claims] == [each.said for each in claims]


def test_an_event_without_a_text_costs_no_other_caption():
    schema = structured.canonical({"type": "object", "properties": {"events": {"type": "array"}}})
    text = (
        '{"events": [{"start": 0, "end": 1, "text": null}, {"start": 0, "end": 1, "text": "A dog."}]}'
    )
    assert [each.said for each in split_claims(text, schema)] == ["0 1", "A dog."]
    assert difference(text, "A dog.", (schema, None)) > 0


@pytest.mark.parametrize(
    "forms",
    [
        ("building", "buildings"), ("city", "cities"), ("carries", "carrying"), ("speed", "speeds"),
        ("horse", "horses"), ("bus", "buses"), ("glass", "glasses"), ("tree", "trees"),
        ("stops", "stopped", "stopping", "stop"), ("move", "moves", "moved", "moving"), ("see", "sees"),
    ],
)  # fmt: skip
def test_forms_of_a_word_count_as_one(forms):
    assert {frozenset(content_words(form)) for form in forms} == {frozenset(content_words(forms[0]))}
    assert content_words("bee") != content_words("bus")


def test_the_probability_of_an_answer_is_that_of_its_first_tokens_whatever_their_case():
    reply = Reply("Yes", {"Yes": 0.5, " yes": 0.2, "▁No": 0.1, "true": 0.1, "The": 0.1})
    assert reply.shares(YES_NO) == pytest.approx({"yes": 8 / 9, "no": 1 / 9})
    assert Reply("x", {"The": 0.95, "yes": 0.05}).shares(YES_NO) is None
    # "t" may begin a tie or nothing else; "b" is an answer of its own.
    shares = Reply("B", {"B": 0.6, "t": 0.2, " A": 0.2}).shares(A_B_TIE)
    assert shares == pytest.approx({"a": 0.2, "b": 0.6, "tie": 0.2})


@pytest.mark.parametrize(
    ("text", "words", "answer"),
    [
        ("No, it is not.", YES_NO, "no"),
        ("<think>yes or no?</think> No.", YES_NO, "no"),
        ("The statement is true.", YES_NO, "yes"),
        ("The statement is not true.", YES_NO, "no"),
        ("This is not true of the video.", YES_NO, "no"),
        ("It is not entirely true.", YES_NO, None),
        ("I can't say yes.", YES_NO, None),
        ("There are no people in it, so the statement is true.", YES_NO, "yes"),
        ("There is no car.", YES_NO, "no"),
        ("True or false: false", YES_NO, "no"),
        ("Caption A is worse than caption B.", A_B_TIE, "b"),
        ("A more detailed caption is B.", A_B_TIE, "b"),
        ("I think A and B are equal.", A_B_TIE, "tie"),
        ("A is better.", A_B_TIE, "a"),
        ("Between A and B, B is better.", A_B_TIE, "b"),
        ("Both A and B describe it, but B is more accurate.", A_B_TIE, "b"),
        ("Caption A is wrong, B is right.", A_B_TIE, "b"),
        ("A describes it better.", A_B_TIE, "a"),
        ("A or B? B", A_B_TIE, "b"),
        ("A, B, or tie: B", A_B_TIE, "b"),
        ("A is not better.", A_B_TIE, None),
        ("Neither A nor B is better.", A_B_TIE, "tie"),
        ("Неправда.", {"yes": ["да"], "no": ["нет"]}, None),
        ("Вода, ответ: нет", {"yes": ["да"], "no": ["нет"]}, "no"),
        ("Nothing known.", YES_NO, None),
        ("It is a tie.", A_B_TIE, "tie"),
        ("a", A_B_TIE, "a"),
        ("Caption B, because a car is red.", A_B_TIE, "b"),
        ("是的", {"yes": ["是"], "no": ["否"]}, "yes"),
    ],
)
def test_an_answer_without_probabilities_is_read_from_its_text(text, words, answer):
    assert Reply(text).answer(words) == answer


def test_verify_tells_the_cost_asks_each_claim_once_and_marks_what_is_false(session, knowing):
    knowing.text = CAPTION.replace("red", "blue")
    run = session.caption("short")
    sent = knowing.frames_sent
    before = run.verification()
    assert str(before.cost) == "12 questions about 4 windows; 0 answered before"
    assert before.claims["verdict"].isna().all()
    assert run.checks["unsupported"].isna().all()
    found = run.verify()
    assert (len(knowing.questions), knowing.frames_sent) == (12, sent)
    assert knowing.questions[0].startswith("Is this statement true of the video? Answer yes or no.")
    claims = found.claims
    assert list(claims.columns) == [
        "video", "window", "key", "repeat", "stage", "claim", "start", "end", "p_true", "verdict",
        "answer",
    ]  # fmt: skip
    first = claims[claims["window"] == 0]
    assert list(first["verdict"]) == [True, False, False]
    assert list(first["p_true"]) == pytest.approx([0.9, 0.2, 0.2])
    assert list(found.captions["supported"]) == pytest.approx([1 / 3] * 4)
    assert found.supported == pytest.approx(1 / 3)
    assert list(run.checks["unsupported"]) == [True] * 4
    assert "<u style=" in run._repr_html_()
    assert "<u style=" in found._repr_html_()
    assert run.report().summary[["verified", "with unsupported claims"]].tolist() == [4, 4]
    # The store has the answers: nothing is asked again, by no session.
    run.verify()
    assert len(knowing.questions) == 12
    assert run.verification().cost.questions == 0


def test_only_new_claims_of_another_run_are_asked(session, knowing):
    session.caption("short").verify()
    asked = len(knowing.questions)
    knowing.text = f"{CAPTION} A boat is left."
    longer = session.caption("dense")
    assert longer.verification().cost.questions == 4
    longer.verify()
    assert len(knowing.questions) == asked + 4
    assert list(longer.verify().captions["supported"]) == [0.75] * 4


def test_an_unknown_window_is_decoded_once_for_all_its_claims(session, knowing):
    run = session.caption("short")
    knowing.known.clear()
    sent = knowing.frames_sent
    run.verify()
    assert knowing.frames_sent == sent + 4


def test_a_window_that_fails_costs_no_other_one_and_is_asked_again(session, knowing):
    run = session.caption("short")
    knowing.fail.add("8.53")
    found = run.verify()
    assert found.claims.groupby("window")["verdict"].count().tolist() == [3, 0, 3, 3]
    assert set(found.errors.values()) == {"the window at 8.53 is broken"}
    assert run.checks["unsupported"].isna().tolist() == [False, True, False, False]
    knowing.fail.clear()
    assert run.verify().claims["verdict"].notna().all()


def test_a_model_without_probabilities_answers_by_text(session, knowing):
    knowing.first_tokens = None
    run = session.caption("short")
    found = run.verify()
    assert found.claims["p_true"].isna().all()
    assert found.claims["verdict"].all()
    # The first question shows that there are none; the others are asked for text at once.
    assert len(knowing.questions) < 2 * 12
    assert "without probabilities" in repr(found)


def test_own_words_and_an_own_question_are_used(session, knowing):
    run = session.caption("short")
    knowing.say = lambda prompt, start, stage: "ja" if "rot" in prompt else "nein"
    knowing.first_tokens = lambda request, text: {text: 1.0}
    how = {"question": "Ist das wahr (rot)? {claim}", "words": {"yes": "ja", "no": ["nein"]}}
    assert run.verify(**how).claims["verdict"].all()
    assert run.checks["unsupported"].eq(False).all()
    assert check_words({"yes": ["Ja", " ja"], "no": "nein"}, YES_NO) == {"yes": ["ja"], "no": ["nein"]}


def test_a_model_that_does_not_start_leaves_the_verification_before(session, knowing, monkeypatch):
    run = session.caption("short")
    run.verify()

    def fail(recipe, stop=None):
        raise EngineError("no memory")

    monkeypatch.setattr(session, "open_backend", fail)
    with pytest.raises(EngineError, match="no memory"):
        run.verify(question="Is it so? {claim}")
    assert run.verified.supported == 1


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"question": "Is it true?"}, "claim"),
        ({"question": "clam"}, "did you mean"),
        ({"question": "{claim} {caption}"}, "unknown placeholder"),
        ({"words": {"yes": "ja"}}, "yes, no"),
        ({"words": {"yes": "x", "no": "X"}}, "same word"),
        ({"words": {"yes": [], "no": "no"}}, "no word"),
        ({"stage": 2}, "stage is 2"),
        ({"split": "words"}, "rule, model"),
        ({"windows": [0, 1]}, "rows of the session"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_asked(session, knowing, how, message):
    run = session.caption("short")
    with pytest.raises(ValueError, match=message):
        run.verify(**how)
    assert knowing.questions == []


def test_a_run_without_a_session_shows_its_verdicts_and_cannot_ask(session, knowing):
    run = session.caption("short")
    run.verify()
    alone = ck.open_run(run.id, session.store)
    assert alone.verified.supported == 1
    assert list(alone.checks["unsupported"]) == [False] * 4
    with pytest.raises(ValueError, match="no session"):
        alone.verify()


def test_another_sessions_model_is_asked_and_its_answers_are_its_own(session, knowing, tmp_path):
    run = session.caption("short")
    strict = Knowing(truth="")
    other = ck.Session(
        VIDEOS / "harbour.mp4", store=tmp_path / "other.sqlite", backend=strict,
        recipe=ck.Recipe(sampling_fps=1),
    )  # fmt: skip
    assert run.verify(by=other).supported == pytest.approx(1 / 3)
    assert run.verify().supported == 1
    assert run.verify(by=other).supported == pytest.approx(1 / 3)
    assert len(strict.questions) == 12
    other.close()


def test_a_model_may_list_the_claims_by_a_schema(session, knowing):
    run = session.caption("short")
    said = {"claims": ["a red car moves right", "A blue boat is there."]}
    knowing.say = lambda prompt, start, stage: (
        knowing.answer(prompt) if "Statement" in prompt else json.dumps(said)
    )
    found = run.verify(split="model")
    first = found.claims[found.claims["window"] == 0]
    assert list(first["claim"]) == said["claims"]
    place = first.iloc[0]
    assert CAPTION[place["start"] : place["end"]] == "a red car moves right"
    assert pd.isna(first.iloc[1]["start"])
    assert list(run.checks["unsupported"]) == [True] * 4
    # An edited text has claims of its own, which nobody was asked about.
    video, window = run.captions[["video", "window"]].iloc[0]
    run.edit(video, window, "A green bus waits.")
    chosen = run.to_choose.set_index(["video", "window"])
    assert chosen.loc[(video, window), "edited_text"] == "A green bus waits."
    assert chosen.loc[(video, window), "unsupported"] is pd.NA
    assert chosen["unsupported"].notna().sum() == 3
    # Without the run that listed them, claims are those of the rule.
    session.store.delete(run.verified.way.split)
    assert run.checks["unsupported"].isna().all()


def test_a_list_of_claims_belongs_to_the_text_that_it_was_made_of(session, knowing):
    texts = iter(["A red car moves right."] * 4 + ["A blue boat waits."] * 4)

    def say(prompt, start, stage):
        if "Statement" in prompt:
            return knowing.answer(prompt)
        found = re.search("a red car moves right|a blue boat waits", prompt, re.IGNORECASE)
        return json.dumps({"claims": [f"{found[0]}."]}) if found else next(texts)

    knowing.say = say
    before = session.caption("short")
    assert before.verify(split="model").supported == 1
    after = session.caption("short", fresh=True)
    found = after.verify(split="model")
    assert set(found.claims["claim"].str.lower()) == {"a blue boat waits."}
    assert list(after.checks["unsupported"]) == [True] * 4
    # The older run keeps its list and its verdicts.
    assert list(before.checks["unsupported"]) == [False] * 4


def test_answers_that_are_neither_yes_nor_no_are_told_with_an_example(session, knowing):
    run = session.caption("short")
    knowing.first_tokens = None
    knowing.say = lambda prompt, start, stage: "The statement is correct."
    found = run.verify()
    assert "0 not answered" not in repr(found)
    assert "12 answered neither yes nor no, as 'The statement is correct.' (give words=" in repr(found)


def test_a_run_that_was_deleted_meanwhile_is_named(session, knowing):
    run = session.caption("short")
    session.store.delete(run.id)
    with pytest.raises(ValueError, match=f"run {run.id} was deleted: .* holds no run"):
        run.verify()


def test_a_server_is_asked_without_the_precision_of_the_captions(session):
    run = session.caption("short")
    asker = Asker.of("http://localhost:1/v1", replace(run.recipe, fp8=True), session)
    assert not asker.recipe.fp8
    assert Asker.of(None, replace(run.recipe, fp8=True), session).recipe.fp8


def test_a_model_lists_the_claims_of_the_windows_that_are_verified(session, knowing):
    run = session.caption("short")
    knowing.say = lambda prompt, start, stage: (
        knowing.answer(prompt) if "Statement" in prompt else '{"claims": ["A red car."]}'
    )
    found = run.verify(split="model", windows=session.windows.head(1))
    assert len(ck.open_run(found.way.split, session.store).captions["key"].unique()) == 1


def test_stage_2_is_marked_beside_stage_1_and_what_it_dropped_is_listed(session, knowing, tmp_path):
    knowing.say = lambda prompt, start, stage: (
        knowing.answer(prompt)
        if "Statement" in prompt
        else "A red car moves right. A boat is left."
        if stage == 1
        else "A blue car."
    )
    run = session.caption("short", stage2="Say more: {caption}")
    run.verify()
    assert "<u style=" in run.compare_stages()._repr_html_()
    dropped = run.omissions()
    assert list(dropped[dropped["window"] == 0]["claim"]) == [
        "A red car moves right.", "A boat is left.",
    ]  # fmt: skip
    assert dropped.iloc[0]["missing"] == "red, moves, right"
    assert dropped["verdict"].isna().all()
    run.verify(stage=1)
    assert list(run.omissions().head(2)["verdict"]) == [True, False]
    page = run.export(tmp_path / "run.html").read_text()
    assert "<u>" in page
    assert "unsupported" in page


def read_by_suffix(path):
    read = {".csv": pd.read_csv, ".parquet": pd.read_parquet}
    return read.get(path.suffix, lambda each: pd.read_json(each, lines=True))(path)


def test_exports_have_the_checks_that_the_run_shows(session, knowing, tmp_path):
    knowing.say = lambda prompt, start, stage: (
        knowing.answer(prompt)
        if "Statement" in prompt
        else "A blue car."
        if start == "8.53"
        else "A red car."
    )
    run = session.caption("short")
    before = read_by_suffix(run.export(tmp_path / "before.csv", checks=True))
    assert before["unsupported"].isna().all()
    run.verify()
    said = run.checks
    assert list(said["unsupported"]) == [False, True, False, False]
    for suffix in ("jsonl", "csv", "parquet"):
        table = read_by_suffix(run.export(tmp_path / f"run.{suffix}", checks=True))
        assert list(table.columns) == list(said.columns)
        assert list(table["unsupported"]) == list(said["unsupported"])
    cues = run.export(tmp_path / "run.srt", checks=True).read_text()
    assert "A blue car.\n[unsupported]" in cues
    assert cues.count("unsupported") == 1
    (meta,) = run.export(tmp_path / "nemo", "nemo", checks=True).glob("**/*.json")
    windows = json.loads(meta.read_text())["windows"]
    assert [each["checks"] for each in windows] == [[], ["unsupported"], [], []]
    assert run.report().captions["faults"].tolist() == ["", "unsupported", "", ""]
    assert run.export(tmp_path / "run.html").read_text().count("<td>unsupported</td>") == 1


def test_a_data_set_leaves_out_captions_with_unsupported_claims(session, knowing, tmp_path):
    knowing.text = CAPTION.replace("red", "blue")
    run = session.caption("short")
    run.verify()
    first = run.captions.iloc[0]
    # A person's text was not verified.
    run.edit(first["video"], 0, "A text of a person.")
    how = {"layout": "events", "without_faults": "unsupported"}
    (film,) = json.loads(
        (run.export(tmp_path / "set", "dataset", **how) / "events.json").read_text()
    ).values()
    assert film["sentences"] == ["A text of a person."]
    table = ck.load_captions(run.export(tmp_path / "run.csv", checks=True))
    written = ck.export_dataset(table.iloc[:1], tmp_path / "of a table", "events", overwrite=True)
    assert "unsupported 1" in (written / "card.md").read_text()


def test_a_damaged_verification_of_a_strangers_store_costs_no_caption(session, tmp_path):
    run = session.caption("short")
    run.verify()
    for how in ("no json", "{}", '{"asker": 3, "question": "x", "words": 4}', "[1]"):
        session.store.answers.set_verified(run.id, how)
        assert run.verified is None
        assert run.checks["unsupported"].isna().all()


def test_answers_end_with_the_last_run_of_their_windows(session, knowing):
    run = session.caption("short")
    run.verify()
    run.delete()
    assert session.store.answers.pace(Reply.__name__) is None
    again = session.caption("short")
    assert again.verification().cost.questions == 12


def test_a_judge_sees_both_orders_and_each_pair_once(judged):
    red, blue, judge = judged
    found = ck.judge(red, blue)
    assert len(judge.questions) == 8
    assert list(found.table["choice"]) == ["a"] * 4
    assert list(found.table["p_a"]) == pytest.approx([0.9] * 4)
    assert found.table["reason"].iloc[0] == "A, because it is so.; B, because it is so."
    result = found.result
    assert (result["a"], result["b"], result["tie"], result["win_rate"]) == (4, 0, 0, 1)
    assert (result["first_place"], result["low"] < 1) == (0.5, True)
    ck.judge(red, blue)
    # The other way round the questions are the same ones.
    assert ck.judge(blue, red).result["b"] == 4
    assert len(judge.questions) == 8
    with pytest.raises(ValueError, match="equal captions"):
        ck.judge(red, red)


def test_a_judge_that_likes_a_place_has_a_measured_bias_that_is_cancelled(judged):
    red, blue, judge = judged
    judge.best, judge.bias = "nothing", 0.9
    found = ck.judge(red, blue, rubric="judge-truth")
    assert list(found.table["first"]) == ["a"] * 4
    assert list(found.table["second"]) == ["b"] * 4
    assert list(found.table["choice"]) == ["tie"] * 4
    assert found.result["first_place"] == 1
    judge.first_tokens = None
    assert ck.judge(red, blue, rubric="judge-detail").result["tie"] == 4


def test_a_judge_is_calibrated_against_the_blind_choices_of_people(judged):
    red, blue, _ = judged
    found = ck.judge(red, blue)
    assert str(found.calibration).startswith("Not known: nobody")
    # People's choices count whichever run came first.
    blind = ck.ab(blue, red)
    for number, pair in enumerate(blind.pairs):
        blind.choose(number, "left" if "red" in pair.left else "right")
    assert (found.calibration.pairs, found.calibration.same) == (4, 4)
    assert math.isnan(found.calibration.kappa)
    assert "undefined" in repr(found)
    assert "<table" in found._repr_html_()


@pytest.mark.parametrize(
    ("same", "sentence"),
    [(38, "Trust it: on 40"), (20, "Don't trust it: on 40"), (28, "Not known yet")],
)
def test_a_judge_is_trusted_by_kappa_with_its_interval(same, sentence):
    people = {str(n): "a" if n % 2 else "b" for n in range(40)}
    judge = {
        key: each if int(key) < same else {"a": "b", "b": "a"}[each] for key, each in people.items()
    }
    found = calibrate(judge, people)
    assert found.kappa == pytest.approx(2 * same / 40 - 1)
    assert found.low < found.kappa < found.high
    assert str(found).startswith(sentence)


def test_kappa_and_its_interval_are_at_least_minus_one_and_one_choice_gives_none():
    people = {str(number): "a" for number in range(100)}
    found = calibrate(people, {**people, "0": "b"})
    assert found.low == -1 < found.high < 1
    assert "on 100 pairs it chose as people did 99 times" in str(found)
    assert "on 1 pair it chose as people did 1 time (kappa undefined: all" in str(
        calibrate({"0": "a"}, people)
    )


def test_a_rubric_without_both_captions_is_refused(judged):
    red, blue, judge = judged
    with pytest.raises(ValueError, match=r"no \{b\}"):
        ck.judge(red, blue, rubric="Is {a} good?")
    alone = [ck.open_run(each.id, red.store) for each in (red, blue)]
    with pytest.raises(ValueError, match="no session"):
        ck.judge(*alone)
    assert judge.questions == []
    assert ck.judge(*alone, by=red.session).result["a"] == 4


def test_disagreements_come_by_facts_the_most_different_first(judged):
    red, _, judge = judged
    said = {"0.00": "A red car. A boat.", "8.53": "A boat. A red car.", "17.07": "A dog."}
    judge.say = lambda prompt, start, stage: said.get(start, "A cat.")
    one = red.session.caption("Say one.")
    judge.say = lambda prompt, start, stage: (
        "A red car. A boat." if start in ("0.00", "8.53") else "A cat."
    )
    two = red.session.caption("Say two.")
    found = red.session.disagreements(one, two)
    # Other words in another order state the same facts.
    assert dict(zip(found["window"], found["difference"], strict=True)) == {2: 1.0, 1: 0.0}
    assert list(found["window"]) == [2, 1]
    assert (found["only_a"][0], found["only_b"][0]) == ("A dog.", "A cat.")
    assert ck.judge(one, two, windows=found.head(1)).table["window"].tolist() == [2]


def test_the_least_supported_captions_come_first(session, knowing):
    knowing.say = lambda prompt, start, stage: (
        knowing.answer(prompt)
        if "Statement" in prompt
        else "A red car. A boat."
        if start == "8.53"
        else "A red car."
    )
    worst = session.caption("short").verify().worst
    assert worst["window"].iloc[0] == 1
    assert list(worst["supported"]) == [0.5, 1, 1, 1]


def spoken(events):
    listed = [{"start": start, "end": end, "text": text} for start, end, text in events]
    return json.dumps({"events": listed})


def test_events_have_seconds_of_the_film_and_invalid_ones_say_why(session, knowing, tmp_path):
    texts = {
        "0.00": spoken([(0, 2.5, "A car stops."), (1.5, 3, "A dog runs.")]),
        "8.53": spoken(
            [(70, 80, "Elsewhere."), (3, 2, "Backwards."), (2, 4, "Too early."), (1, 99, "Too late.")]
        ),
        "17.07": "no json",
        "25.60": '{"events": [{"start": "x", "end": 1, "text": "No number."}, 7]}',
    }
    knowing.say = lambda prompt, start, stage: texts[start]
    run = session.caption("short", schema="events")
    table = run.events
    assert table["invalid"].iloc[:2].tolist() == [None, None]
    assert table["start_s"].iloc[:2].tolist() == [0, 1.5]
    # A time outside the window makes no other event invalid.
    assert [str(each).split(" (")[0] for each in table["invalid"].iloc[2:]] == [
        "70 to 80 s lies outside the window of 8.53 s",
        "it ends at 2 s, before it begins at 3 s",
        "it begins at 2 s, before the event before it",
        "1 to 99 s lies outside the window of 8.53 s",
        "not JSON: Expecting value: line 1 column 1",
        "start or end is not a number",
        "it has no text",
    ]
    assert table["start_s"].iloc[3] == pytest.approx(8.533 + 3, abs=0.01)
    cues = run.export(tmp_path / "run.srt").read_text()
    assert "00:00:00,000 --> 00:00:02,500\nA car stops." in cues
    # Without valid times the window's own count.
    assert "00:00:08,533 --> 00:00:17,067\nBackwards." in cues
    assert "00:00:17,067 --> 00:00:25,600\nno json" in cues
    assert "00:00:01.500 --> 00:00:03.000\nA dog runs." in run.export(tmp_path / "r.vtt").read_text()
    (film,) = json.loads(
        (run.export(tmp_path / "set", "dataset", layout="events") / "events.json").read_text()
    ).values()
    assert film["timestamps"][:2] == [[0, 2.5], [1.5, 3]]
    assert film["sentences"][:2] == ["A car stops.", "A dog runs."]


SPAN_S = 256 / 30


def test_a_flash_is_shown_for_half_a_second_within_its_window(session, knowing, tmp_path):
    knowing.say = lambda prompt, start, stage: spoken([(2, 2, "Flash."), (SPAN_S, SPAN_S, "Bang.")])
    cues = session.caption("short", schema="events").export(tmp_path / "run.srt").read_text()
    assert "00:00:02,000 --> 00:00:02,500\nFlash." in cues
    assert "00:00:08,033 --> 00:00:08,533\nBang." in cues


@pytest.mark.parametrize(
    ("spans", "times", "joined"),
    [
        (((0, 10), (10, 20)), ((6, 10), (0, 4)), [(6, 14)]),
        (((0, 10), (10, 20)), ((6, 9), (0, 4)), [(6, 9), (10, 14)]),
        # Both windows show the middle of the event.
        (((0, 10), (5, 15)), ((6, 10), (1, 9)), [(6, 14)]),
        (((0, 10), (5, 15)), ((6, 7), (4, 9)), [(6, 7), (9, 14)]),
        (((0, 10), (5, 15)), ((8, 9), (0, 1)), [(5, 6), (8, 9)]),
        (((0, 10), (5, 15)), ((7, 9), (1, 6)), [(6, 11)]),
    ],
)
def test_parts_of_an_event_are_joined_at_a_border_and_across_overlapping_windows(spans, times, joined):
    rows = [
        {
            "video": "film", "path": "film.mp4", "window": number, "key": str(number), "repeat": 0,
            "stage": 1, "start_s": first, "end_s": last, "text": spoken([(*time, "A dog runs.")]),
            "error": None,
        }
        for number, ((first, last), time) in enumerate(zip(spans, times, strict=True))
    ]  # fmt: skip
    events = event_rows(pd.DataFrame(rows), structured.canonical("events"))
    found = join_events(events, 0.5)
    assert list(found[["start_s", "end_s"]].itertuples(index=False, name=None)) == joined


def test_an_event_goes_on_in_one_event_of_the_next_window():
    row = {
        "video": "film", "path": "film.mp4", "repeat": 0, "stage": 1, "error": None,
    }  # fmt: skip
    texts = [spoken([(6, 10, "It runs.")]), spoken([(0, 4, "It runs."), (4.2, 7, "It runs.")])]
    rows = [
        {**row, "window": n, "key": str(n), "start_s": 10 * n, "end_s": 10 * n + 10, "text": text}
        for n, text in enumerate(texts)
    ]
    found = join_events(event_rows(pd.DataFrame(rows), structured.canonical("events")), 0.5)
    assert found[["start_s", "end_s"]].to_numpy().tolist() == [[6, 14], [14.2, 17]]


def test_cues_come_by_their_start(session, knowing, tmp_path):
    events = [(4, 6, "One."), (8, 7, "Bad."), (8, 8.2, "Three.")]
    knowing.say = lambda prompt, start, stage: spoken(events)
    cues = session.caption("short", schema="events").export(tmp_path / "run.vtt").read_text()
    starts = [line.split(" ")[0] for line in cues.splitlines() if " --> " in line]
    assert len(starts) == 12 and starts == sorted(starts)


@pytest.mark.parametrize(
    ("start", "end", "clamped"),
    [
        (2, SPAN_S, (2, SPAN_S)),
        (2, 9, (2, SPAN_S)),
        (2, SPAN_S + 0.5, (2, SPAN_S)),
        (2, SPAN_S + 0.51, None),
        (-0.5, 2, (0, 2)),
        (-0.51, 2, None),
        (-0.5, SPAN_S + 0.5, (0, SPAN_S)),
        # No part of these lies within the window.
        (SPAN_S + 0.1, SPAN_S + 0.2, None),
        (-0.2, -0.1, None),
    ],
)
def test_events_half_a_second_outside_their_window_are_clamped_and_further_ones_invalid(
    session, knowing, start, end, clamped
):
    knowing.say = lambda prompt, start_s, stage: spoken([(start, end, "A car.")])
    event = session.caption("short", schema="events").events.iloc[1]
    times = (event["start_s"] - SPAN_S, event["end_s"] - SPAN_S)
    assert times == pytest.approx(clamped or (start, end))
    assert (event["invalid"] is None) == (clamped is not None)
    assert clamped or "lies outside the window of 8.53 s" in event["invalid"]


def test_events_of_an_own_schema_are_found_and_of_free_text_refused(session, knowing):
    class Event(pydantic.BaseModel):
        start: float
        end: float
        text: str

    class Film(pydantic.BaseModel):
        happens: list[Event]

    knowing.say = lambda prompt, start, stage: spoken([(1, 2, "A car.")]).replace("events", "happens")
    assert session.caption("short", schema=Film).events["text"].tolist() == ["A car."] * 4
    with pytest.raises(ValueError, match='schema="events"'):
        _ = session.caption("dense").events


def test_events_that_a_border_cut_are_joined(session, knowing):
    texts = {
        "0.00": spoken([(0, 1, "A car stops."), (6, 8.4, "A dog runs.")]),
        "8.53": spoken([(0, 8.5, "a dog runs"), (1, 2, "A car stops.")]),
        "17.07": spoken([(0.2, 1, "A dog runs."), (5, 6, "A dog runs.")]),
        "25.60": spoken([(0, 1, "A dog runs.")]),
    }
    knowing.say = lambda prompt, start, stage: texts[start]
    run = session.caption("short", schema="events")
    joined = run.join_events()
    long = joined[joined["text"] == "A dog runs."].iloc[0]
    assert (long["start_s"], long["end_s"]) == pytest.approx((6, 18.07), abs=0.01)
    assert (long["window"], long["last_window"]) == (0, 2)
    assert len(joined) == len(run.events) - 2
    with pytest.raises(ValueError, match="gap_s"):
        run.join_events(-1)


@pytest.mark.engine
def test_claims_of_known_windows_run_no_encoder_and_have_probabilities(model, tmp_path):
    with contextlib.closing(ck.Session(VIDEOS / "harbour.mp4", store=tmp_path / "s.sqlite")) as session:
        run = session.caption("dense", temperature=0, stage2="Describe it again. {caption}")
        engine = Engine.live()
        engine.encoder_runs()
        # A question that the demo model has always known: this is about the mechanism, not the truth.
        found = run.verify(question="Is there a boat in this video? {claim}")
        assert engine.encoder_runs() == 0
        claims = found.claims
        assert found.errors == {}
        assert claims["p_true"].between(0, 1).all()
        assert claims["verdict"].equals((claims["p_true"] >= 0.5).astype("boolean"))
        judged = ck.judge(run, session.caption("short", temperature=0))
        assert judged.errors == {}
        assert engine.encoder_runs() == 0


def test_the_command_line_verifies_and_judges_runs_and_writes_the_rows(
    session, knowing, tmp_path, monkeypatch, capsys
):
    run, store = session.caption("short"), str(session.store.path)
    knowing.text = CAPTION.replace("red", "blue")
    other = session.caption("dense")
    monkeypatch.setattr(Session, "open_backend", lambda self, recipe, stop=None: knowing)
    assert main(["verify", str(other.id), "--store", store, "--out", str(tmp_path / "c.csv")]) == 0
    printed = capsys.readouterr()
    assert "12 questions about 4 windows" in printed.err
    assert "12 claims, 8 unsupported; asked demo" in printed.err
    assert "A blue car moves right." in printed.out
    table = pd.read_csv(tmp_path / "c.csv")
    assert table["verdict"].tolist() == [True, False, False] * 4
    german = ["--question", "Statement: {claim} Ja?", "--yes", "yes", "--no", "no"]
    assert main(["verify", str(run.id), str(VIDEOS / "harbour.mp4"), "--store", store, *german]) == 0
    assert main(["judge", str(run.id), str(other.id), "--store", store]) == 0
    assert f"run {run.id} and run {other.id}, 4 pairs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["99"], "holds no run 99"),
        (["1", "--question", "Is it?"], "no {claim}"),
        (["1", "--yes", "ja"], "has no word"),
        (["1", "--out", "claims.txt"], ".csv"),
        (["1", "--batch-size", "0"], "--batch-size is 0"),
        (["1", "--stage", "2"], "stage is 2"),
        (["1", "nowhere.mp4"], "nowhere.mp4"),
        (["1", str(VIDEOS / "winter.mp4")], "not in this session"),
    ],
)
def test_bad_usage_of_verify_is_one_line_and_exit_code_2(
    session, knowing, monkeypatch, capsys, arguments, word
):
    session.caption("short")
    monkeypatch.setattr(Session, "open_backend", lambda self, recipe, stop=None: knowing)
    assert main(["verify", *arguments, "--store", str(session.store.path)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert word in said
    assert "Traceback" not in said
