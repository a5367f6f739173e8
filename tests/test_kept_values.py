"""A workbench opens whatever its store keeps, and tells once what is damaged and left out."""

from __future__ import annotations

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_widgets import ask

import captionkit as ck
from captionkit.widgets.presets import PRESETS

PAST_UTF8 = "\ud800"
ODD = (
    None, True, -1, 0, 10**400, 2**63, 1e308, float("inf"), float("nan"), "", "x" * 5000, "\x00",
    PAST_UTF8, "\u202e<img src=x>", "{caption}", "{", "7", [], [[]], {}, {"": {}}, ["a", 1],
)  # fmt: skip
VALUES = st.recursive(
    st.one_of(st.sampled_from(ODD), st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = (
    "model", "prompt", "two_stages", "stage2", "batch_size", "max_tokens", "temperature", "fps",
    "cut_by", "window_size", "window_seconds", "fp8", "form", "schema", "pixel_budget", "top_p",
    "penalty", "seed", "repeats",
)  # fmt: skip
STATES = VALUES | st.dictionaries(st.sampled_from(FIELDS), VALUES, min_size=1)
FILTERS = st.dictionaries(st.sampled_from(["search", "tag", "run", "rating", "video", "sort"]), VALUES)


def write(session, name, value):
    """Put a value into the store's table ``kept``, as it is."""
    with session.store._file.transaction() as db:
        db.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (name, value))


def opened(session):
    """Open a workbench, press its buttons and close it; return its problems by view."""
    bench = ck.Workbench(session)
    try:
        assert bench.board.idle(30)
        found = {view: text for view, text in bench.board.problems.items() if text}
        for name in bench.browser._saved:
            ask(bench.browser, kind="use-filter", name=name)
        for name in bench.tuner.presets.own:
            bench.tuner.presets.menu.value = name
        for name in bench.session.store.shelf.prompts():
            bench.prompts.a.value = name
            bench.prompts.use.click()
        assert bench.board.idle(30)
        json.dumps(
            [each.get_state() for each in (bench.browser, bench.tuner.presets.menu)], default=str
        )
        # It works: a sound value is kept beside the damaged ones.
        bench.browser.filter = {"search": "boat"}
        bench.browser.save_filter("sound")
        assert bench.browser.saved_filters["sound"] == {"search": "boat"}
    finally:
        bench.close()
    return found


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    state=STATES,
    filters=VALUES | st.dictionaries(st.text(max_size=5), FILTERS | VALUES, max_size=4),
    presets=VALUES | st.dictionaries(st.text(max_size=5), STATES, max_size=4),
    raw=st.sampled_from(["", "{", "[" * 5000, "nul", b"\xff\x00", 3]),
    broken=st.sets(st.sampled_from(["tuner", "filters", "presets"])),
)
def test_a_workbench_opens_and_works_whatever_its_store_keeps(
    session, state, filters, presets, raw, broken
):
    kept = {
        "tuner": {"own": session.recipe.to_json(), "state": state},
        "filters": filters, "presets": presets,
    }  # fmt: skip
    for name, value in kept.items():
        write(session, name, raw if name in broken else json.dumps(value))
    opened(session)


def test_what_is_left_out_is_told_by_name_and_the_form_only_once(session):
    state = {
        "top_p": 99, "seed": 7, "prompt": "Mine.", "fps": float("nan"), "cut_by": ["frames"],
        "form": {},
    }  # fmt: skip
    sound = {name: value for name, value in state.items() if name != "fps"}
    write(session, "tuner", json.dumps({"own": session.recipe.to_json(), "state": sound}))
    entries = {
        "good": {"search": "sea"}, "bad": {"rating": "many"}, "worse": 3, "odd": {"search": PAST_UTF8}
    }  # fmt: skip
    write(session, "filters", json.dumps(entries))
    write(session, "presets", json.dumps({"mine": {"seed": "7", "top_p": "x"}, "varied": {}, "no": 1}))
    with session.store._file.transaction() as db:
        db.execute("INSERT INTO prompts VALUES ('blob', x'ff', NULL, 'now')")
        db.execute("INSERT INTO prompts VALUES ('old', 'Say {nonsense}', NULL, 'now')")
    first = opened(session)
    unfit = ("top_p", "seed", "cut_by", "form", "'no'", "'varied'")
    assert all(name in first["tuner"] for name in unfit)
    assert "prompt" not in first["tuner"].splitlines()[0]
    assert all(name in first["browser"] for name in ("'bad'", "'worse'", "'odd'"))
    assert "'good'" not in first["browser"]
    assert "'blob'" in first["prompts"]
    again = opened(session)
    assert "top_p" not in again["tuner"]
    # Nothing of the damaged was destroyed.
    with session.store._file.transaction() as db:
        kept = db.execute("SELECT value FROM kept WHERE name = 'filters'").fetchone()[0]
    assert json.loads(kept) == {**entries, "sound": {"search": "boat"}}
    # A form that no page can be sent is left out as a whole.
    write(session, "tuner", json.dumps({"own": session.recipe.to_json(), "state": state}))
    assert "the whole form" in opened(session)["tuner"]


def test_own_presets_are_saved_beside_the_ready_ones_used_and_deleted(session):
    bench = ck.Workbench(session)
    tuner, row = bench.tuner, bench.tuner.presets
    tuner.prompt.value, tuner.top_p.value, tuner.seed.value = "Mine.", 0.5, "7"
    row.name.value = "calm <b>"
    row.save.click()
    assert [value for _, value in row.menu.options] == ["", *PRESETS, "calm <b>"]
    tuner.prompt.value = "Another."
    row.menu.value = "repeatable"
    assert (tuner.recipe.top_p, tuner.recipe.seed) == (1.0, 0)
    row.menu.value = "calm <b>"
    # A prompt is no part of a preset.
    assert (tuner.recipe.top_p, tuner.recipe.seed, tuner.recipe.prompt) == (0.5, 7, "Another.")
    assert (row.menu.value, row.name.value) == ("", "calm <b>")
    for name, why in (("varied", "is a ready preset"), ("  ", "has no name")):
        row.name.value = name
        row.save.click()
        assert why in bench.board.problems["tuner"]
    row.delete.click()
    assert "you have no preset" in bench.board.problems["tuner"]
    bench.close()
    again = ck.Workbench(session)
    row = again.tuner.presets
    assert list(row.own) == ["calm <b>"]
    row.menu.value = "calm <b>"
    row.delete.click()
    assert row.own == {}
    assert [value for _, value in row.menu.options] == ["", *PRESETS]
    again.close()
