"""Captions of other tools as rows: text files, tables, subtitles, and captionkit's own files."""

from __future__ import annotations

import json
import math
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captionkit.export.errors import ExportError
from captionkit.export.load import csv_rows, html_rows, json_lines_of, parquet_rows, unguarded
from captionkit.export.names import found_film
from captionkit.sources.subtitles import cues, decoded
from captionkit.system.hints import hint

#: What a row may tell, and the names that other tools give its columns, in order of preference.
COLUMNS: dict[str, tuple[str, ...]] = {
    "text": ("text", "caption", "sentence", "prompt", "description"),
    "video": (
        "path", "video_path", "media_path", "file_name", "video", "film", "source_video", "file",
        "filename", "clip",
    ),
    "key": ("key",),
    "window": ("window",),
    "start": ("start_s", "start", "start_time", "begin", "timestamp_start"),
    "end": ("end_s", "end", "end_time", "timestamp_end"),
}  # fmt: skip


@dataclass(frozen=True)
class ForeignRow:
    """A caption of another tool, and what it tells of its window.

    Parameters
    ----------
    where
        File and line, for messages.
    text
        The caption; None if the row cannot be read, for the reason ``problem``.
    video
        Name or path of the film, or of a clip.
    key, window, start_s, end_s
        Key and number of the window, and its times in seconds of the film; None if unknown.
    stage
        Stage of captionkit's own captions; the last one of a window counts.
    """

    where: str
    text: str | None
    video: str | None = None
    key: str | None = None
    window: int | None = None
    start_s: float | None = None
    end_s: float | None = None
    stage: int = 0
    problem: str | None = None


def foreign_rows(
    path: str | Path, columns: Mapping[str, str] | None = None, encoding: str = "utf-8"
) -> list[ForeignRow]:
    """Read captions of any tool.

    Parameters
    ----------
    path
        A table (``.jsonl``, ``.json``, ``.csv``, ``.parquet``, a report), subtitles (``.vtt``,
        ``.srt``), a text file, tar files of webdataset, or a folder of these; also NeMo's ``metas`` and
        COCO's captions.
    columns
        Names of the columns, for `COLUMNS`: ``{"text": "my_caption", "video": "clip_name"}``. A column
        that is not given is looked for under the names that tools use.
    encoding
        Encoding of files without a byte-order mark.

    Raises
    ------
    ExportError
        If there is nothing to read, a table is damaged, or a column is missing.
    """
    path = Path(path)
    columns = dict(columns or {})
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        raise ExportError(
            f"no column can be mapped to {unknown[0]!r}{hint(unknown[0], COLUMNS)}; give names for "
            f"{', '.join(COLUMNS)}"
        )
    if not path.exists():
        raise ExportError(f"there is no file {path}")
    files = [path]
    if path.is_dir():
        files = sorted(each for each in path.rglob("*") if _is_wanted(each, path))
    rows = [row for file in files for row in _rows(file, columns, encoding)]
    if not rows:
        raise ExportError(f"{path} holds no captions; give {', '.join(sorted(_SUFFIXES))} or a folder")
    return rows


def _is_wanted(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return file.is_file() and not hidden and file.suffix.lower() in _SUFFIXES


def _rows(file: Path, columns: Mapping[str, str], encoding: str) -> Iterator[ForeignRow]:
    suffix = file.suffix.lower()
    if suffix == ".tar":
        yield from _samples(file, columns, encoding)
        return
    if suffix not in _SUFFIXES:
        raise ExportError(
            f"{file} is {suffix or 'without a suffix'}; give one of {', '.join(sorted(_SUFFIXES))}"
        )
    if suffix == ".parquet":
        yield from _table(
            file, ((f"row {n}", row) for n, row in enumerate(parquet_rows(file))), columns
        )
        return
    try:
        content = file.read_bytes()
        text, used = decoded(content, encoding)
    except (UnicodeDecodeError, LookupError) as error:
        problem = f"not {encoding} ({error}); save the file as UTF-8, or give its encoding"
        if suffix not in (".txt", ".vtt", ".srt"):
            raise ExportError(f"{file} is {problem}") from error
        yield ForeignRow(str(file), None, problem=problem)
        return
    except OSError as error:
        raise ExportError(f"cannot read {file}: {error.strerror}") from error
    if suffix == ".txt":
        yield ForeignRow(str(file), text.strip(), str(file.with_suffix("")))
    elif suffix in (".vtt", ".srt"):
        yield from _cues(file, text)
    elif suffix == ".csv":
        rows = (
            (f"line {n}", {name: unguarded(cell or "") for name, cell in row.items() if name})
            for n, row in csv_rows(file, "utf-8-sig" if used == "utf-8" else used)
        )
        yield from _table(file, rows, columns)
    elif suffix == ".html":
        yield from _table(file, html_rows(file), columns)
    elif suffix == ".jsonl":
        lines = json_lines_of(file, text.split("\n"))
        yield from _table(file, lines, columns)
    else:
        yield from _json(file, text, columns)


def _table(
    file: Path, records: Iterable[tuple[str, dict[str, Any]]], columns: Mapping[str, str]
) -> Iterator[ForeignRow]:
    for where, record in records:
        absent = [name for name in columns.values() if name not in record]
        if absent:
            raise ExportError(
                f"{file}, {where}: there is no column {absent[0]!r}{hint(absent[0], record)}; there "
                f"are: {', '.join(map(str, record))}"
            )
        found = {name: _value(record, _names(name, columns)) for name in COLUMNS}
        if isinstance(found["video"], str):
            found["video"] = found_film(found["video"], file.parent)
        own = next((each for each in _names("text", columns) if each in record), None)
        if own is None:
            raise ExportError(
                f"{file}, {where}: no column is known to hold the caption; map one of "
                f"{', '.join(map(str, record))}, as columns={{'text': …}}"
            )
        # Of texts only the first column counts: another one may hold what a model was asked.
        found["text"] = record[own]
        if "text" not in columns and not _missing(record.get("edited_text")):
            found["text"] = record["edited_text"]
        if record.get("error") and _missing(found["text"]):
            continue
        yield _row(f"{file}, {where}", found, record.get("stage"))


def _names(name: str, columns: Mapping[str, str]) -> tuple[str, ...]:
    return (columns[name],) if name in columns else COLUMNS[name]


def _value(record: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((record[name] for name in names if not _missing(record.get(name))), None)


def _missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and value != value)


def _row(where: str, found: Mapping[str, Any], stage: Any = None) -> ForeignRow:
    text = found["text"]
    if not isinstance(text, str) or not text.strip():
        return ForeignRow(where, None, problem="the caption is empty or not a text")
    try:
        numbers = {
            name: None if found[name] is None else float(found[name])
            for name in ("window", "start", "end")
        }
        order = int(float(stage or 0))
        if not all(math.isfinite(each) for each in numbers.values() if each is not None):
            raise ValueError("not a finite number")
    except (TypeError, ValueError, OverflowError) as error:
        return ForeignRow(where, None, problem=f"a time or a number cannot be read: {error}")
    window = numbers["window"]
    video = found["video"]
    return ForeignRow(
        where,
        text.strip(),
        str(video) if video is not None else None,
        str(found["key"]) if found["key"] is not None else None,
        int(window) if window is not None else None,
        numbers["start"],
        numbers["end"],
        order,
    )


def _json(file: Path, text: str, columns: Mapping[str, str]) -> Iterator[ForeignRow]:
    """Read a list of rows, NeMo's metas of a clip, the truth of a film, or events of films."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ExportError(f"{file} is not JSON: {error}") from error
    try:
        yield from _rows_of_json(file, content, columns)
    except (KeyError, TypeError, IndexError, AttributeError, ArithmeticError) as error:
        raise ExportError(
            f"{file} holds captions in a form that cannot be read: {type(error).__name__}: {error}"
        ) from error


def _rows_of_json(file: Path, content: Any, columns: Mapping[str, str]) -> Iterator[ForeignRow]:
    if isinstance(content, list) and all(isinstance(each, dict) for each in content):
        yield from _table(file, ((f"entry {n}", each) for n, each in enumerate(content)), columns)
    elif isinstance(content, dict) and isinstance(content.get("windows"), list):
        yield from _nemo(file, content)
    elif isinstance(content, dict) and isinstance(content.get("scenes"), list):
        for number, scene in enumerate(content["scenes"]):
            found = {**dict.fromkeys(COLUMNS), "video": str(file.with_suffix(""))}
            found |= {"start": scene.get("start_s"), "end": scene.get("end_s")}
            found["text"] = _value(scene, COLUMNS["text"])
            if found["text"] is None:
                # The truth of a scene as facts is not a caption.
                continue
            yield _row(f"{file}, scene {number}", found)
    elif isinstance(content, dict) and {"images", "annotations"} <= content.keys():
        names = {image["id"]: image["file_name"] for image in content["images"]}
        rows = ({**each, "video": names.get(each["image_id"])} for each in content["annotations"])
        yield from _table(file, ((f"annotation {n}", each) for n, each in enumerate(rows)), columns)
    elif isinstance(content, dict) and all(_is_events(each) for each in content.values()):
        for name, film in content.items():
            for number, (times, sentence) in enumerate(
                zip(film["timestamps"], film["sentences"], strict=False)
            ):
                found = {**dict.fromkeys(COLUMNS), "video": film.get("path") or name, "text": sentence}
                yield _row(f"{file}, {name} {number}", found | {"start": times[0], "end": times[1]})
    else:
        raise ExportError(f"{file} is not a list of captions, metas of a clip, or events of films")


def _is_events(film: Any) -> bool:
    return isinstance(film, dict) and {"timestamps", "sentences"} <= film.keys()


def _nemo(file: Path, content: dict[str, Any]) -> Iterator[ForeignRow]:
    """Read the metas of a clip; frames become times by the clip's span and rate."""
    begin = (content.get("duration_span") or [0.0])[0]
    rate = content.get("framerate_source")
    for number, window in enumerate(content["windows"]):
        texts = {
            name: text
            for name, text in window.items()
            if name.endswith("_caption") and isinstance(text, str) and "_stage1_" not in name
        }
        if not texts:
            continue
        found = {**dict.fromkeys(COLUMNS), "video": content.get("source_video")}
        found["text"] = next(iter(texts.values()))
        if rate:
            found["start"] = begin + window["start_frame"] / rate
            found["end"] = begin + (window["end_frame"] + 1) / rate
        yield _row(f"{file}, window {number}", found)


def _samples(file: Path, columns: Mapping[str, str], encoding: str) -> Iterator[ForeignRow]:
    """Read a tar file of webdataset: members of one name are a sample, such as a.mp4, a.txt, a.json.

    The text counts before the facts' one; of the facts the film, times and keys count. Nothing is
    written to disk.
    """
    parts: dict[str, dict[str, bytes]] = {}
    try:
        with tarfile.open(file) as tar:
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                # Names of samples may hold dots, as in film.v2.mp4: the kind is behind the last one.
                stem, _, kind = name.rpartition(".")
                if not member.isfile() or kind.lower() not in _IN_SAMPLES or not stem:
                    continue
                if member.size > _LARGEST_TEXT:
                    raise ExportError(f"{file}, {member.name}: {member.size} bytes are not a caption")
                stream = tar.extractfile(member)
                content = stream.read() if stream is not None else b""
                parts.setdefault(f"{folder}/{stem}".lstrip("/"), {})[kind.lower()] = content
    except (tarfile.TarError, EOFError, OSError, UnicodeError) as error:
        raise ExportError(f"{file} is not a sound tar file: {error}") from error
    for name, part in parts.items():
        where = f"{file}, {name}"
        try:
            facts = _facts_of(part.get("json"))
            said = next((part[kind] for kind in _TEXTS if kind in part), None)
            if said is not None:
                facts = {**dict.fromkeys(_names("text", columns)), **facts}
                facts |= {_names("text", columns)[0]: decoded(said, encoding)[0], "edited_text": None}
        except (UnicodeDecodeError, LookupError, ValueError, RecursionError) as error:
            yield ForeignRow(where, None, problem=f"its text or facts cannot be read: {error}")
            continue
        if not any(each in facts for each in _names("text", columns)):
            yield ForeignRow(where, None, problem="it has neither .txt nor a caption in its .json")
            continue
        if _value(facts, (*_names("video", columns), *_names("key", columns))) is None:
            facts["video"] = name.rpartition("/")[2]
        yield from _table(file, [(name, facts)], columns)


def _facts_of(content: bytes | None) -> dict[str, Any]:
    if content is None:
        return {}
    facts = json.loads(content)
    return facts if isinstance(facts, dict) else {}


def _cues(file: Path, text: str) -> Iterator[ForeignRow]:
    """Read WebVTT or SubRip; the film has the file's name."""
    for cue in cues(text, vtt=file.suffix.lower() == ".vtt"):
        where = f"{file}, cue {cue.number}"
        if cue.problem is not None:
            yield ForeignRow(where, None, problem=f"its times cannot be read: {cue.problem!r}")
            continue
        found = {**dict.fromkeys(COLUMNS), "text": cue.text, "video": str(file.with_suffix(""))}
        yield _row(where, found | {"start": cue.start_s, "end": cue.end_s})


# Kinds of members that tell the caption, in order of preference, and all that are read.
_TEXTS = ("txt", "caption", "text")
_IN_SAMPLES = {*_TEXTS, "json"}
_LARGEST_TEXT = 16 << 20
_SUFFIXES = {".tar", ".jsonl", ".json", ".csv", ".parquet", ".html", ".txt", ".vtt", ".srt"}
