"""Texts beside the picture: what fills ``{speech}``, ``{meta.COLUMN}`` and ``{previous}``.

``{speech}`` comes from subtitles or a transcript beside the film (see `sources.speech`),
``{meta.COLUMN}`` from a table of the user's, ``{previous}`` from the run itself, window by window.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from captionkit.export import ExportError
from captionkit.export.load import csv_rows, json_lines_of, parquet_rows, unguarded
from captionkit.export.rows import COLUMNS
from captionkit.prompts import META, PREVIOUS, SPEECH
from captionkit.session.films import Films
from captionkit.sources import PlannedWindow
from captionkit.sources.speech import Said, SpeechError, read_speech, speech_between, speech_file
from captionkit.store.texts import chains
from captionkit.system.hints import hint

Meta: TypeAlias = "pd.DataFrame | str | Path"

_MOST_NAMED = 3


class WindowTexts:
    """Texts of windows by placeholder; call it with a window.

    Parameters
    ----------
    names
        The placeholders, as `Recipe.texts`.
    windows
        Windows of the run.
    meta
        Table of the columns; each row names a film (and a time, a number or a key of a window, if it is
        not about all of the film).

    Raises
    ------
    ValueError
        If there is no table for ``{meta.COLUMN}``, it cannot be read, or has no such column.
    """

    def __init__(
        self, names: Sequence[str], windows: Sequence[PlannedWindow], meta: Meta | None
    ) -> None:
        self._names = names
        self._windows = windows
        self._speech: dict[str, list[Said] | SpeechError | None] = {}
        self._told: list[str] = []
        self._rows: dict[str, Mapping[str, Any]] = {}
        columns = [name.removeprefix(META) for name in names if name.startswith(META)]
        if columns:
            self._rows = self._matched(_records(columns, meta), columns)

    def __call__(self, window: PlannedWindow) -> dict[str, str]:
        """Return the texts of a window; a missing text is empty, and so is ``previous``.

        Raises
        ------
        SpeechError
            If there is speech beside the film that cannot be read.
        """
        return {name: self._value(name, window) or "" for name in self._names}

    def known(self) -> dict[str, dict[str, str]]:
        """Return the texts of all windows by their keys, without those that cannot be read."""
        found = {}
        for window in self._windows:
            try:
                found[window.key] = self(window)
            except SpeechError:
                continue
        return found

    def missing(self) -> list[str]:
        """Return a line for each placeholder that stays empty somewhere, and for each bad file."""
        lines = list(self._told)
        firsts = {self._windows[film[0]].key for film in chains(self._windows)}
        for name in self._names:
            empty: list[PlannedWindow] = []
            bad: Counter[str] = Counter()
            for window in self._windows:
                try:
                    if name == PREVIOUS:
                        # The first window of a film has none before it, and needs none.
                        lacks = window.key in firsts and window.number > 0
                    else:
                        lacks = self._value(name, window) is None
                    empty += [window] if lacks else []
                except SpeechError as error:
                    bad[str(error)] += 1
            if empty:
                films = list(dict.fromkeys(window.video for window in empty))
                more = ", …" if len(films) > _MOST_NAMED else ""
                lines.append(
                    f"{{{name}}} is empty in {len(empty)} of {len(self._windows)} windows "
                    f"({', '.join(films[:_MOST_NAMED])}{more}): {_why(name)}"
                )
            lines += [f"{{{name}}} fails in {count} windows: {error}" for error, count in bad.items()]
        return lines

    def _value(self, name: str, window: PlannedWindow) -> str | None:
        """Return a text; None if it is missing, which silence is not."""
        if name == PREVIOUS:
            return ""
        if name == SPEECH:
            return self._said(window)
        return _shown(self._rows.get(window.key, {}).get(name.removeprefix(META)))

    def _said(self, window: PlannedWindow) -> str | None:
        if isinstance(window.source.file, bytes):
            # Times of a clip's own bytes are not those of the film.
            return None
        if window.path not in self._speech:
            try:
                file = speech_file(window.path)
                self._speech[window.path] = None if file is None else read_speech(file)
            except SpeechError as error:
                self._speech[window.path] = error
        said = self._speech[window.path]
        if isinstance(said, SpeechError):
            raise said
        return None if said is None else speech_between(said, window.start_s, window.end_s)

    def _matched(
        self, records: Iterable[Mapping[str, Any]], columns: Sequence[str]
    ) -> dict[str, Mapping[str, Any]]:
        """Return the row of each window; of several the first one, which is told if they differ."""
        films = Films(self._windows)
        found: dict[str, Mapping[str, Any]] = {}
        again: Counter[str] = Counter()
        for record in records:
            for window in films.windows_of(*_place(record)):
                first = found.setdefault(window.key, record)
                if any(_shown(first[each]) != _shown(record[each]) for each in columns):
                    again[window.video] += 1
        self._told += [
            f"{count} more rows are about windows of {video}, with other values; the first row counts"
            for video, count in again.items()
        ]
        return found


def _why(name: str) -> str:
    if name == SPEECH:
        return "no .srt, .vtt or transcript (.json) lies beside the film"
    if name == PREVIOUS:
        return "the window before is not in this run"
    return "the table has no row for it, or an empty cell"


def _records(columns: Sequence[str], meta: Meta | None) -> list[dict[str, Any]]:
    """Return the rows of a table, which must have the columns."""
    if meta is None:
        raise ValueError(
            f"the prompt has {{{META}{columns[0]}}}, but there is no table to take it from; give "
            "Session(…, meta=) or --meta a table with a column for the film"
        )
    where = "the table of meta=" if isinstance(meta, pd.DataFrame) else str(meta)
    rows = (
        [{str(name): value for name, value in row.items()} for row in meta.to_dict("records")]
        if isinstance(meta, pd.DataFrame)
        else _read(Path(meta))
    )
    if not rows:
        raise ValueError(f"{where} has no row")
    there = list(dict.fromkeys(name for row in rows for name in row))
    for column in columns:
        if column not in there:
            raise ValueError(
                f"the prompt has {{{META}{column}}}, but {where} has no column "
                f"{column!r}{hint(column, there)}; there are: {', '.join(there)}"
            )
    if not any(name in there for name in (*COLUMNS["video"], *COLUMNS["key"])):
        raise ValueError(
            f"{where} does not say which film a row is about; name a column video, path or file_name"
        )
    return [{**dict.fromkeys(there), **row} for row in rows]


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        suffix = path.suffix.lower()
        if suffix == ".csv":
            return [
                {name: unguarded(cell or "") for name, cell in row.items() if name}
                for _, row in csv_rows(path, "utf-8-sig")
            ]
        if suffix == ".parquet":
            return list(parquet_rows(path))
        if suffix == ".jsonl":
            lines = path.read_text(encoding="utf-8").split("\n")
            return [row for _, row in json_lines_of(path, lines)]
    except FileNotFoundError as error:
        raise ValueError(f"there is no file {path}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error}); save the file as UTF-8") from error
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except ExportError as error:
        raise ValueError(str(error)) from error
    raise ValueError(f"{path} is not a table; give .csv, .parquet, .jsonl or a pandas table")


def _place(record: Mapping[str, Any]) -> tuple[str | None, str | None, float | None, Any, int | None]:
    """Return film, key, times and number of a row's window, None for what the row lacks."""
    told = {
        name: next((record[each] for each in COLUMNS[name] if _shown(record.get(each))), None)
        for name in ("video", "key", "start", "end", "window")
    }
    numbers = [_number(told[name]) for name in ("start", "end", "window")]
    texts = [None if told[name] is None else str(told[name]) for name in ("video", "key")]
    number = None if numbers[2] is None else int(numbers[2])
    return texts[0], texts[1], numbers[0], numbers[1], number


def _number(value: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


def _shown(value: Any) -> str | None:
    """Return a cell as the text of a prompt; None if it is empty."""
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        # Whole numbers of a column with missing values are floats.
        value = int(value)
    return str(value).strip() or None
