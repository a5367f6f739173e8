"""A stranger's schema and caption are checked in bounded time and memory, always with a clear word."""

from __future__ import annotations

import json

import pytest

import captionkit as ck
from captionkit import structured

EVIL = "^(a|aa)+$"
LONG = "a" * 80 + "!"


def schema_of(**rules):
    return {"type": "object", "properties": {"a": rules}}


def nested(depth, text="[{}]", core="1"):
    before, after = text.split("{}")
    return before * depth + core + after * depth


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"pattern": "((a{1000}){1000}){1000}$"}, "repeats too much"),
        ({"pattern": "(?x)((a{ 1000}){ 1000}){ 1000,}$"}, "repeats too much"),
        ({"pattern": "a{99999999999999999999}"}, "repeats too much"),
        ({"patternProperties": {"((a{1000}){1000}){1000}$": {}}}, "repeats too much"),
        ({"propertyNames": {"pattern": "((a{1000}){1000}){1000}$"}}, "repeats too much"),
        ({"pattern": "(" * 5000 + ")" * 5000}, "not a JSON schema"),
        ({"pattern": "("}, "not a 'regex'"),
        ({"enum": ["x" * 1000] * 1000}, "characters"),
        ({"default": {1, 2}}, "not a JSON schema"),
        ({"required": [*range(3000), *map(str, range(3000)), []]}, "not a JSON schema"),
        (json.loads(nested(99, '{"items": {}}', "{}")), "nested too deeply"),
    ],
)
def test_a_schema_that_cannot_be_worked_with_is_refused(rules, message):
    with pytest.raises(ValueError, match=message):
        ck.Recipe(schema=schema_of(**rules))


def test_a_schema_that_contains_itself_is_refused():
    schema = schema_of()
    schema["properties"]["a"] = schema
    with pytest.raises(ValueError, match="nested too deeply"):
        ck.Recipe(schema=schema)


def doubling(keyword):
    """Return a list's schema whose evaluated items take two to the power of sixty steps to find."""
    parts = {f"d{at}": {"allOf": [{"$ref": f"#/$defs/d{at + 1}"}] * 2} for at in range(60)}
    rules = {keyword: False, **parts["d0"]}
    return {**schema_of(**rules), "$defs": {**parts, "d60": {}}}


OWN = {"$schema": "http://json-schema.org/draft-07/schema#"}


@pytest.mark.parametrize(
    ("schema", "value", "problem"),
    [
        # A part that names its own version has the same limits.
        (schema_of(**OWN, pattern=EVIL), LONG, "takes too long"),
        ({**OWN, **schema_of(pattern=EVIL)}, LONG, "takes too long"),
        (schema_of(**OWN, **{"$ref": "https://127.0.0.1:9/x.json"}), 1, "not checked"),
        (schema_of(propertyNames={"pattern": EVIL}), {LONG: 1}, "takes too long"),
        (schema_of(patternProperties={EVIL: {}}), {LONG: 1}, "takes too long"),
        (schema_of(**{"not": {"pattern": EVIL}}), LONG, "takes too long"),
        (schema_of(contains={"pattern": EVIL}), [LONG], "takes too long"),
        (doubling("unevaluatedItems"), [1], "not checked"),
        (doubling("unevaluatedProperties"), {"b": 1}, "not checked"),
        (schema_of(**{"$dynamicRef": "#/properties/a"}), 1, "nested too deeply"),
        (schema_of(multipleOf=1e-300), 1e300, "not a multiple"),
        (schema_of(multipleOf=5e-324), 10**300, None),
        (schema_of(multipleOf=10**4000), 3, "not a multiple"),
        (schema_of(multipleOf=10.0), 10**400, "cannot be applied"),
        (schema_of(maximum=10**4000), 10**4000 + 1, "…"),
        (schema_of(uniqueItems=True), [*range(9000), *map(str, range(9000)), [], {}], None),
        (schema_of(uniqueItems=True), [*range(9000), "a", {}, {}], "equal items"),
        (schema_of(uniqueItems=True), [1, True, [1], [True], "1", {"a": 1}, {"a": True}], None),
        (schema_of(uniqueItems=True), [1, 1.0], "equal items"),
        (schema_of(enum=list(range(30_000))), 29_999, None),
        (
            schema_of(items={"enum": list(range(30_000))}),
            [-1 - number % 7 for number in range(30_000)],
            "is not one of",
        ),
        (schema_of(items={"enum": list(range(25_000))}), [24_999] * 25_000, "takes too long"),
        (schema_of(anyOf=[{"type": "null"}] * 5000), "x" * 100_000, "not valid under any"),
        (schema_of(oneOf=[{"type": "string"}] * 2), "x", "valid under 2"),
        (schema_of(type="integer"), "x" * 100_000, "…"),
    ],
)
def test_a_caption_is_checked_within_limits(schema, value, problem):
    text = json.dumps(schema, separators=(",", ":"))
    found, reason = structured.read(json.dumps({"a": value}), text)
    assert found == {"a": value}
    assert (reason is None) == (problem is None), reason
    if problem:
        assert problem in reason
        assert len(reason) < 400


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f'{{"a": {nested(300)}}}', "nested too deeply"),
        (f'{{"a": {nested(900)}}}', "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON"),
        ('{"a": NaN}', "not JSON"),
        ('{"a": "' + "x" * 300_000 + '"}', "characters"),
    ],
)
def test_a_caption_that_is_too_large_or_too_deep_costs_no_other_row(
    session, fake, tmp_path, text, problem
):
    fake.say = lambda prompt, start, stage: text if start == "0.00" else '{"a": 1}'
    run = session.caption(schema=schema_of())
    table = run.structured
    assert problem in table["invalid"].iloc[0]
    assert table["a"].tolist()[1:] == [1] * (len(table) - 1)
    assert table["invalid"].isna().tolist()[1:] == [True] * (len(table) - 1)
    assert run.checks["invalid"].sum() == 1
    for suffix in ("csv", "parquet", "jsonl", "html"):
        run.export(tmp_path / f"run.{suffix}", checks=True)
