"""Read captions back from JSONL, CSV, Parquet, an HTML report, or a folder of Ray's parts."""

from __future__ import annotations

import csv
import functools
import html.parser
import io
import json
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from captionkit.captions import COLUMNS, KINDS, captions_table, typed
from captionkit.export.errors import ExportError
from captionkit.export.formats.report import ROWS_ID
from captionkit.export.formats.tables import FORMULA, GUARD
from captionkit.export.names import found_film, recipe_with_home, with_home
from captionkit.recipe import Recipe
from captionkit.system.temp import TempFolder

_Records = Iterator[tuple[str, dict[str, Any]]]
# Columns of a window in captionkit 0.1, besides its stages.
_OLD_WINDOW = ("clip", "window", "start_frame", "end_frame", "start_s", "end_s", "warnings", "recipe")
_LONGEST_SHOWN = 60
# Guards the longest cell that the module csv reads, a setting of the whole process.
_CSV_LIMIT = threading.Lock()


def load_captions(path: str | Path) -> pd.DataFrame:
    """Read captions as a table with the columns of `CaptionRow`, then any other columns of the file.

    Parameters
    ----------
    path
        A file that `Run.export` or ``captionkit caption --out`` wrote (.jsonl, .csv, .parquet, .html),
        or the output folder of Ray, also at an fsspec address. Files of captionkit 0.1 work as well;
        missing values are None.

    Raises
    ------
    ExportError
        If the file is missing, damaged, or of another kind; the message names the line of a bad row.
    """
    if isinstance(path, str) and "://" in path:
        return _fetched(path)
    path = Path(path)
    if path.is_dir():
        return _parts(path)
    if not path.is_file():
        raise ExportError(f"there is no file {path}")
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise ExportError(
            f"{path} is {path.suffix or 'without a suffix'}; give one of {', '.join(_READERS)}"
        )
    table = _table(path, read(path))
    if table.empty:
        raise ExportError(f"{path} holds no captions")
    return table


def _fetched(address: str) -> pd.DataFrame:
    """Read a file or a folder at an fsspec address through a copy."""
    import fsspec

    with TempFolder("captions") as folder:
        try:
            files, there = fsspec.core.url_to_fs(address)
            copy = folder / PurePosixPath(there).name
            files.get(there, str(copy), recursive=True)
        except (ImportError, OSError, ValueError) as error:
            raise ExportError(f"cannot read {address}: {error}") from error
        return load_captions(copy)


def _parts(folder: Path) -> pd.DataFrame:
    """Read all parts of Ray's output, some of which may be empty."""
    inside = folder / "parts" if (folder / "parts").is_dir() else folder
    try:
        files = sorted(inside.glob("*.parquet"), key=lambda file: (file.stat().st_mtime_ns, file.name))
    except OSError as error:
        raise ExportError(f"cannot read {folder}: {error}") from error
    if not files:
        raise ExportError(f"{folder} holds no parts (*.parquet)")
    tables = [table for file in files if not (table := _table(file, _parquet(file))).empty]
    if not tables:
        raise ExportError(f"{folder} holds no captions")
    return _settled(tables)


def _settled(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of parts, the latest part last, without failures that another try has replaced.

    A window with captions and no error in one part is done: drop its rows from parts with an error.
    Keep only the last part of a window that failed in all its parts. The row (window -1) of a video
    that could not be read stays beside captions of an earlier try: nobody knows what is missing.
    """
    table = pd.concat(parts, ignore_index=True)
    part = pd.Series(range(len(parts))).repeat([len(each) for each in parts]).reset_index(drop=True)
    rows = table[["path", "window", "repeat", "stage", "error"]].copy()
    rows["path"] = rows["path"].where(rows["path"].notna(), table["video"])
    window = [rows["path"], rows["window"], rows["repeat"]]
    failed = rows["error"].notna().groupby([*window, part]).transform("any")
    done = (~failed).groupby(window).transform("any")
    last = part == part.groupby(window).transform("max")
    rows = rows[~(failed & (done | ~last))]
    rows = rows[~rows.duplicated(keep="last")].sort_values(["path", "window", "repeat", "stage"])
    return table.loc[rows.index].reset_index(drop=True)


def _table(path: Path, records: _Records) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    found = functools.cache(lambda film: found_film(film, path.parent))
    recipes = functools.cache(recipe_with_home)
    for where, record in records:
        try:
            for row in _rows(record):
                known = _checked(row)
                for name, read in (("path", found), ("model", with_home), ("recipe", recipes)):
                    if isinstance(known.get(name), str):
                        known[name] = read(known[name])
                rows.append(known)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ExportError(f"{path}, {where}: {error}") from error
    if not rows:
        return captions_table([])
    table = pd.DataFrame(rows)
    missing = [name for name in COLUMNS if name not in table]
    table[missing] = None
    table["repeat"] = table["repeat"].fillna(0)
    more = [name for name in table if name not in COLUMNS]
    return typed(table[[*COLUMNS, *more]])


def _checked(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row after checking the types of its known columns.

    Raises
    ------
    ValueError
        If a value does not fit; the message names the column and the value.
    """
    for name in ("video", "window", "stage"):
        if row.get(name) is None:
            raise ValueError(f"the row lacks {name}, so it is not a caption")
    for name, kind in KINDS.items():
        value = row.get(name)
        if value is None:
            continue
        fits = isinstance(value, (int, float) if kind is float else kind)
        if not fits or isinstance(value, bool):
            raise ValueError(f"{name} is {_shown(value)}, which is not {_NAMES[kind]}")
        if isinstance(value, int) and abs(value) > _LARGEST[kind]:
            raise ValueError(f"{name} is {_shown(value)}, which is too large")
    for name, value in row.items():
        for text in (name, value):
            if isinstance(text, str) and not _is_unicode(text):
                raise ValueError(f"{_shown(name)} holds half of a surrogate pair: {_shown(text)}")
    return row


_NAMES = {int: "a whole number", float: "a number", str: "a text"}
# Beyond 2**53, pandas changes whole numbers of a column with missing values.
_LARGEST = {int: 2**53, float: sys.float_info.max}


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}…"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _rows(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a record as rows; a record of captionkit 0.1 may have all stages of a window."""
    if "key" in record:
        return [record]
    if isinstance(record.get("captions"), list):
        return _rows_of_a_line(record)
    if "stage1_caption" in record:
        return _rows_of_a_part(record)
    if isinstance(recipe := record.get("recipe"), str) and recipe.startswith("{"):
        known = Recipe.from_json(recipe)
        return [{**record, "recipe": known.to_json(), "model": known.model}]
    return [record]


def _rows_of_a_line(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Convert a line of ``captionkit caption --out`` of captionkit 0.1."""
    common = _old_window(record)
    rows = [
        {**common, **stage, "prompt": stage.get("prompt_text"), "error": None}
        for stage in record["captions"]
    ]
    for row in rows:
        row.pop("prompt_text", None)
    if record.get("error"):
        rows.append({**common, "stage": len(rows) + 1, "text": None, "error": record["error"]})
    return rows


def _rows_of_a_part(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Convert a row of Ray's parts of captionkit 0.1."""
    common = _old_window(record)
    if record.get("error"):
        return [{**common, "stage": 1, "text": None, "error": record["error"]}]
    texts = [text for text in (record["stage1_caption"], record["caption"]) if text is not None]
    rows = [{**common, "stage": stage, "text": text} for stage, text in enumerate(texts, 1)]
    names = ("finish_reason", "prompt", "prompt_tokens", "output_tokens", "seconds")
    rows[-1].update({name: record.get(name) for name in names})
    return rows


def _old_window(record: dict[str, Any]) -> dict[str, Any]:
    """Convert the columns of a window of captionkit 0.1, whose ``video`` was the path."""
    warnings = record.get("warnings")
    return {
        **{name: record.get(name) for name in _OLD_WINDOW},
        "video": PurePosixPath(record["video"]).stem,
        "path": record["video"],
        "model": record.get("variant"),
        "warnings": "; ".join(warnings) if isinstance(warnings, list) else warnings or None,
    }


def _jsonl(path: Path) -> _Records:
    with path.open(encoding="utf-8") as file:
        yield from json_lines_of(path, file)


def json_lines_of(path: Path, lines: Iterable[str]) -> _Records:
    """Yield the objects of JSON lines, each with its line for messages."""
    number = 0
    try:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ExportError(f"{path}, line {number}: not a JSON object")
            yield f"line {number}", record
    except UnicodeDecodeError as error:
        raise ExportError(f"{path}, behind line {number}: not UTF-8 ({error.reason})") from error
    except (ValueError, RecursionError) as error:
        raise ExportError(f"{path}, line {number}: {error}") from error


def _csv(path: Path) -> _Records:
    for number, record in csv_rows(path):
        row = {name: _cell(name, value) for name, value in record.items() if name}
        if row.get("error") is None and row.get("text") is None:
            # Read a missing text as empty: a CSV has the same cell for both.
            row["text"] = ""
        yield f"line {number}", row


def csv_rows(path: Path, encoding: str = "utf-8-sig") -> list[tuple[int, dict[str, str]]]:
    """Return the rows of a CSV file with the number of their last line; a cell may have any length."""
    number = 1
    rows = []
    with _CSV_LIMIT:
        limit = csv.field_size_limit(sys.maxsize)
        try:
            with path.open(encoding=encoding, newline="") as file:
                reader = csv.DictReader(file, strict=True)
                for record in reader:
                    number = reader.line_num
                    rows.append((number, record))
        except (csv.Error, UnicodeDecodeError) as error:
            raise ExportError(
                f"{path} is not a sound CSV file, in or behind line {number}: {error}"
            ) from error
        finally:
            csv.field_size_limit(limit)
    return rows


def _cell(name: str, value: str | None) -> Any:
    """Return a cell as the type of its column, or as it is if it does not fit."""
    if not value:
        return None
    value = unguarded(value)
    kind = KINDS.get(name, str)
    try:
        return kind(value)
    except ValueError:
        return _whole(value) if kind is int else value


def unguarded(value: str) -> str:
    """Return a cell without the apostrophe that keeps a spreadsheet from running it."""
    return value[1:] if value[:1] == GUARD and value[1:2] in (*FORMULA, GUARD) else value


def _whole(value: Any) -> Any:
    """Return a whole number that a table has as a float (for missing values), else the value."""
    try:
        number = float(value)
    except ValueError:
        return value
    return int(number) if number.is_integer() else value


def parquet_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a Parquet file; missing values are None."""
    try:
        table = pd.read_parquet(path)
        plain = table.astype(object).where(table.notna(), None)
        return plain.to_dict("records")
    # A damaged file lets the libraries raise errors of any kind.
    except Exception as error:
        raise ExportError(f"{path} is not a sound Parquet file: {error}") from error


def _parquet(path: Path) -> _Records:
    for number, record in enumerate(parquet_rows(path)):
        for name, kind in KINDS.items():
            if kind is int and isinstance(record.get(name), float):
                record[name] = _whole(record[name])
        yield f"row {number}", record


class _Rows(html.parser.HTMLParser):
    """Collects the text of the element with a report's rows."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.text = io.StringIO()
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = self._inside or ("id", ROWS_ID) in attrs

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "pre"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.text.write(data)


def html_rows(path: Path) -> _Records:
    """Yield the rows of an HTML report, each with its line for messages."""
    rows = _Rows()
    try:
        rows.feed(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ExportError(f"{path} is not UTF-8 ({error.reason})") from error
    yield from json_lines_of(path, rows.text.getvalue().splitlines())


_READERS: dict[str, Callable[[Path], _Records]] = {
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".parquet": _parquet,
    ".html": html_rows,
}
