"""Windows from elsewhere: tables of spans in seconds, PySceneDetect's CSV, NeMo Curator's clip metas.

Each row is one window, exactly as given; nothing is cut or joined.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from captionkit.sources.find import search_videos, short_names
from captionkit.sources.requests import ClipRequest, SpanRequest, VideoRequest
from captionkit.sources.windows import WindowSpan

Spans: TypeAlias = "pd.DataFrame | str | Path"

# The names of a column, the first one ours.
_COLUMNS = {
    "video": ("video", "path", "source_video", "file"),
    "start_s": ("start_s", "Start Time (seconds)"),
    "end_s": ("end_s", "End Time (seconds)"),
}
# PySceneDetect writes FILM-Scenes.csv, with the list of cuts in its first line.
_SCENES_END = "-Scenes"
_CUTS_LINE = "Timecode List"


@dataclass(frozen=True)
class _Row:
    """A row of a table: the video's name in it, and what to open."""

    video: str
    where: str
    span: SpanRequest | None = None
    clip: tuple[tuple[float, float], tuple[WindowSpan, ...]] | None = None


class _RowError(ValueError):
    """Raised for a row that is left out."""


def span_requests(
    spans: Spans, sources: Iterable[str | Path] = ()
) -> tuple[list[VideoRequest], dict[str, str]]:
    """Return the videos of a table of spans with their windows, and the problems of the rest.

    Parameters
    ----------
    spans
        A table with the columns video, start_s and end_s (seconds of the file); such a CSV file, or one
        of PySceneDetect; a folder of these, or of NeMo Curator's clip metas (``metas/v0/*.json``).
    sources
        Videos, patterns or folders, in which a video is found by its name, if its path in the table
        does not exist. A table without videos (PySceneDetect's) is of the video that its name tells, or
        of the only one.

    Raises
    ------
    ValueError
        If the table lacks a column, or has no row.
    FileNotFoundError
        If there is no such file.
    """
    paths, problems = search_videos(sources)
    rows: list[_Row] = []
    for table, name, folder in _tables(spans):
        if isinstance(table, pd.DataFrame):
            found = _rows_of_table(table, name, paths, problems)
        else:
            found = _rows_of_metas(table, name, problems)
        rows += [_located(row, folder) for row in found]
    if not rows and not problems:
        raise ValueError(f"{_name(spans)} has no row; give a row for each window")
    known = _Known(paths)
    clips: dict[str, list[ClipRequest]] = {}
    for row in rows:
        try:
            path = known.find(row.video)
        except _RowError as error:
            problems[row.where] = f"{row.where}: {error}"
            continue
        of_video = clips.setdefault(path, [])
        if row.clip is not None:
            of_video.append(ClipRequest(path, path, *row.clip))
        elif row.span is not None:
            of_video.append(ClipRequest(path, path, given=(row.span,)))
    merged = [VideoRequest("", tuple(_merged(each))) for each in clips.values()]
    names = short_names(list(clips))
    return [VideoRequest(name, each.clips) for name, each in zip(names, merged, strict=True)], problems


def _merged(clips: Sequence[ClipRequest]) -> list[ClipRequest]:
    """Join the spans of a file, so that the file is opened once."""
    given = tuple(span for clip in clips for span in clip.given)
    others = [clip for clip in clips if not clip.given]
    return [*others, *([ClipRequest(clips[0].file, clips[0].path, given=given)] if given else [])]


def _name(spans: Spans) -> str:
    return "the table" if isinstance(spans, pd.DataFrame) else str(spans)


def _tables(spans: Spans) -> list[tuple[pd.DataFrame | list[Path], str, Path]]:
    """Return tables or lists of metas, each with its name and the folder that its paths start from."""
    if isinstance(spans, pd.DataFrame):
        return [(spans, "the table", Path())]
    path = Path(spans).expanduser()
    if path.is_file():
        return [(_csv(path), str(path), path.parent)]
    if not path.is_dir():
        raise FileNotFoundError(f"no such file: {path} (in {Path.cwd()})")
    inner = path / "metas" / "v0"
    metas = sorted((inner if inner.is_dir() else path).glob("*.json"))
    if metas:
        return [(metas, str(path), path)]
    tables = sorted(path.glob("*.csv"))
    if not tables:
        raise ValueError(f"{path} holds neither a .csv nor NeMo Curator's metas/v0/*.json")
    return [(_csv(each), str(each), path) for each in tables]


def _csv(path: Path) -> pd.DataFrame:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from error
    if text.startswith(_CUTS_LINE):
        text = text.partition("\n")[2]
    try:
        # Keep every value as text: a broken number is one row's problem.
        return pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{path} is not a CSV file: {error}") from error


def _rows_of_table(
    table: pd.DataFrame, name: str, paths: Sequence[str], problems: dict[str, str]
) -> list[_Row]:
    columns = {
        ours: next((each for each in names if each in table), None) for ours, names in _COLUMNS.items()
    }
    if columns["start_s"] is None or columns["end_s"] is None:
        listed = ", ".join(map(str, table.columns)) or "none"
        raise ValueError(
            f"{name} has the columns {listed}; a table of windows needs video, start_s and end_s "
            "(seconds), or is a CSV file of PySceneDetect"
        )
    if columns["video"] is None:
        videos: Sequence[Any] = [_only_video(name, paths)] * len(table)
    else:
        videos = list(table[columns["video"]])
    rows = []
    starts, ends = table[columns["start_s"]], table[columns["end_s"]]
    for number, (video, start, end) in enumerate(zip(videos, starts, ends, strict=True), 1):
        where = f"{name}, row {number}"
        try:
            if not isinstance(video, (str, Path)) or not str(video).strip():
                raise _RowError(f"the video is {video!r}; give its path or name")
            begin, finish = _seconds("start_s", start), _seconds("end_s", end)
            if begin < 0:
                raise _RowError(f"the span starts at {begin:g} s; give 0 or more")
            if not begin < finish:
                raise _RowError(f"the span from {begin:g} to {finish:g} s does not end after its start")
        except _RowError as error:
            problems[where] = f"{where}: {error}; left out"
        else:
            rows.append(_Row(str(video), where, SpanRequest(begin, finish, where)))
    return rows


def _seconds(name: str, value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise _RowError(f"{name} is {value!r}; give seconds")
    return seconds


def _only_video(name: str, paths: Sequence[str]) -> str:
    """Return the video of a table that names none: the one of the table's name, or the only one."""
    stem = Path(name).stem
    if stem.endswith(_SCENES_END):
        wanted = stem.removesuffix(_SCENES_END)
        if any(Path(each).stem == wanted for each in paths):
            return wanted
    if len(paths) == 1:
        return paths[0]
    if stem.endswith(_SCENES_END):
        return stem.removesuffix(_SCENES_END)
    raise ValueError(
        f"{name} does not say which video it is of; add a column video, or give the one video as source"
    )


def _rows_of_metas(metas: Sequence[Path], folder: str, problems: dict[str, str]) -> list[_Row]:
    """Return the clips of NeMo Curator's metas with their windows, which count frames of the clip."""
    rows = []
    for path in metas:
        try:
            meta = json.loads(path.read_text(encoding="utf-8"))
            start, end = map(float, meta["duration_span"])
            windows = tuple(
                WindowSpan(int(each["start_frame"]), int(each["end_frame"]))
                for each in meta.get("windows") or ()
            )
            row = _Row(str(meta["source_video"]), str(path), clip=((start, end), windows))
        except (ValueError, KeyError, TypeError, OSError) as error:
            problems[str(path)] = f"{path} is not the meta of a clip: {type(error).__name__}: {error}"
        else:
            rows.append(row)
    return sorted(rows, key=lambda row: (row.video, row.clip[0] if row.clip else (0.0, 0.0)))


def _located(row: _Row, folder: Path) -> _Row:
    """Return a row with the path that its video has beside the table, if there is such a file."""
    beside = folder / row.video
    if not Path(row.video).is_file() and beside.is_file():
        return _Row(os.path.abspath(beside), row.where, row.span, row.clip)
    return row


class _Known:
    """Videos by path, by name and by stem."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._by_name: dict[str, set[str]] = {}
        names = short_names(list(paths))
        for path, short in zip(paths, names, strict=True):
            for name in (path, short, Path(path).name, Path(path).stem):
                self._by_name.setdefault(name, set()).add(path)

    def find(self, video: str) -> str:
        """Return the path of a video of the table."""
        for name in (video, Path(video).name, Path(video).stem):
            found = self._by_name.get(name, set())
            if len(found) > 1:
                raise _RowError(f"{len(found)} videos are called {name}; give the path; left out")
            if found:
                return next(iter(found))
            if name == video and Path(video).expanduser().is_file():
                return os.path.abspath(Path(video).expanduser())
        raise _RowError(f"no such video: {video}; left out")
