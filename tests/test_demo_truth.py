"""What the demo world says of itself when asked: claims, pairs of captions, ready schemas, talks."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from common import DATA
from transformers import AutoTokenizer

from captionkit import structured
from captionkit.demo import claims, filled, language, pairs, talks, trust, wordings
from captionkit.demo import marks as marking
from captionkit.demo.claims import SUBJECTS
from captionkit.demo.held_out import Share
from captionkit.demo.scenes import BACKGROUNDS, SIZES, TIMES, Scene
from captionkit.demo.sprites import COLOURS, KINDS
from captionkit.demo.statements import Said, Statement, falsified, holds
from captionkit.pipeline.questions import Reply
from captionkit.prompts import QUESTIONS
from captionkit.review.claims import split_claims

SCENES = [Scene.random(3_000_000 + seed) for seed in range(150)]


def _scene(*things, **changes):
    """Make a scene of things given as changes to a small red boat that moves left at sea by day."""
    first = Scene.random(3_000_000, like={"count": 1, "background": "sea", "time": "day"})
    plain = replace(
        first.objects[0], kind="boat", colour="red", size="small", direction="left", event=None
    )
    made = tuple(replace(plain, **each) for each in things or ({},))
    return replace(first, objects=made, pan=0.0, **changes)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_claims_of_each_subject_are_true_or_false_as_they_say(subject):
    rng = np.random.default_rng(0)
    met = 0
    for scene in SCENES:
        said = claims.true_statement(scene, rng, subject)
        if said is None:
            continue
        met += 1
        assert holds(said, scene), said
        wrong = falsified(said, scene, rng)
        assert wrong is not None, said
        assert not holds(wrong, scene, kindly=True)
        assert wrong.text != said.text
    assert met >= 5


def test_claims_are_false_half_of_the_time_and_say_where_they_become_so():
    rng = np.random.default_rng(1)
    made = [claims.claim(scene, rng) for scene in SCENES for _ in range(10)]
    assert 0.45 < np.mean([each.is_true for each in made]) < 0.55
    assert all(each.wrong_from <= len(each.text) for each in made if not each.is_true)
    assert len({each.text for each in made}) > 500


def test_a_claim_cannot_be_told_false_by_its_words_alone():
    rng = np.random.default_rng(2)
    words = {True: Counter(), False: Counter()}
    for scene in SCENES * 10:
        made = claims.claim(scene, rng, "motion")
        words[made.is_true].update(set(made.text.lower().rstrip(".").split()))
    for word, count in words[True].items():
        # Kinds, colours, ways and events, each as common in what is false.
        if count > 150:
            assert 0.5 < words[False][word] / count < 2, word


@pytest.mark.parametrize(
    ("said", "true"),
    [
        ({"direction": "left"}, True),
        ({"direction": "right"}, False),
        ({"event": "turns"}, True),
        ({"event": "stops"}, False),
        ({"direction": "right", "event": "turns"}, False),
    ],
)
def test_a_thing_that_turns_first_moves_the_way_it_is_said_to(said, true):
    scene = _scene({"event": "turns", "moment": 3.0})
    assert holds(Statement("", (Said("boat", **said),)), scene) is true


def test_what_may_be_taken_for_true_is_never_called_false():
    turning, stopping = _scene({"event": "turns"}), _scene({"event": "stops"})
    for scene, way in ((turning, "right"), (stopping, "still")):
        statement = Statement("", (Said("boat", direction=way),))
        assert not holds(statement, scene)
        assert holds(statement, scene, kindly=True)


def test_facts_of_two_things_are_not_mixed():
    scene = _scene({}, {"kind": "bird", "colour": "blue", "direction": "right"})
    for said, true in (
        (Said("boat", "red"), True),
        (Said("boat", "blue"), False),
        (Said("bird", direction="left"), False),
        (Said("bird", "blue", direction="right"), True),
    ):
        assert holds(Statement("", (said,)), scene) is true
    assert not holds(Statement("", (Said("boat"), Said("boat"))), scene)


def test_order_is_of_the_moments_of_events():
    scene = _scene(
        {"event": "stops", "moment": 2.0},
        {"kind": "bird", "colour": "blue", "event": "turns", "moment": 5.0},
    )
    boat, bird = Said("boat", "red", event="stops"), Said("bird", "blue", event="turns")
    before = " the {colour0} {kind0} {verb0} before the {colour1} {kind1} {verb1}."
    right, swapped = (Statement(before, both, ordered=True) for both in ((boat, bird), (bird, boat)))
    assert right.text == "The red boat stops before the blue bird turns around."
    assert swapped.text == "The blue bird turns around before the red boat stops."
    assert (holds(right, scene), holds(swapped, scene)) == (True, False)


def test_the_true_caption_of_a_pair_is_better_in_both_orders():
    rng = np.random.default_rng(3)
    firsts = Counter()
    for scene in SCENES:
        pair = pairs.false_pair(scene, rng)
        better = pair.better()
        right = pair.a if better == "A" else pair.b
        assert right.text in (language.answer("default", scene), language.answer("dense", scene))
        assert {better, pair.swapped().better()} == {"A", "B"}
        assert pair.better("judge-truth") == better
        firsts[better] += 1
    assert min(firsts.values()) > 50


def test_rubrics_weigh_truth_and_detail_as_they_say():
    scene = _scene()
    short = pairs._told("short", scene, scene)
    dense = pairs._told("dense", scene, scene)
    wrong = pairs._told("dense", replace(scene, time="night"), scene)
    for pair, verdicts in (
        (pairs.Pair(short, dense), ("B", "tie", "B")),
        (pairs.Pair(short, wrong), ("A", "A", "B")),
        (pairs.Pair(dense, dense), ("tie", "tie", "tie")),
    ):
        assert tuple(pair.better(rubric) for rubric in pairs.RUBRICS) == verdicts
    assert set(pairs.RUBRICS) <= set(QUESTIONS)


@pytest.mark.parametrize("name", filled.READY)
def test_a_filled_schema_is_true_and_fits(name):
    schema = structured.canonical(name)
    for scene in SCENES:
        values = filled.filled(name, scene)
        assert structured.read(json.dumps(values), schema) == (values, None)
    assert set(wordings.READY_TEMPLATES) == set(filled.READY) == set(structured.EXAMPLES)


def test_filled_schemas_say_what_captions_say():
    for scene in SCENES:
        shot, tags = filled.filled("shot", scene), filled.filled("tags", scene)["tags"]
        text = f"{shot['setting']}: {shot['subject']}."
        things = [(thing.colour, thing.kind) for thing in scene.objects]
        assert [(each.colour, each.kind) for each in marking.claims(text).things] == things
        assert tags == [*(" ".join(each) for each in things), scene.background, scene.time]
        marks = marking.mark(f"{language.answer('motion', scene)} {shot['setting']}", scene.truth())
        assert marks.recall == 1.0
        for thing in scene.objects:
            assert language.verb(thing, scene) in shot["action"]


def test_events_are_in_order_within_the_scene_and_meet_at_their_moment():
    for scene in SCENES:
        events = filled.filled("events", scene)["events"]
        assert [each["start"] for each in events] == sorted(each["start"] for each in events)
        for each in events:
            assert 0 <= each["start"] < each["end"] <= scene.duration
        for thing in scene.objects:
            name = f"{thing.colour} {thing.kind}"
            own = [each for each in events if f" {name} " in each["text"]]
            assert len(own) == (2 if thing.event in ("stops", "turns", "overtakes") else 1)
            if len(own) == 2:
                assert own[0]["end"] == own[1]["start"]
                assert abs(own[0]["end"] - thing.moment) <= 0.25
    turning = filled.filled("events", _scene({"event": "turns", "moment": 3.1}))["events"]
    assert turning == [
        {"start": 0.0, "end": 3.0, "text": "A red boat moves left."},
        {"start": 3.0, "end": 8.5, "text": "The red boat turns around and moves right."},
    ]


def _shape(text: str) -> str:
    """Replace what differs between scenes by the name of the fact."""
    for name, words in (
        ("colour", COLOURS),
        ("kind", KINDS),
        ("size", SIZES),
        ("way", ("left", "right", "up", "down", "still")),
        ("place", language.PLACES.values()),
        ("hour", language.HOURS.values()),
        ("background", BACKGROUNDS),
        ("time", TIMES),
        ("number", language.NUMBERS),
        ("sky", ("sun", "moon")),
        ("shot", ("medium", "wide")),
    ):
        text = re.sub(rf"\b(?:{'|'.join(words)})\b", name, text, flags=re.IGNORECASE)
    return re.sub(r"\d\.\d", "second", text)


def test_training_teaches_the_forms_in_which_verify_asks():
    rng = np.random.default_rng(9)
    texts = {claims.claim(scene, rng).text for scene in SCENES for _ in range(20)}
    taught = {_shape(text) for text in texts}
    for scene in SCENES[:40]:
        asked = [
            each.text
            for form in ("default", "dense", "short", "motion", "background", "count")
            for each in split_claims(language.answer(form, scene))
        ]
        for name in filled.READY:
            values = filled.filled(name, scene)
            if name == "shot":
                # A list of several things is asked as one claim; training has at most two.
                del values["subject"], values["action"]
            text = json.dumps(values)
            asked += [each.text for each in split_claims(text, structured.canonical(name))]
        assert {_shape(each) for each in asked} <= taught


def test_talks_cover_every_topic_and_mark_what_is_false_where_it_stands():
    rng = np.random.default_rng(4)
    topics = Counter()
    for scene in SCENES[:60]:
        for talk in talks.talks(scene, rng):
            topics[talk.topic] += 1
            for part in talk.checked:
                assert part.start < part.end <= len(talk.prompt)
                assert part.wrong_from is None or part.start < part.wrong_from <= part.end
            if talk.topic == "claim":
                (part,) = talk.checked
                assert talk.prompt == QUESTIONS["claim"].format(claim=talk.prompt[part.start :])
                assert talk.answer == ("yes" if part.wrong_from is None else "no")
            if talk.topic in filled.READY:
                assert json.loads(talk.answer) == filled.filled(talk.topic, scene)
                assert talk.forced in (0, talk.answer.index(":") + 1)
    assert set(topics) == {"answer", "yesno", "claim", "judge", *filled.READY}


def test_taught_schemas_are_written_as_the_engines_grammar_forces_them():
    xgrammar = pytest.importorskip("xgrammar", reason="comes with vLLM")
    tokenizer = AutoTokenizer.from_pretrained(DATA / "demo-model")
    compiler = xgrammar.GrammarCompiler(xgrammar.TokenizerInfo.from_huggingface(tokenizer))
    # As vLLM compiles a schema where white space is forbidden, see `engine.arguments`.
    how = {"any_whitespace": False, "separators": (",", ":")}
    grammars = {
        name: compiler.compile_json_schema(structured.canonical(name), **how) for name in filled.READY
    }
    rng = np.random.default_rng(5)
    found = Counter()
    for talk in (talk for scene in SCENES[:40] for talk in talks.talks(scene, rng)):
        if talk.topic in grammars:
            found[talk.topic] += 1
            assert xgrammar.GrammarMatcher(grammars[talk.topic]).accept_string(talk.answer), talk.answer
    assert set(found) == set(filled.READY)


class Answering:
    """A film whose every question gets one reply, and whose every schema is filled by ``fill``."""

    def __init__(self, word="yes", share=1.0, fill=filled.filled):
        self.scenes = SCENES[:40]
        self._reply = Reply(word, {word: share, ("no" if word == "yes" else "B"): 1 - share})
        self._fill = fill

    def weigh(self, questions, words, model):
        return [[self._reply for _ in texts] for texts in questions]

    def captions(self, recipe):
        (name,) = json.loads(recipe.schema)["properties"].keys() & set(filled.READY)
        return [json.dumps(self._fill(name, scene)) for scene in self.scenes]


def test_a_model_that_says_yes_to_all_is_right_at_chance_and_finds_no_planted_error():
    rng = np.random.default_rng(5)
    figures = trust.claims_right(Answering("yes", 0.9), "demo", rng)
    assert 0.35 < figures["verdict of a claim"].value < 0.65
    assert figures["area under the curve of p_true"].value == 0.5
    found = trust.planted_found(Answering("yes"), "demo", rng)
    assert [each.value for each in found.values()] == [0.0, 1.0]
    found = trust.planted_found(Answering("no"), "demo", rng)
    assert [each.value for each in found.values()] == [1.0, 0.0]


def test_a_judge_that_always_takes_the_first_caption_is_never_right_in_both_orders():
    assert trust.pairs_right(Answering("A"), "demo", np.random.default_rng(6)).value == 0.0


def test_true_schemas_are_all_right_and_false_ones_are_not():
    right = trust.schemas_right(Answering(), "demo")
    assert [each.value for each in right.values()] == [1.0, 1.0]
    rng = np.random.default_rng(7)

    def false(name, scene):
        return filled.filled(name, language.planted(scene, rng))

    wrong = trust.schemas_right(Answering(fill=false), "demo")
    assert all(0.4 < each.value < 1.0 for each in wrong.values())

    def broken(name, scene):
        return {name: 1}

    assert [each.value for each in trust.schemas_right(Answering(fill=broken), "demo").values()] == [
        0,
        0,
    ]


def test_events_count_as_right_by_both_times_within_a_second():
    true = [
        {"start": 0.0, "end": 4.0, "text": "A boat."},
        {"start": 4.0, "end": 8.5, "text": "It stops."},
    ]
    said = [
        {"start": 1.0, "end": 4.0, "text": "A boat."},
        {"start": 4.0, "end": 7.0, "text": "It stops."},
    ]
    assert trust.times_right(said, true) == Share(1, 2)


def test_the_area_under_the_curve_is_the_share_of_pairs_in_order():
    area = trust.Area.of([0.9, 0.6, 0.6, 0.1], [True, True, False, False])
    assert area.value == 3.5 / 4
    low, high = area.interval
    assert 0 < low < area.value < high <= 1
    assert trust.Area.of([0.5], [True]).interval == (0.0, 1.0)


def test_a_planted_error_makes_a_claim_of_its_caption_false():
    rng = np.random.default_rng(8)
    for scene in SCENES:
        wrong = language.planted(scene, rng)
        claims_made = set(marking.claims(language.answer("default", wrong)).things)
        assert claims_made != set(marking.claims(language.answer("default", scene)).things) or (
            (wrong.background, wrong.time) != (scene.background, scene.time)
        )
        for thing, said in zip(scene.objects, wrong.objects, strict=False):
            if (thing.kind, thing.colour) == (said.kind, said.colour) and said != thing:
                assert said.direction not in (thing.direction, thing.direction_at(scene.duration))
