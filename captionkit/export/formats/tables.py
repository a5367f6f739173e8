"""Captions as JSONL, CSV and Parquet: one row a window and stage, in the columns of `CaptionRow`.

A recipe with a schema adds a column ``json.NAME`` for each property, and ``json.invalid`` with the
error of a text; checks are added as columns on request.
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

# First characters of a formula, which a spreadsheet would run.
FORMULA = ("=", "+", "-", "@", "\t", "\r")
GUARD = "'"


def jsonl(export: Export) -> bytes:
    """Return one JSON object a line."""
    return json_lines(records_of(_columns(export)))


def csv(export: Export) -> bytes:
    """Return comma-separated values in UTF-8, with the byte-order mark that Excel expects.

    Put an apostrophe before a text that a spreadsheet would run, and before a text that begins with an
    apostrophe, so that `load_captions` restores both.
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
    # End lines with CRLF, so that a lone carriage return in a text is quoted too.
    return guarded.to_csv(index=False, lineterminator="\r\n").encode("utf-8-sig")


def parquet(export: Export) -> bytes:
    """Return Parquet, written by pyarrow."""
    packed = io.BytesIO()
    _columns(export).to_parquet(packed, index=False)
    return packed.getvalue()


def json_lines(records: Iterable[Mapping[str, Any]], *, ascii_only: bool = False) -> bytes:
    """Return rows as JSON lines."""
    lines = (json.dumps(record, ensure_ascii=ascii_only, default=_plain) + "\n" for record in records)
    return "".join(lines).encode("utf-8", "replace")


def records_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table's rows, with None for a missing value."""
    rows: list[dict[str, Any]] = table.astype(object).where(table.notna(), None).to_dict("records")
    return rows


def _plain(value: Any) -> object:
    """Convert a number of numpy to Python."""
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
    """Return a value of a structured caption as a cell: lists and objects as JSON text."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value
