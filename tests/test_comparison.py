"""Comparison of captions: word diffs, runs, blind choices; and checks of single captions."""

from __future__ import annotations

import html
import itertools
import re

import pandas as pd
import pytest
from common import VIDEOS
from hypothesis import given
from hypothesis import strategies as st

import captionkit as ck
from captionkit.display import html as display
from captionkit.display import overlap, wilson, word_diff
from captionkit.review import CHECKS, UNSUPPORTED, check, check_table

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)> \" ' & </table>"


def changed(before: str, after: str) -> list[tuple[str, str]]:
    return [(p.before, p.after) for p in word_diff(before, after) if p.kind == "changed"]


@given(st.text(max_size=80), st.text(max_size=80))
def test_a_diffs_pieces_add_up_to_both_texts(before, after):
    pieces = word_diff(before, after)
    assert "".join(piece.before for piece in pieces) == before
    assert "".join(piece.after for piece in pieces) == after
    for piece in pieces:
        if piece.kind == "same":
            assert piece.before.split() == piece.after.split()


def test_a_diff_goes_by_words():
    assert changed("A red boat moves left.", "A blue boat moves left.") == [("red ", "blue ")]
    assert changed("A boat.", "A boat. It is night.") == [("", "It is night.")]
    assert changed("same", "same") == []


def test_a_long_rewritten_caption_has_few_changes():
    before = "A man in the park walks the dog along the river on the left of the road " * 5
    after = "Over the hill a woman rides the bike to the shop at the end of the village " * 5
    pieces = word_diff(before, after)
    assert len(pieces) < 40
    for first, second in itertools.pairwise(pieces):
        assert (first.kind, second.kind) != ("changed", "changed")


def test_overlap_counts_words_once_each():
    assert overlap("A red boat", "a RED boat!") == 1
    assert overlap("a b", "c d") == 0
    assert overlap("a a b", "a b b") == pytest.approx(2 / 3)
    assert overlap("", "") == 1


def test_a_diff_is_marked_by_more_than_colour_and_is_harmless():
    left, right = display.diff_cells(word_diff(f"old {HOSTILE}", f"new {HOSTILE}"))
    assert "<del>old " in left
    assert "<ins>new " in right
    for cell in (left, right):
        assert re.sub(r"</?(ins|del)>", "", cell).count("<") == 0
    assert "line-through" in display.STYLE
    assert "underline" in display.STYLE


def test_two_runs_are_compared_window_by_window(session):
    one, two = session.caption("Say one."), session.caption("Say two.")
    found = ck.compare(one, two)
    assert list(found.table["window"]) == [0, 1, 2, 3]
    assert list(found.table["added"]) == [1] * 4
    assert found.summary["same"] == 0
    assert 0.5 < found.summary["overlap"] < 1
    assert [piece.after for piece in found.diff("harbour", 1)][1] == "two"
    shown = found._repr_html_()
    assert shown.count("<img alt=") == 4
    assert "run 1" in shown
    with pytest.raises(KeyError, match="window 7"):
        found.diff("harbour", 7)


def test_runs_without_a_common_window_cannot_be_compared(session):
    windows = session.windows
    one, two = (session.caption("Say it.", windows=windows[windows["window"] == n]) for n in (0, 1))
    with pytest.raises(ValueError, match="no captioned window in common"):
        ck.compare(one, two)


def test_stages_are_compared_if_there_are_two(session):
    run = session.caption("Say it.", stage2="More: {caption}")
    assert run.compare_stages().names == ("stage 1", "stage 2")
    assert list(run.compare_stages().table["added"]) == [3] * 4
    with pytest.raises(ValueError, match="has one stage"):
        session.caption("Say it.").compare_stages()


def test_hostile_captions_are_shown_as_text(session, fake):
    fake.say = lambda prompt, start, stage: f"{HOSTILE} {prompt}"
    run = session.caption("Say it.", stage2="More: {caption}")
    matrix = session.matrix(["Say it.", HOSTILE])
    for shown in (run._repr_html_(), run.compare_stages()._repr_html_(), matrix._repr_html_()):
        assert "<script" not in shown
        assert "onerror=alert" not in re.sub(r"&lt;.*?&gt;", "", shown)
        assert html.escape("<script>") in shown.replace("<ins>", "").replace("<del>", "")


def test_a_blind_choice_shows_no_side_and_gives_a_win_rate(session):
    one, two = session.caption("Say one."), session.caption("Say two.")
    duel = ck.ab(one, two, seed=5)
    assert len(duel) == 4
    assert {pair.left.split()[1] for pair in duel.pairs} == {"one.", "two."}
    assert not any("run" in repr(pair) for pair in duel.pairs)
    for index, pair in enumerate(duel.pairs[:3]):
        duel.choose(index, "left" if "two." in pair.left else "right")
    result = duel.result
    assert (result["a"], result["b"], result["tie"], result["win_rate"]) == (0, 3, 0, 0.0)
    assert result["low"] == 0
    assert 0.4 < result["high"] < 0.7
    again = ck.ab(one, two, seed=5)
    assert again.open_pairs == [3]
    again.choose(3, "tie")
    assert again.result["win_rate"] == pytest.approx(0.125)
    again.choose(3, "left" if "one." in again.pairs[3].left else "right")
    assert again.result["a"] == 1


def test_an_invalid_choice_is_refused(session, fake, tmp_path):
    one, two = session.caption("Say one."), session.caption("Say two.")
    duel = ck.ab(one, two)
    with pytest.raises(ValueError, match="'left', 'right' or 'tie'"):
        duel.choose(0, "both")
    with pytest.raises(IndexError, match="there are 0 to 3"):
        duel.choose(4, "left")
    with pytest.raises(ValueError, match="nothing to choose"):
        ck.ab(one, one)
    other = ck.Session(VIDEOS / "harbour.mp4", store=tmp_path / "other.sqlite", backend=fake)
    with pytest.raises(ValueError, match="different stores"):
        ck.ab(one, other.caption("Say two."))


def test_wilsons_interval_is_the_published_one():
    low, high = wilson(0.5, 10)
    assert (round(low, 3), round(high, 3)) == (0.237, 0.763)
    assert wilson(1.0, 0) == (0.0, 1.0)


FINE = "A red boat moves left over the sea by day."


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("empty", "", True),
        ("empty", " …\n", True),
        ("empty", FINE, False),
        ("repeats", "a boat a boat a boat a boat", True),
        ("repeats", "very very very very good", True),
        ("repeats", "very very very good", False),
        ("repeats", "The boat goes by the pier. " * 3, True),
        ("repeats", "It is day. The boat goes by the pier. " * 2, False),
        ("repeats", FINE, False),
        ("echoes", "Describe this video. Say who is in it, and how.", True),
        ("echoes", "In this video a boat is seen.", False),
        ("echoes", FINE, False),
        ("refuses", "I'm sorry, but I can't help with that.", True),
        ("refuses", "As an AI, I see no video.", True),
        ("refuses", "I cannot describe this.", True),
        ("refuses", "I can see a boat.", False),
        ("refuses", "A sign says: I'm sorry.", False),
        ("unfinished", "A red boat moves", True),
        ("unfinished", 'A sign says "stop".', False),
        ("unfinished", '{"kind": "boat"}', False),
        ("unfinished", "一艘红色的船向左移动。", False),
        ("unfinished", "", False),
        ("language", "Ein rotes Boot fährt nach links und die Sonne steht über dem Meer.", True),
        ("language", "Un bateau rouge est sur la mer avec des vagues et les oiseaux.", True),
        ("language", "一艘红色的船向左移动。", True),
        ("language", "Красная лодка плывёт влево.", True),
        ("language", FINE, False),
        ("language", "boat, bird", False),
        ("language", "", False),
    ],
)
def test_each_check_follows_its_rule(name, text, found):
    prompt = "Describe this video. Say who is in it, and how it looks."
    assert check(text, prompt=prompt)[name] is found


def test_truncation_follows_the_finish_reason_and_language_the_requested_one():
    assert check(FINE, finish_reason="length")["truncated"]
    assert not check(FINE)["truncated"]
    assert check("The boat is in the harbour.", language="de")["language"]
    assert not check("Das Boot ist im Hafen und die Sonne scheint.", language="de")["language"]
    assert not check("一艘红色的船。", language="zh")["language"]
    assert check("A boat.", language="ru")["language"]
    assert not check(FINE, language="xx")["language"]
    assert check(FINE)["words"] == 10


def test_rows_without_text_have_no_findings():
    table = pd.DataFrame(
        {"text": [FINE, None], "finish_reason": ["stop", None], "prompt": ["Say it.", None]}
    )
    found = check_table(table)
    assert list(found.columns) == [*CHECKS, UNSUPPORTED]
    assert found["words"].tolist()[0] == 10
    assert found.iloc[1].isna().all()


def test_checks_are_columns_beside_the_captions(session, fake):
    fake.finish_reason = "length"
    table = session.caption("Say it.").checks
    assert list(table.columns)[-len(CHECKS) - 1 :] == [*CHECKS, UNSUPPORTED]
    assert table["truncated"].all()
