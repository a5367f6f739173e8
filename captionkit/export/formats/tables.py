"""Captions as JSONL, CSV and Parquet: one row a window and stage, in the columns of `CaptionRow`.

A recipe with a schema adds a column ``json.NAME`` for each property, with lists and objects as JSON
text, and ``json.invalid`` with the error of a text. If ``invalid`` is a property itself, the error is
in ``json.invalid_``. Checks are added as columns on request.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd

from captionkit import structured
from captionkit.export.base import Export
from captionkit.review import check_table

# First characters of a formula, which a spreadsheet would run.
FORMULA = ("=", "+", "-", "@", "\t", "\r")
GUARD = "'"
# Largest whole numbers in a column of whole numbers, and in one that has fractions too.
_LARGEST, _LARGEST_FLOAT = 2**63 - 1, 2**53


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
    """Return Parquet, written by pyarrow.

    A column of Parquet has one type: write all values of a property as JSON text if they are of several
    types (numbers and texts, say), or if a number is too large.
    """
    packed = io.BytesIO()
    _columns(export, _cells_of_one_type).to_parquet(packed, index=False)
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


def _cells(values: list[Any]) -> list[Any]:
    """Return the values of a property as cells: lists and objects as JSON text."""
    return [_json(value) if isinstance(value, (list, dict)) else _unicode(value) for value in values]


def _cells_of_one_type(values: list[Any]) -> list[Any]:
    """Return the values of a property as cells that fit into a column of Parquet."""
    cells = _cells(values)
    kinds = {type(cell) for cell in cells if cell is not None}
    largest = _LARGEST_FLOAT if float in kinds else _LARGEST
    fits = (len(kinds) < 2 or kinds == {int, float}) and not any(
        isinstance(cell, int) and abs(cell) > largest for cell in cells
    )
    return cells if fits else [None if value is None else _json(value) for value in values]


def _columns(export: Export, cells: Callable[[list[Any]], list[Any]] = _cells) -> pd.DataFrame:
    table, schema = export.table, export.run.recipe.schema
    if export.checks:
        table = table.join(check_table(table, schema=schema))
    if schema is None:
        return table
    read = structured.table(table["text"], schema)
    *names, invalid = read.columns
    fields = {f"json.{name}": cells(read[name].tolist()) for name in names}
    fields[f"json.{invalid}"] = read[invalid].map(_unicode).tolist()
    return table.join(pd.DataFrame(fields, index=table.index, dtype=object))


def _json(value: Any) -> str:
    return _unicode(json.dumps(value, ensure_ascii=False))


def _unicode(value: Any) -> Any:
    """Replace halves of surrogate pairs in a text, which JSON may hold and files may not."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
