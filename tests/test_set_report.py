"""Sets of captions: a report on all of them, near repeats, and scores against captions of people."""

from __future__ import annotations

import itertools
import json
import math
import random
import sys

import pandas as pd
import pytest
from common import VIDEOS
from fakes import FakeBackend

import captionkit as ck
from captionkit.display import overlap
from captionkit.review import duplicates, scores
from captionkit.review.duplicates import near_duplicates

STARTS = ["0.00", "8.53", "17.07", "25.60"]
TEXTS = [
    "A red boat sails on the blue sea.",
    "a red boat, sails on the blue sea",
    "A red boat sails on the grey sea.",
    "Anna Berg waves, and waves, and a gull flies by.",
]


@pytest.fixture
def fake():
    return FakeBackend(lambda prompt, start, stage: TEXTS[STARTS.index(start)])


def test_a_report_finds_repeats_openings_phrases_and_leaked_names(session):
    report = session.caption("Say it.").report(names=["Anna Berg", "Bob"], near=0.8)
    table = report.captions
    assert list(table["words"]) == [8, 8, 8, 10]
    assert list(table["same"]) == [None, "harbour 0", None, None]
    assert list(table["near"]) == [None, "harbour 0", "harbour 0", None]
    assert list(table["names"]) == ["", "", "", "anna berg"]
    assert report.openings.iloc[0].tolist() == ["a red boat", 3, 0.75]
    assert report.phrases.iloc[0]["captions"] == 3
    assert "a red boat sails" in set(report.phrases["phrase"])
    assert report.vocabulary.set_index("word")["captions"]["sea"] == 3
    assert report.vocabulary.set_index("word")["captions"]["waves"] == 1
    assert report.summary["repeated captions"] == 1
    assert report.summary["nearly repeated captions"] == 2
    assert report.summary["with names"] == 1
    assert report.videos["captions"].tolist() == [4]
    assert report.videos["near"].tolist() == [2]
    assert report.figure()._repr_png_().startswith(b"\x89PNG")
    assert "a red boat" in report._repr_html_()


def test_faults_are_counted_by_video(tmp_path):
    loops = "A boat, a boat, a boat, a boat, a boat."
    backend = FakeBackend(lambda prompt, start, stage: loops if start == "0.00" else "A <b>gull</b>.")
    films = [VIDEOS / "harbour.mp4", VIDEOS / "sky.mp4"]
    session = ck.Session(films, store=tmp_path / "runs.sqlite", backend=backend)
    report = session.caption("Say it.").report()
    assert report.videos.set_index("video")["repeats"].size == 2
    assert report.summary["with faults"] >= 2
    assert "<b>" not in report._repr_html_()
    session.close()


@pytest.mark.parametrize("steps", [0, duplicates._STEPS_OF_PAIR], ids=["marks", "product"])
def test_near_repeats_are_those_of_comparing_every_two(steps, monkeypatch):
    monkeypatch.setattr(duplicates, "_STEPS_OF_PAIR", steps)
    monkeypatch.setattr(duplicates, "_ROWS", 32)
    chosen = random.Random(7)
    words = [f"w{n}" for n in range(30)]
    texts = [" ".join(chosen.choices(words, k=chosen.randint(0, 9))) for _ in range(150)]
    for least in (0.5, 0.8, 0.87, 1.0):
        wanted: dict[int, int] = {}
        for index, text in enumerate(texts):
            kept = (n for n in range(index) if n not in wanted)
            near = next((n for n in kept if overlap(text, texts[n]) >= least), None)
            if near is not None:
                wanted[index] = near
        assert near_duplicates(texts, least) == wanted


def write_reference(path, texts) -> None:
    rows = [{"video": "harbour", "window": n, "caption": text} for n, text in texts.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_scores_measure_each_caption_against_what_people_wrote(session, tmp_path):
    write_reference(tmp_path / "people.jsonl", {0: TEXTS[0], 2: "A red boat.", 3: "nothing"})
    people = session.import_captions(tmp_path / "people.jsonl")
    people.edit("harbour", 3, TEXTS[3])
    table = session.caption("Say it.", stage2="More: {caption}").scores(people)
    first = table[table["stage"] == 1].set_index("window")
    assert list(first.index) == [0, 2, 3]
    assert list(first["overlap"]) == pytest.approx([1, 6 / 11, 1])
    assert list(first["recall"]) == pytest.approx([1, 1, 1])
    assert list(first["precision"]) == pytest.approx([1, 3 / 8, 1])
    assert first["facts"].isna().all()
    assert (table[table["stage"] == 2]["overlap"].iloc[0]) < 1


def test_labelled_windows_choose_the_prompt_of_a_matrix_and_of_a_sweep(session, fake, tmp_path):
    fake.say = lambda prompt, start, stage: TEXTS[0] if "well" in prompt else "A gull."
    write_reference(tmp_path / "people.jsonl", dict(enumerate([TEXTS[0]] * 4)))
    people = session.import_captions(tmp_path / "people.jsonl")
    prompts = ["Say it.", "Say it well."]
    ranked = session.matrix(prompts).scores(people)
    assert list(ranked.index) == ["Say it well.", "Say it."]
    assert ranked["windows"].tolist() == [4, 4]
    ranked = session.sweep(prompts=prompts, batch_sizes=[2]).scores(people)
    assert list(ranked["prompt"]) == ["Say it well.", "Say it."]
    assert ranked["overlap"].iloc[0] == 1


def likeness(name, *pairs) -> list[float]:
    texts, known = zip(*pairs, strict=True)
    keys = [str(n) for n in range(len(pairs))]
    captions = pd.DataFrame({"key": keys, "text": texts})
    return list(scores(captions, pd.DataFrame({"key": keys, "text": known}))[name])


def test_the_cider_measure_weighs_rare_phrases_and_their_order():
    known = "a red boat passes the old quay"
    same, rare, common, shuffled, other, short = likeness(
        "cider",
        (known, known),
        ("the old quay lies still", known),
        ("a red thing", known),
        ("quay old the passes boat red a", known),
        ("nothing", "a red gull"),
        ("Gull", "gull!"),
    )
    assert same == short == pytest.approx(1)
    assert 1 > rare > common > other == 0
    assert 0.2 < shuffled < 0.3
    one, *_ = likeness("cider", ("boat", "boat"))
    assert one == pytest.approx(1)


def test_meteor_is_that_of_nltk_with_stems_and_without_downloads():
    pytest.importorskip("nltk", reason="the extra scores is not installed")
    found = likeness(
        "meteor",
        ("the red boats drift by a gull", "a red boat drifts past a gull"),
        ("a b c", "a b c"),
        ("z", "a"),
    )
    # By hand: 5 of 7 words each, in 3 chunks, for the first: 5/7 * (1 - 0.5 * (3 / 5) ** 3).
    assert found[1:] == pytest.approx([1 - 0.5 / 27, 0])
    assert 0.5 < found[0] < 0.75


def test_without_nltk_there_is_no_column_of_meteor(monkeypatch, session, tmp_path):
    monkeypatch.setitem(sys.modules, "nltk.translate.meteor_score", None)
    monkeypatch.setitem(sys.modules, "nltk", None)
    write_reference(tmp_path / "people.jsonl", {0: TEXTS[0]})
    people = session.import_captions(tmp_path / "people.jsonl")
    assert "meteor" not in session.caption("Say it.").scores(people)
    ranked = session.matrix(["Say it."]).scores(people)
    assert list(ranked) == ["windows", "overlap", "precision", "recall", "cider", "facts"]


def test_facts_are_values_under_their_names_in_any_order():
    wanted = {"place": "Quay", "who": ["boat", "gull"], "none": None}
    said = [
        ({"who": ["gull", "boat"], "place": "quay"}, 1.0),
        ({"who": ["gull"], "place": "boat"}, 1 / 3),
        ("not JSON", 0.0),
    ]
    captions = pd.DataFrame({"key": list("abc"), "text": [json.dumps(text) for text, _ in said]})
    reference = pd.DataFrame({"key": list("abc"), "text": [json.dumps(wanted)] * 3})
    assert list(scores(captions, reference)["facts"]) == pytest.approx([share for _, share in said])
    plain = scores(captions, reference.assign(text="A quay."))
    assert all(math.isnan(each) for each in plain["facts"])
    with pytest.raises(ValueError, match="no captioned window has a reference"):
        scores(captions, reference.assign(key="z"))


def test_pairs_of_any_order_have_the_same_overlap():
    for one, two in itertools.permutations(TEXTS, 2):
        assert overlap(one, two) == overlap(two, one)
