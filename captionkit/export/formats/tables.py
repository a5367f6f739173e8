"""Captions as JSONL, CSV and Parquet: a row a window and stage with the columns of `CaptionRow`.

A recipe with a schema adds a column ``json.NAME`` for each property, and ``json.invalid`` with what is
wrong with a text; checks are added as columns if that is asked.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from captionkit import structured
from captionkit.export.base import Export
from captionkit.review import check_table

# A spreadsheet takes a cell that begins so for a formula and runs it.
FORMULA = ("=", "+", "-", "@", "\t", "\r")
GUARD = "'"


def jsonl(export: Export) -> bytes:
    """One JSON object a line."""
    return json_lines(records_of(_columns(export)))


def csv(export: Export) -> bytes:
    """Comma-separated, UTF-8 with a mark by which Excel knows it.

    A text that a spreadsheet would run gets an apostrophe before it, and so does one that begins with
    an apostrophe, so that `load_captions` gives back either.
    """
    guarded = _columns(export).copy()
    for name in guarded.columns:
        if not pd.api.types.is_numeric_dtype(guarded[name]):
            guarded[name] = [
                GUARD + value
                if isinstance(value, str) and value.startswith((*FORMULA, GUARD))
                else value
                for value in guarded[name]
            ]
    # With this end of a line, a lone carriage return within a text is quoted too.
    return guarded.to_csv(index=False, lineterminator="\r\n").encode("utf-8-sig")


def parquet(export: Export) -> bytes:
    """Parquet by pyarrow."""
    packed = io.BytesIO()
    _columns(export).to_parquet(packed, index=False)
    return packed.getvalue()


def json_lines(records: Iterable[Mapping[str, Any]], *, ascii_only: bool = False) -> bytes:
    """Rows as JSON lines."""
    lines = (json.dumps(record, ensure_ascii=ascii_only, default=_plain) + "\n" for record in records)
    return "".join(lines).encode("utf-8", "replace")


def records_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table's rows, a missing value as None."""
    rows: list[dict[str, Any]] = table.astype(object).where(table.notna(), None).to_dict("records")
    return rows


def _plain(value: Any) -> object:
    """Numpy's numbers as Python's."""
    return value.item()


def _columns(export: Export) -> pd.DataFrame:
    table, schema = export.table, export.run.recipe.schema
    if export.checks:
        table = table.join(check_table(table, schema=schema))
    if schema is not None:
        fields = structured.table(table["text"], schema).map(_cell).add_prefix("json.")
        table = table.join(fields)
    return table


def _cell(value: Any) -> Any:
    """A value of a structured caption as a table can hold it: lists and objects as JSON text."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value
