"""What a person guesses works, and a wrong guess is told the right name."""

from __future__ import annotations

import inspect
import os

import pytest

import captionkit as ck
from captionkit.store import Store


def test_a_session_has_a_length_and_its_windows_one_after_another(session):
    assert len(session) == 4
    assert [(each.video, each.number) for each in session] == [("harbour", n) for n in range(4)]
    assert session


def test_runs_are_compared_by_their_numbers(session, tmp_path, monkeypatch):
    one, two = session.caption("Say one."), session.caption("Say two.")
    assert ck.compare(1, 2, session.store).table.equals(ck.compare(one, two).table)
    assert ck.compare(one, 2).names == ("run 1", "run 2")
    assert len(ck.ab(1, two)) == 4
    with pytest.raises(KeyError, match="no run 9"):
        ck.compare(1, 9, session.store)
    # Without a store a number means a run of the project's own.
    monkeypatch.chdir(tmp_path)
    os.mkdir(".captionkit")
    os.link("runs.sqlite", ".captionkit/runs.sqlite")
    os.link("runs.sqlite-wal", ".captionkit/runs.sqlite-wal")
    assert ck.compare(1, 2).summary["windows"] == 4


def test_the_sessions_captions_are_the_latest_of_each_window(session):
    session.caption("Say one.", stage2="More: {caption}")
    second = session.caption("Say two.", windows=session.windows.iloc[[1, 3]])
    table = session.captions
    assert list(table["window"]) == [0, 0, 1, 2, 2, 3]
    assert list(table["run"]) == [1, 1, 2, 1, 1, 2]
    assert list(table.columns) == list(second.captions.columns)
    rows = table[table["run"] == 2].reset_index(drop=True)
    assert rows.equals(second.captions)


def test_windows_have_the_columns_that_captions_have(session):
    run = session.caption("Say one.")
    windows, captions = session.windows, run.captions
    assert set(windows.columns) <= set(captions.columns)
    shared = [name for name in windows if name not in ("note", "tags")]
    assert (windows[shared].to_numpy() == captions[shared].to_numpy()).all()


def test_notes_and_tags_of_windows_and_captions_stand_in_both_tables(session, fake):
    fake.fail.add("25.60")
    run = session.caption("Say one.")
    session.annotate(session.windows.iloc[[0, 3]], "backlight", tags=["night", "boat, red"])
    session.annotate(session.windows.iloc[[0]], tags="night")
    run.set_note("harbour", 0, "too short")
    run.tag("harbour", 0, "good", "good")
    run.tag("harbour", 1, "bad")
    assert list(session.windows["tags"]) == ["night", "", "", "night, boat, red"]
    table = run.captions
    assert list(table["note"]) == ["too short", None, None, "backlight"]
    assert list(table["tags"]) == ["good, night", "bad", None, "night, boat, red"]
    run.tag("harbour", 1)
    session.annotate(session.windows, "", tags="")
    assert list(run.captions["tags"]) == ["good", None, None, None]


def test_a_comparison_and_a_blind_one_show_themselves_as_text(session):
    one, two = session.caption("Say one."), session.caption("Say two.")
    shown = repr(ck.compare(one, two))
    assert shown.startswith("<Comparison: run 1 and run 2, 4 windows, 0% the same, word overlap 0.")
    assert "harbour 0:\n  - Say one. at 0.00.\n  + Say two. at 0.00." in shown
    duel = ck.ab(one, two)
    assert repr(duel) == "<AB: run 1 and run 2, 4 pairs, none chosen yet>"
    assert duel.pairs[0].left in duel._repr_html_()
    duel.choose(0, "left")
    assert "4 pairs, 3 open; run 1 better" in repr(duel)
    assert duel.pairs[1].left in duel._repr_html_()


def test_the_packages_names_are_the_public_ones():
    assert set(dir(ck)) == {*ck.__all__, "scale"}
    assert isinstance(ck.AB, type)
    assert isinstance(ck.Comparison, type)


def test_the_help_of_export_has_its_options():
    assert set(inspect.signature(ck.Run.export).parameters) >= {"stage", "checks", "prefer_human"}
    text = ck.Run.export.__doc__
    for name in ("stage", "checks", "prefer_human", "overwrite"):
        assert f"\n        {name}\n" in text
    assert "jsonl" in text
    assert "temperature" in inspect.signature(ck.Recipe).parameters


@pytest.mark.parametrize(
    ("act", "right"),
    [
        (lambda session: ck.sesion, "session|Session"),
        (lambda session: ck.Recipe(tempratur=0), "temperature"),
        (lambda session: ck.Recipe(prompt="shrot"), "short"),
        (lambda session: ck.Recipe(prompt="From {strat} on."), "start"),
        (lambda session: ck.Session("x", stor="y"), "store"),
        (lambda session: ck.Session("x", temperature=0), "recipe=Recipe"),
        (lambda session: session.caption(max_token=9), "max_tokens"),
        (lambda session: session.caption(widows=None), "windows"),
        (lambda session: session.frames("harbor", 0), "harbour"),
        (lambda session: session.caption("short").export("x.jsnol"), "jsonl"),
        (lambda session: session.caption("short").export("x.csv", overwite=True), "overwrite"),
        (lambda session: ck.Session(session.source, "dmeo").caption("short"), "demo"),
    ],
)
def test_a_misspelt_name_is_told_the_right_one(session, act, right):
    with pytest.raises((AttributeError, TypeError, ValueError, KeyError, OSError), match=right):
        act(session)


def test_the_last_steps_are_undone_one_by_one_and_no_text_is_lost(session):
    run = session.caption("Say one.")
    run.edit("harbour", 0, "First.")
    run.edit("harbour", 0, "Second.")
    run.rate("harbour", 1, 4)
    reviews = session.store.reviews
    result = session.store.states(run=run.id)[session.windows["key"][0]].result
    assert reviews.undo() == "rating of harbour 1"
    assert run.captions["rating"].isna().all()
    assert reviews.undo() == "edited_text of harbour 0"
    assert run.captions["edited_text"][0] == "First."
    assert reviews.undo() == "edited_text of harbour 0"
    assert run.captions["edited_text"][0] is None
    assert reviews.undo() is None
    assert reviews.texts(result, 1) == ["Second.", "First."]
    # Each of them comes back, until a new step is made.
    assert [step.again for step in reviews.steps()] == [True] * 3
    assert [reviews.redo(), reviews.redo()] == ["edited_text of harbour 0"] * 2
    assert run.captions["edited_text"][0] == "Second."
    assert [step.done for step in reviews.steps()] == [False, True, True]
    run.set_note("harbour", 2, "Dark.")
    assert reviews.redo() is None
    assert [(step.what, step.done, step.again) for step in reviews.steps(most=2)] == [
        ("note of harbour 2", True, False),
        ("rating of harbour 1", False, False),
    ]
    assert reviews.undo() == "note of harbour 2"
    assert reviews.redo() == "note of harbour 2"
    assert reviews.redo() is None


def test_a_step_that_is_made_again_changes_no_value_that_was_written_since(session):
    run = session.caption("Say one.")
    reviews = session.store.reviews
    run.edit(
        "harbour",
        0,
        "Ann's.",
    )
    assert reviews.undo("") == "edited_text of harbour 0"
    session.store.annotate(run.id, "harbour", 0, 1, reviewer="bob", edited_text="Bob's.")
    assert reviews.redo("") == "edited_text of harbour 0"
    assert run.captions["edited_text"][0] == "Bob's."


def test_reviewers_keep_their_own_ratings_and_their_agreement_is_known(session):
    run = session.caption("Say one.")
    for window, (ann, bob) in enumerate([(5, 5), (4, 5), (1, 2), (3, None)]):
        run.rate("harbour", window, ann, reviewer="ann")
        if bob:
            run.rate("harbour", window, bob, reviewer="bob")
    (row,) = ck.agreement(session.store).itertuples()
    assert (row.reviewer_a, row.reviewer_b, row.captions) == ("ann", "bob", 3)
    assert (row.same, row.within_one) == (pytest.approx(1 / 3), 1.0)
    # By hand: mean squared difference 2/3, by chance (0+0+9 + 1+1+4 + 16+16+1)/9 = 48/9.
    assert row.kappa == pytest.approx(1 - (2 / 3) / (48 / 9))
    assert session.store.reviews.undo("ann") == "rating of harbour 3"


def test_todays_store_gets_the_new_columns_and_keeps_its_ratings(session, tmp_path):
    """A store of version 2 is made by taking away what later versions added."""
    import contextlib
    import sqlite3

    run = session.caption("Say one.")
    run.rate("harbour", 0, 4)
    session.close()
    path = tmp_path / "runs.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        for table in ("changes", "steps", "prompts", "kept", "answers", "verifications"):
            db.execute(f"DROP TABLE {table}")
        db.execute("DROP INDEX captions_reviewed")
        db.execute("ALTER TABLE captions DROP COLUMN tags")
        db.execute("ALTER TABLE windows DROP COLUMN tags")
        for table, column in (("results", "texts"), ("jobs", "texts"), ("jobs", "follows")):
            db.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        db.execute("PRAGMA user_version = 2")
    run = ck.open_run(1, Store(path))
    assert run.captions["rating"][0] == 4
    run.tag("harbour", 0, "good")
    assert run.captions["tags"][0] == "good"
