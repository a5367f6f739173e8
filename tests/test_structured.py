"""Captions as JSON by a schema: an invalid schema is refused, an invalid caption is marked."""

from __future__ import annotations

import json
import shlex

import pandas as pd
import pydantic
import pytest
from common import VIDEOS

import captionkit as ck
from captionkit import structured
from captionkit.cli import main
from captionkit.review.checks import check
from captionkit.run import as_code

TAGS = structured.canonical("tags")


class Shot(pydantic.BaseModel):
    subject: str = pydantic.Field(max_length=40)
    moving: bool


def test_names_text_dicts_and_pydantic_models_mean_the_same_schema():
    example = structured.EXAMPLES["tags"]
    assert structured.canonical(example) == structured.canonical(json.dumps(example)) == TAGS
    assert structured.columns(structured.canonical(Shot)) == ["subject", "moving"]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("no json", "not JSON"),
        ("[1]", "is an object"),
        ({"type": "object", "properties": {"a": {"type": "no type"}}}, "properties/a/type"),
        ({"type": "string"}, "an object with properties"),
        ({"type": "object", "properties": {}}, "an object with properties"),
        (int, "not a pydantic model"),
    ],
)
def test_an_invalid_schema_is_refused_with_the_path_of_its_error(schema, message):
    with pytest.raises(ValueError, match=message):
        ck.Recipe(schema=schema)


def test_a_recipe_with_a_schema_is_saved_and_keyed_and_others_keep_their_key(tmp_path):
    made = ck.Recipe(schema=Shot)
    made.save(tmp_path / "recipe.toml")
    assert ck.Recipe.load(tmp_path / "recipe.toml") == made
    assert made.key != ck.Recipe().key
    # Stores of earlier versions have this key.
    assert ck.Recipe().key == "f169e4b11c2f5618"


@pytest.mark.parametrize(
    ("text", "values", "problem"),
    [
        ('{"tags": ["boat"]}', {"tags": ["boat"]}, None),
        ('{"tags": ["boat', {}, "not JSON"),
        ('{"tags": []}', {"tags": []}, "tags: "),
        ('{"other": 1}', {"other": 1}, "required"),
        ("[]", {}, "not a JSON object"),
    ],
)
def test_a_caption_that_violates_its_schema_has_a_reason(text, values, problem):
    found, reason = structured.read(text, TAGS)
    assert found == values
    assert (reason is None) == (problem is None)
    assert problem is None or problem in reason
    assert check(text, schema=TAGS)["invalid"] == (problem is not None)
    assert not check(text)["invalid"]


def test_a_caption_nested_too_deeply_has_a_reason():
    values, problem = structured.read("[" * 100_000, TAGS)
    assert values == {}
    assert problem.startswith("not JSON")


def test_a_property_named_as_another_column_loses_nothing(session, fake):
    fake.say = lambda *_: '{"video": "a film", "invalid": 3}'
    table = session.caption(
        schema={"type": "object", "properties": {"video": {}, "invalid": {}}}
    ).structured
    assert list(table["video"].unique()) == ["harbour"]
    assert list(table["video_"].unique()) == ["a film"]
    assert list(table["invalid"].unique()) == [3]
    assert table["invalid_"].isna().all()


def test_a_failed_window_has_no_values_and_is_not_invalid():
    table = structured.table(['{"tags": ["a boat"]}', None, "x"], TAGS)
    assert list(table.columns) == ["tags", "invalid"]
    assert table["tags"].tolist() == [["a boat"], None, None]
    assert table["invalid"].notna().tolist() == [False, False, True]


@pytest.mark.engine
def test_the_engine_follows_the_schema_and_truncated_captions_are_marked(model, tmp_path):
    session = ck.Session(VIDEOS / "winter.mp4", store=tmp_path / "runs.sqlite")
    run = session.caption("objects", schema="tags", max_tokens=500)
    table = run.structured
    assert len(table) == 3
    assert table["invalid"].isna().all()
    assert all(isinstance(tag, str) for tags in table["tags"] for tag in tags)
    assert not run.checks["invalid"].any()
    run.export(tmp_path / "run.parquet")
    kept = pd.read_parquet(tmp_path / "run.parquet")
    assert [json.loads(each) for each in kept["json.tags"]] == table["tags"].tolist()
    cut = session.caption("objects", schema="shot", max_tokens=4)
    assert cut.structured["invalid"].str.contains("not JSON").all()
    assert cut.checks["invalid"].all()
    # Free text on the same engine stays unrestricted.
    with pytest.raises(ValueError, match="schema="):
        _ = session.caption("objects").structured
    assert not session.caption("objects").captions["text"].str.startswith("{").any()
    session.close()


@pytest.mark.engine
def test_two_stages_of_json_show_both_as_columns(model, tmp_path):
    with_both = ck.Session(VIDEOS / "winter.mp4", store=tmp_path / "runs.sqlite")
    run = with_both.caption("objects", stage2=True, schema=Shot, max_tokens=400)
    assert run.structured["stage"].tolist() == [1, 2] * 3
    assert run.structured["invalid"].isna().all()
    with_both.close()


def test_the_command_line_takes_an_example_a_file_or_json_text(tmp_path, capsys):
    long = json.dumps({**structured.EXAMPLES["tags"], "description": "x" * 300})
    (tmp_path / "shot.json").write_text(json.dumps(Shot.model_json_schema()))
    film = str(VIDEOS / "nonesuch.mp4")
    for given in ("tags", str(tmp_path / "shot.json"), long):
        # The schema is valid; the film does not exist.
        assert main(["caption", film, "--schema", given]) == 1
        assert "nonesuch.mp4" in capsys.readouterr().err
    for given, message in (("nonesuch", "no such file"), ("{}", "an object with properties")):
        assert main(["caption", film, "--schema", given]) == 2
        assert message in capsys.readouterr().err
    # The command line of the tuner means the same recipe.
    recipe = ck.Recipe(schema=Shot)
    words = shlex.split(as_code.command([film], recipe, 16))
    assert words[words.index("--schema") + 1] == recipe.schema


def test_the_ready_schemas_hold_what_their_examples_say():
    for name, text in {
        "events": '{"events": [{"start": 0, "end": 2.5, "text": "A car stops."}]}',
        "camera": '{"camera": ["pan left", "zoom in"]}',
    }.items():
        assert structured.read(text, structured.canonical(name))[1] is None
    wrong = '{"camera": ["sideways"]}'
    assert "sideways" in structured.read(wrong, structured.canonical("camera"))[1]
