"""Claims asked of their windows, judges, events: mechanism with a fake backend, and with real vLLM."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest
from common import VIDEOS
from fakes import FakeBackend

import captionkit as ck
from captionkit import structured
from captionkit.pipeline.questions import A_B_TIE, YES_NO, Reply
from captionkit.review.claims import split_claims

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
        asks = "Statement: " in request.prompt or request.sampling.schema
        return (3, request.prompt) if asks else super()._stage(request)

    async def stream(self, request):
        if request.video.frames is not None:
            self.frames_sent += 1
            self.known.add(request.video.uid)
        async for item in super().stream(request):
            yield item


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
    ("text", "said"),
    [
        ("", []),
        ("...", []),
        ("1. **Setting:** a beach at 3.5 km.\n- Mr. Smith walks.", 2),
        ("一只猫。它跑了。", 2),
        ("The flag is red, white and blue.", 1),
        ("word " * 50_000, 1),
    ],
)
def test_any_text_is_split_into_claims_that_lie_within_it(text, said):
    claims = split_claims(text)
    assert len(claims) == (said if isinstance(said, int) else len(said))
    assert all(0 <= each.start < each.end <= len(text) for each in claims)


def test_values_of_json_are_claims():
    schema = structured.canonical(
        {"type": "object", "properties": {"objects": {"type": "array"}, "time": {"type": "string"}}}
    )
    text = '{"objects": [{"kind": "car", "colour": "red"}], "time": "day"}'
    claims = split_claims(text, schema)
    assert [each.text for each in claims] == ["kind car, colour red.", "time: day."]
    assert text[claims[1].start : claims[1].end] == "day"
    event = '{"events": [{"start": 0, "end": 2.5, "text": "A car stops."}]}'
    (claim,) = split_claims(event, structured.canonical("events"))
    assert claim.text == "From 0 to 2.5 seconds: A car stops."


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
