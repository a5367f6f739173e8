"""Captions as JSON objects of a schema: check a recipe's ``schema``, and read captions as values.

vLLM's structured outputs restrict the model to the schema, so only a truncated caption is invalid.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable
from typing import Any

import pandas as pd

from captionkit import schemas

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
    # Seconds count from the start of the window. A model that has named what happens knows better when.
    "events": {
        "type": "object",
        "properties": {
            "events": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "text": {"type": "string", "minLength": 2, "maxLength": 160},
                        "start": {"type": "number", "minimum": 0},
                        "end": {"type": "number", "minimum": 0},
                    },
                    "required": ["text", "start", "end"],
                    "additionalProperties": False,
                },
                "maxItems": 16,
            }
        },
        "required": ["events"],
        "additionalProperties": False,
    },
    "camera": {
        "type": "object",
        "properties": {
            "camera": {
                "type": "array",
                "items": {
                    "enum": [
                        "static", "pan left", "pan right", "tilt up", "tilt down", "zoom in",
                        "zoom out", "dolly in", "dolly out", "truck left", "truck right",
                        "pedestal up", "pedestal down", "roll", "orbit", "handheld",
                    ]
                },
                "minItems": 1,
                "maxItems": 4,
            }
        },
        "required": ["camera"],
        "additionalProperties": False,
    },
}  # fmt: skip


def canonical(schema: Schema) -> str:
    """Return a schema as one line of JSON.

    Parameters
    ----------
    schema
        A name of `EXAMPLES`, JSON text, a dict, or a pydantic model.

    Raises
    ------
    ValueError
        If the schema is not a JSON schema of an object with named properties.
    """
    content: Any = schema
    if isinstance(schema, str):
        content = EXAMPLES.get(schema.strip())
        if content is None:
            try:
                content = json.loads(schema)
            except (ValueError, RecursionError) as error:
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
    if not isinstance(content, dict):
        raise ValueError(f"schema is {content!r:.60}; a JSON schema is an object")
    schemas.check_schema(content)
    properties = content.get("properties")
    if content.get("type") != "object" or not isinstance(properties, dict) or not properties:
        raise ValueError(
            'schema must describe an object with properties, {"type": "object", "properties": {…}}: '
            "the properties become the columns"
        )


def columns(schema: str) -> list[str]:
    """Return the property names of a canonical schema."""
    return list(json.loads(schema)["properties"])


def read(text: str, schema: str) -> tuple[dict[str, Any], str | None]:
    """Return a caption's values, and its violation of the schema or None.

    Empty values if the text is not JSON; kept values if the text only violates the schema.
    """
    try:
        content = schemas.read_object(text)
    except ValueError as error:
        return {}, str(error)
    return content, schemas.misfit(content, schema)


def table(texts: Iterable[object], schema: str) -> pd.DataFrame:
    """Return captions as columns: one for each property, and ``invalid`` with the violation or None.

    A row without text belongs to a failed window: no values, and not invalid. If a property has the
    name ``invalid``, the violation is in ``invalid_``.
    """
    names = columns(schema)
    invalid = free_name("invalid", names)
    rows = []
    for text in texts:
        values, problem = read(text, schema) if isinstance(text, str) else ({}, None)
        rows.append({**{name: values.get(name) for name in names}, invalid: problem})
    return pd.DataFrame(rows, columns=[*names, invalid], dtype=object)


def free_name(name: str, taken: Container[str]) -> str:
    """Return a column's name, with an underscore for as long as a property has it."""
    while name in taken:
        name += "_"
    return name
