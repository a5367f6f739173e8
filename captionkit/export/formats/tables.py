"""Captions as JSONL, CSV and Parquet: one row a window and stage, in the columns of `CaptionRow`.

A recipe with a schema adds a column ``json.NAME`` for each property, with lists and objects as JSON
text, and ``json.invalid`` with the error of a text. If ``invalid`` is a property itself, the error is
in ``json.invalid_``. Checks are added as columns on request.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from captionkit import structured
from captionkit.export.base import Export
from captionkit.export.errors import ExportError
from captionkit.review import check_table

# First characters of a formula, which a spreadsheet would run.
FORMULA = ("=", "+", "-", "@", "\t", "\r")
GUARD = "'"
# Largest whole numbers in a column of whole numbers, and in one that has fractions too.
_LARGEST, _LARGEST_FLOAT = 2**63 - 1, 2**53


def jsonl(export: Export, path: Path) -> None:
    """Write one JSON object a line."""
    with path.open("wb") as file:
        for table in export.tables():
            file.write(json_lines(records_of(_columns(export, table))))


def csv(export: Export, path: Path) -> None:
    """Write comma-separated values in UTF-8, with the byte-order mark that Excel expects.

    Put an apostrophe before a text that a spreadsheet would run, and before a text that begins with an
    apostrophe, so that `load_captions` restores both.
    """
    with path.open("wb") as file:
        for number, table in enumerate(export.tables()):
            guarded = _columns(export, table).copy()
            for name in guarded.columns:
                if not pd.api.types.is_numeric_dtype(guarded[name]):
                    guarded[name] = [_guarded(value) for value in guarded[name]]
            # End lines with CRLF, so that a lone carriage return in a text is quoted too.
            text = guarded.to_csv(index=False, header=number == 0, lineterminator="\r\n")
            file.write(text.encode("utf-8" if number else "utf-8-sig"))


def _guarded(value: Any) -> Any:
    return GUARD + value if isinstance(value, str) and value.startswith((*FORMULA, GUARD)) else value


def parquet(export: Export, path: Path) -> None:
    """Write Parquet with pyarrow.

    A column of Parquet has one type: write all values of a property as JSON text if they are of several
    types (numbers and texts, say), or if a number is too large.
    """
    import pyarrow as pa
    from pyarrow import parquet as pq

    types = _property_types(export)

    def cells(name: str, values: list[Any]) -> list[Any]:
        if types[name] is not None:
            return _cells(name, values)
        return [None if value is None else _json(value) for value in values]

    writer = None
    try:
        for table in export.tables():
            columns = _columns(export, table, cells)
            if writer is None:
                kinds = {f"json.{name}": kind or "string" for name, kind in types.items()}
                schema = pa.schema([(name, _kind(columns[name], kinds)) for name in columns])
            made = pa.Table.from_pandas(columns, schema, preserve_index=False)
            writer = writer or pq.ParquetWriter(path, made.schema)
            writer.write_table(made)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ExportError(
            f"run {export.run.id} got other values while it was exported ({error}); export it again"
        ) from error
    finally:
        if writer is not None:
            writer.close()


def _kind(column: pd.Series, kinds: Mapping[str, str]) -> str:
    """Return Arrow's name for the type of a column."""
    by_dtype = {"Int64": "int64", "float64": "float64", "boolean": "bool"}
    return kinds.get(str(column.name)) or by_dtype.get(str(column.dtype), "string")


def _property_types(export: Export) -> dict[str, str | None]:
    """Return Arrow's type of each property's column; None for JSON text."""
    schema = export.run.recipe.schema
    if schema is None:
        return {}
    kinds: dict[str, set[type]] = {name: set() for name in structured.columns(schema)}
    largest = dict.fromkeys(kinds, 0)
    for table in export.tables():
        read = structured.table(table["text"], schema)
        for name in kinds:
            found = [cell for cell in _cells(name, read[name].tolist()) if cell is not None]
            kinds[name] |= set(map(type, found))
            largest[name] = max([largest[name], *(abs(each) for each in found if type(each) is int)])
    return {name: _type(kinds[name], largest[name]) for name in kinds}


def _type(kinds: set[type], largest: int) -> str | None:
    if kinds <= {int, float} and float in kinds:
        return "float64" if largest <= _LARGEST_FLOAT else None
    if len(kinds) > 1 or largest > _LARGEST:
        return None
    return {int: "int64", bool: "bool"}.get(next(iter(kinds), str), "string")


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


def _cells(_: str, values: list[Any]) -> list[Any]:
    """Return the values of a property as cells: lists and objects as JSON text."""
    return [_json(value) if isinstance(value, (list, dict)) else _unicode(value) for value in values]


def _columns(
    export: Export,
    table: pd.DataFrame,
    cells: Callable[[str, list[Any]], list[Any]] = _cells,
) -> pd.DataFrame:
    schema = export.run.recipe.schema
    if export.checks:
        table = table.join(
            check_table(table, schema=schema, unsupported=export.run.is_unsupported(table))
        )
    if schema is None:
        return table
    read = structured.table(table["text"], schema)
    *names, invalid = read.columns
    fields = {f"json.{name}": cells(name, read[name].tolist()) for name in names}
    fields[f"json.{invalid}"] = read[invalid].map(_unicode).tolist()
    return table.join(pd.DataFrame(fields, index=table.index, dtype=object))


def _json(value: Any) -> str:
    return _unicode(json.dumps(value, ensure_ascii=False))


def _unicode(value: Any) -> Any:
    """Replace halves of surrogate pairs in a text, which JSON may hold and files may not."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
