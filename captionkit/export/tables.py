"""Captions as JSONL, CSV and Parquet, and back.

All hold one row a window and stage with the columns of `Run.captions` and ``recipe``, the recipe as
JSON. Imports pandas; called by `export.whole_run`.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd

from captionkit.export.errors import ExportError

_WHOLE = ("window", "stage", "prompt_tokens", "output_tokens", "cached_tokens", "rating", "words")
_REAL = ("start_s", "end_s", "queue_s", "first_token_s", "seconds")
# A spreadsheet takes a cell that begins so for a formula and runs it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def jsonl(table: pd.DataFrame) -> bytes:
    """One JSON object a line."""
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    lines = (json.dumps(row, ensure_ascii=False, default=_plain) for row in rows)
    return "".join(line + "\n" for line in lines).encode("utf-8")


def _plain(value: Any) -> object:
    return value.item()


def csv(table: pd.DataFrame) -> bytes:
    """Comma-separated, UTF-8 with a mark by which Excel knows it.

    A text that a spreadsheet would run gets an apostrophe before it.
    """
    guarded = table.copy()
    for name in guarded.columns:
        if not pd.api.types.is_numeric_dtype(guarded[name]):
            guarded[name] = [
                "'" + value if isinstance(value, str) and value.startswith(_FORMULA) else value
                for value in guarded[name]
            ]
    return guarded.to_csv(index=False).encode("utf-8-sig")


def parquet(table: pd.DataFrame) -> bytes:
    """Parquet by pyarrow."""
    packed = io.BytesIO()
    table.to_parquet(packed, index=False)
    return packed.getvalue()


def load_captions(path: str | Path) -> pd.DataFrame:
    """Read captions that `Run.export` wrote as JSONL or Parquet; nothing is lost on the way.

    The lines of ``captionkit caption --out`` are read as well, a row a stage.

    Raises
    ------
    ExportError
        There is no such file, it is of another kind, or damaged; names the line of a JSONL file.
    """
    path = Path(path)
    if not path.is_file():
        raise ExportError(f"there is no file {path}")
    match path.suffix.lower():
        case ".jsonl":
            table = pd.DataFrame(row for record in _records(path) for row in _rows(record))
        case ".parquet":
            try:
                table = pd.read_parquet(path)
            except (OSError, ValueError) as error:
                raise ExportError(f"{path} is no sound Parquet file: {error}") from error
        case other:
            raise ExportError(f"{path} is {other or 'without a suffix'}; give .jsonl or .parquet")
    if not {"video", "window", "text"} <= set(table.columns):
        raise ExportError(f"{path} holds no captions: it lacks video, window or text")
    kinds = {name: "Int64" for name in _WHOLE if name in table and name != "window"}
    kinds |= {name: "float64" for name in _REAL if name in table}
    return table.astype(kinds)


def _rows(record: dict[str, Any]) -> list[dict[str, Any]]:
    """A line as rows: one of the command line holds all stages of a window."""
    if not isinstance(stages := record.get("captions"), list):
        return [record]
    window = {name: record.get(name) for name in ("video", "clip", "window", "start_s", "end_s")}
    rows = [
        {
            **window,
            **stage,
            "prompt": stage.get("prompt_text"),
            "error": None,
            "recipe": record["recipe"],
        }
        for stage in stages
    ]
    if record.get("error"):
        rows.append({**window, "stage": len(rows) + 1, "text": None, "error": record["error"]})
    return rows


def _records(path: Path) -> list[dict[str, Any]]:
    records = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                record = json.loads(line)
            except ValueError as error:
                raise ExportError(f"{path}, line {number}: {error}") from error
            if not isinstance(record, dict):
                raise ExportError(f"{path}, line {number}: not a JSON object")
            records.append(record)
    return records
