"""Captions as JSON objects by a schema: what a recipe's ``schema`` may be, and how texts are read.

vLLM lets the model write nothing else (structured outputs), so a caption is invalid only if it was cut
off.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pandas as pd

Schema = str | dict[str, Any] | type

EXAMPLES: dict[str, dict[str, Any]] = {
    "tags": {
        "type": "object",
        "properties": {
            "tags": {
                "type": "array",
                "items": {"type": "string", "minLength": 2, "maxLength": 24},
                "minItems": 1,
                "maxItems": 8,
            }
        },
        "required": ["tags"],
        "additionalProperties": False,
    },
    "shot": {
        "type": "object",
        "properties": {
            "shot": {"enum": ["close-up", "medium", "wide", "aerial"]},
            "subject": {"type": "string", "maxLength": 120},
            "action": {"type": "string", "maxLength": 160},
            "setting": {"type": "string", "maxLength": 120},
        },
        "required": ["shot", "subject", "action", "setting"],
        "additionalProperties": False,
    },
}


def canonical(schema: Schema) -> str:
    """A schema as one line of JSON.

    Parameters
    ----------
    schema
        A name of `EXAMPLES`, JSON text, a dict, or a pydantic model.

    Raises
    ------
    ValueError
        The schema is not a JSON schema of an object with named properties.
    """
    content: Any = schema
    if isinstance(schema, str):
        content = EXAMPLES.get(schema.strip())
        if content is None:
            try:
                content = json.loads(schema)
            except ValueError as error:
                raise ValueError(
                    f"schema is not JSON ({error}); give a JSON schema, a pydantic model, or one of "
                    f"{', '.join(EXAMPLES)}"
                ) from error
    elif isinstance(schema, type):
        if not hasattr(schema, "model_json_schema"):
            raise ValueError(f"schema is {schema.__name__}, which is not a pydantic model")
        content = schema.model_json_schema()
    _check(content)
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def _check(content: Any) -> None:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    if not isinstance(content, dict):
        raise ValueError(f"schema is {json.dumps(content)[:60]}; a JSON schema is an object")
    try:
        Draft202012Validator.check_schema(content)
    except SchemaError as error:
        where = "/".join(map(str, error.absolute_path)) or "its top"
        raise ValueError(f"schema is not a JSON schema: {error.message} (at {where})") from error
    properties = content.get("properties")
    if content.get("type") != "object" or not isinstance(properties, dict) or not properties:
        raise ValueError(
            'schema must describe an object with properties, {"type": "object", "properties": {…}}: '
            "they become the columns"
        )


def columns(schema: str) -> list[str]:
    """The names that captions of a canonical schema have."""
    return list(json.loads(schema)["properties"])


def read(text: str, schema: str) -> tuple[dict[str, Any], str | None]:
    """A caption's values, and what is wrong with it, or None.

    The values are empty if the text is not JSON, and kept if it only violates the schema.
    """
    from jsonschema import Draft202012Validator

    try:
        content = json.loads(text)
    except ValueError as error:
        return {}, f"not JSON: {error}"
    if not isinstance(content, dict):
        return {}, "not a JSON object"
    misfit = next(Draft202012Validator(json.loads(schema)).iter_errors(content), None)
    if misfit is None:
        return content, None
    where = "/".join(map(str, misfit.absolute_path))
    return content, f"{where}: {misfit.message}" if where else misfit.message


def table(texts: Iterable[object], schema: str) -> pd.DataFrame:
    """Captions as columns: one a property, and ``invalid`` with what is wrong.

    A row without text has no values; it failed, and is not invalid.
    """
    names = columns(schema)
    rows = []
    for text in texts:
        values, problem = read(text, schema) if isinstance(text, str) else ({}, None)
        rows.append({**{name: values.get(name) for name in names}, "invalid": problem})
    return pd.DataFrame(rows, columns=[*names, "invalid"], dtype=object)
