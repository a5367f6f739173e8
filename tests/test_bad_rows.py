"""One bad value in any table of a stranger's store hides nothing but its own row."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
import stores

import captionkit as ck
from captionkit.run import agreement, open_run, runs
from captionkit.run.latest import latest_captions
from captionkit.store import BEST, SavedPrompt, Store

KEYS = [each.key for each in stores.WINDOWS]


def fill(path):
    """Make a store with some rows in each table; return its two runs."""
    with closing(Store(path)) as store:
        first = stores.begin(store)
        for position in range(3):
            stores.done(store, first, position)
        stores.failed(store, first, 3, "the film is broken")
        second = stores.begin(store, ck.Recipe(prompt="Say what it is."))
        stores.done(store, second, 0, "Another boat.")
        run = open_run(first, store)
        for window, rating, person in ((0, 3, "Ada"), (1, 4, "Ada"), (0, 4, "Bo"), (1, 4, "Bo")):
            run.rate("film", window, rating, reviewer=person)
        run.edit("film", 1, "A blue boat.")
        store.mark_windows(stores.WINDOWS[:2], note="dark", tags=["night"])
        store.shelf.save_prompt(SavedPrompt("short", "Say it."))
        store.shelf.save_prompt(SavedPrompt("two", "Say it.", "More: {caption}"))
        store.shelf.keep("filters", {"boats": {"text": "boat"}})
        store.reviews.choose(first, second, KEYS[0], "a")
        store.reviews.choose(first, second, KEYS[1], "b")
        with store._file.transaction() as db:
            db.execute("INSERT INTO workers VALUES ('x', ?, 'a b', 1, 1.0, 1.0)", (second,))
    return first, second


ROWS = {
    "runs": "id = 2",
    "windows": "key = 'film-1'",
    "jobs": "run = 1 AND position = 1",
    "results": "id = 2",
    "captions": "result = 2",
    "choices": "id = 1",
    "steps": "id = 1",
    "changes": "rowid = 1",
    "prompts": "name = 'short'",
    "kept": "name = 'filters'",
    "workers": "owner = 'x'",
}


@pytest.mark.parametrize("bad", ["x'ff00'", "CAST(x'41ff42' AS TEXT)"])
@pytest.mark.parametrize("table", ROWS)
def test_a_bad_value_hides_its_own_row_only(tmp_path, table, bad):
    path = tmp_path / "runs.sqlite"
    first, second = fill(path)
    sound = path.read_bytes()
    with closing(sqlite3.connect(path)) as db:
        columns = [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")]
    for column in columns:
        path.write_bytes(sound)
        try:
            with closing(sqlite3.connect(path)) as db:
                db.execute(f"UPDATE {table} SET {column} = {bad} WHERE {ROWS[table]}")
                db.commit()
        except sqlite3.Error:
            # No store can hold this value here.
            continue
        with closing(Store(path)) as store:
            assert first in runs(store).index, column
            run = open_run(first, store)
            assert {KEYS[0], KEYS[2]} <= set(run.captions["key"]), column
            assert {KEYS[0], KEYS[2]} <= set(latest_captions(store, KEYS)["key"]), column
            run._repr_html_()
            assert run.progress.total >= 3, column
            assert store.counts(second).total == 4, column
            for chosen in (None, BEST):
                assert {KEYS[0], KEYS[2]} <= set(store.states(run=chosen)), column
            agreement(store)
            store.window_marks()
            store.reviews.choices(first, second)
            assert "two" in store.shelf.prompts(), column
            assert store.shelf.export_prompts(tmp_path / "prompts.toml") >= 1
            assert "boats" in store.shelf.entries("filters")[0] or table == "kept", column
            # Writing is not hindered either.
            run.rate("film", 2, 5)
            while store.reviews.undo():
                pass
            assert store.reviews.steps()
            while store.reviews.redo():
                pass
            assert stores.begin(store) == first or table in ("runs", "jobs", "windows")
