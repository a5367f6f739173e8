"""A stranger's recipe or store is harmless: no fetch, no hang, one bad row costs one row."""

from __future__ import annotations

import http.server
import json
import sqlite3
import threading
from contextlib import closing

import pytest
import stores

import captionkit as ck
from captionkit import structured
from captionkit.run import open_run, runs
from captionkit.store import Store, StoreError


def schema_of(**rules):
    return {"type": "object", "properties": {"a": rules}}


@pytest.fixture
def visits():
    """Yield the requests that a local server gets, and its address as the first item."""
    found = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.append(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef"])
def test_a_schema_that_refers_elsewhere_is_refused_and_never_fetched(visits, keyword, tmp_path):
    secret = tmp_path / "secret.json"
    secret.write_text('{"const": "the secret"}')
    for target in (f"{visits[0]}/schema.json", secret.as_uri(), "other.json"):
        schema = schema_of(**{keyword: target})
        with pytest.raises(ValueError, match="refers to"):
            ck.Recipe(schema=schema)
        # A store of another version may hold such a schema: reading a caption follows nothing.
        values, problem = structured.read('{"a": 1}', json.dumps(schema))
        assert values == {"a": 1}
        assert "not checked" in problem
        assert "the secret" not in problem
    assert visits[1:] == []


def test_a_schema_may_refer_to_its_own_parts():
    schema = {**schema_of(**{"$ref": "#/$defs/number"}), "$defs": {"number": {"type": "integer"}}}
    canonical = structured.canonical(schema)
    assert structured.read('{"a": 1}', canonical) == ({"a": 1}, None)
    assert "integer" in structured.read('{"a": "x"}', canonical)[1]


def doubling(depth):
    """Return a schema whose check takes two to the power of ``depth`` steps."""
    parts = {f"d{step}": {"allOf": [{"$ref": f"#/$defs/d{step + 1}"}] * 2} for step in range(depth)}
    return {**schema_of(**{"$ref": "#/$defs/d0"}), "$defs": {**parts, f"d{depth}": {}}}


@pytest.mark.parametrize(
    ("schema", "value", "problem"),
    [
        (schema_of(pattern="^(a|aa)+$"), "a" * 80 + "!", "takes too long"),
        (
            schema_of(patternProperties={"^(a|aa)+$": False}, additionalProperties=False),
            {"a" * 80 + "!": 1},
            "takes too long",
        ),
        (schema_of(**{"$ref": "#/properties/a"}), 1, "nested too deeply"),
        (schema_of(**{"$ref": "#/$defs/nowhere"}), 1, "cannot be applied"),
        (schema_of(multipleOf=0.1), 10**400, "cannot be applied"),
        (doubling(60), 1, "references"),
    ],
)
def test_a_schema_that_would_take_for_ever_or_fail_says_so(schema, value, problem):
    canonical = structured.canonical(schema)
    values, found = structured.read(json.dumps({"a": value}), canonical)
    assert values == {"a": value}
    assert found.startswith("not checked")
    assert problem in found


def test_a_recipe_nested_too_deeply_is_refused(tmp_path):
    deep = '{"items": ' * 5000 + "{}" + "}" * 5000
    for schema in (deep, f'{{"type": "object", "properties": {{"a": {deep}}}}}'):
        with pytest.raises(ValueError, match=r"not JSON|nested"):
            ck.Recipe(schema=schema)
    with pytest.raises(ValueError, match="a recipe is a JSON object"):
        ck.Recipe.from_json("[" * 100_000)
    path = tmp_path / "recipe.toml"
    path.write_text(f"[recipe]\nmodel = {'[' * 5000}{']' * 5000}\n")
    with pytest.raises(ValueError, match="not a recipe"):
        ck.Recipe.load(path)


BAD = ["'nonsense'", "x'ff00'", "CAST(x'41ff42' AS TEXT)", "1e999", "9223372036854775807", "'[[{'"]


@pytest.mark.parametrize("bad", BAD)
def test_a_damaged_row_leaves_the_others_readable_and_exportable(tmp_path, bad):
    path = tmp_path / "runs.sqlite"
    with closing(Store(path)) as store:
        run = stores.begin(store)
        for position in range(4):
            stores.done(store, run, position)
    sound = path.read_bytes()
    rows = {
        "windows": ("key = 'film-1'", ("path", "clip", "start_frame", "start_s", "source")),
        "jobs": ("position = 1", ("video", "number")),
        "results": ("id = 2", ("warnings",)),
        "captions": ("result = 2", ("text", "prompt_text", "prompt_tokens", "seconds", "rating")),
    }
    for table, (where, names) in rows.items():
        for name in names:
            path.write_bytes(sound)
            with closing(sqlite3.connect(path)) as db:
                db.execute(f"UPDATE {table} SET {name} = {bad} WHERE {where}")
                db.commit()
            with closing(Store(path)) as store:
                opened = open_run(run, store)
                assert {"film-0", "film-2", "film-3"} <= set(opened.captions["key"]), name
                opened._repr_html_()
                store.states()
                for suffix in ("jsonl", "parquet", "html"):
                    opened.export(tmp_path / f"captions.{suffix}", overwrite=True)


def test_a_run_whose_recipe_cannot_be_read_is_listed_with_the_reason(tmp_path):
    with closing(Store(tmp_path / "runs.sqlite")) as store:
        first = stores.begin(store)
        second = stores.begin(store, ck.Recipe(prompt="Say what it is."))
        stores.done(store, second, 0)
        with store._file.transaction() as db:
            db.execute("UPDATE runs SET recipe = ? WHERE id = ?", ('{"model": 3', first))
        listed = runs(store)
        assert list(listed.index) == [second, first]
        assert "cannot be read" in listed.loc[first, "note"]
        assert len(open_run(second, store).captions) == 1
        with pytest.raises(StoreError, match=f"the recipe of run {first} cannot be read"):
            open_run(first, store)
