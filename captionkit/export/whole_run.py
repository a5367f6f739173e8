"""Writes a whole run in one of several formats: all of it or nothing.

Imports checks and the formats; called by `Run.export` and the command line.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from captionkit.review import checks as caption_checks
from captionkit import structured
from captionkit.export import report, subtitles, tables
from captionkit.export.errors import ExportError
from captionkit.export.source import Exportable

FORMATS = {
    "jsonl": "JSON lines, a row a window and stage",
    "csv": "comma-separated, for spreadsheets",
    "parquet": "Parquet",
    "vtt": "WebVTT subtitles, a file a video",
    "srt": "SRT subtitles, a file a video",
    "html": "one page with thumbnails, stages side by side and filters",
    "nemo": "NeMo Curator's folders: metas/v0/<clip id>.json",
}
_LONGEST_NAME = 200
_TABLES: dict[str, Callable[[pd.DataFrame], bytes]] = {
    "jsonl": tables.jsonl,
    "csv": tables.csv,
    "parquet": tables.parquet,
}


def export_run(
    run: Exportable,
    path: str | Path,
    format: str | None = None,  # noqa: A002
    *,
    stage: int | None = None,
    checks: bool = False,
    prefer_human: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write a run's captions; gives the path.

    Parameters
    ----------
    run
        The run.
    path
        The file; for ``nemo``, and for subtitles of several videos, a folder.
    format
        One of `FORMATS`; None takes the path's suffix.
    stage
        1 or 2 for that stage alone. None takes all stages, and for subtitles the last one.
    checks
        Add what `checks` finds: columns, or a line below a subtitle.
    prefer_human
        An edited text stands in place of the generated one; and where a window has ratings, its
        best-rated stage is its caption (the last stage else), alone.
    overwrite
        Replace what stands there.

    The tables of a run with a schema have a column ``json.NAME`` for each property, and
    ``json.invalid`` with what is wrong.

    Raises
    ------
    ExportError
        An unknown format, a run without captions, a path that is taken or cannot be written. Nothing
        is left half written.
    """
    path = Path(path)
    name = format or path.suffix.lower().lstrip(".")
    if name not in FORMATS:
        given = f"{name!r}" if name else f"without a suffix ({path})"
        raise ExportError(f"the format is {given}; give one of {', '.join(FORMATS)}")
    table = _table(run, stage, prefer_human)
    if name in _TABLES:
        schema = run.recipe.schema
        if checks:
            table = table.join(caption_checks.check_table(table, schema=schema))
        if schema is not None:
            fields = structured.table(table["text"], schema).map(_cell).add_prefix("json.")
            table = table.join(fields)
        recipe = json.dumps(asdict(run.recipe), ensure_ascii=False)
        return _write(path, _TABLES[name](table.assign(recipe=recipe)), overwrite)
    if name == "html":
        return _write(path, report.report(run, table), overwrite)
    if name == "nemo":
        return _write_folder(path, _nemo(run, table, checks), overwrite)
    make = subtitles.vtt if name == "vtt" else subtitles.srt
    files: dict[str, bytes] = {}
    for video, group in table.groupby("video", sort=False):
        file, number = _file_name(video), 1
        while f"{file}.{name}" in files:
            number += 1
            file = f"{_file_name(video)}-{number}"
        files[f"{file}.{name}"] = make(_cues(group, checks, run.recipe.schema), run.recipe)
    if path.suffix.lower() == f".{name}":
        if len(files) > 1:
            raise ExportError(
                f"run {run.id} has {len(files)} videos, and subtitles are a file a video: give a "
                f"folder instead of {path}"
            )
        return _write(path, next(iter(files.values())), overwrite)
    return _write_folder(path, files, overwrite)


def _table(run: Exportable, stage: int | None, prefer_human: bool) -> pd.DataFrame:
    table = run.captions
    if table["text"].isna().all():
        reasons = table["error"].dropna()
        first = f"; the first failed: {reasons.iloc[0]}" if len(reasons) else ""
        raise ExportError(f"run {run.id} has no caption to export: {run.progress}{first}")
    if stage is not None:
        table = table[(table["stage"] == stage) | table["error"].notna()]
        if table["text"].isna().all():
            raise ExportError(
                f"run {run.id} has no captions of stage {stage}; its recipe has one stage"
            )
    if prefer_human:
        keys = [name for name in ("repeat", "clip", "window") if name in table]
        # A stable sort: of equal ratings the later stage wins, and none is less than any.
        ranked = table.assign(_rank=table["rating"].fillna(0)).sort_values("_rank", kind="stable")
        kept = ranked.drop_duplicates(keys, keep="last").index.sort_values()
        table = table.loc[kept]
        table = table.assign(
            text=table["edited_text"].where(table["edited_text"].notna(), table["text"])
        )
    return table.reset_index(drop=True)


def _cues(group: pd.DataFrame, checks: bool, schema: str | None) -> list[subtitles.Cue]:
    last = group.dropna(subset="text").drop_duplicates(["clip", "window"], keep="last")
    found = caption_checks.faults(last, schema) if checks else {}
    cues = []
    for index, row in last.iterrows():
        text = row["text"]
        if faults := found.get(index):
            text += f"\n[{', '.join(faults)}]"
        cues.append(subtitles.Cue(row["start_s"], row["end_s"], text))
    return cues


def _nemo(run: Exportable, table: pd.DataFrame, checks: bool) -> dict[str, bytes]:
    """A metadata file a clip, as the reference's ``ClipWriterStage`` lays it out.

    The last stage is ``<variant>_caption``, the first of two ``<variant>_stage1_caption``; the recipe
    and what is wrong are added under names of ours.
    """
    variant = Path(run.recipe.variant).name
    frames = {
        (clip, number): (start, end, path, json.loads(source))
        for clip, number, start, end, path, source in run.store.rows(
            "SELECT clip, number, start_frame, end_frame, path, source FROM jobs JOIN windows "
            "ON key = window_key WHERE run = ?",
            (run.id,),
        )
    }
    files = {}
    found = caption_checks.faults(table, run.recipe.schema) if checks else {}
    for clip, group in table.groupby("clip", sort=False):
        windows: list[dict[str, Any]] = []
        errors: list[str] = []
        for number, rows in group.groupby("window", sort=False):
            start, end, path, source = frames[clip, number]
            window: dict[str, Any] = {"start_frame": start, "end_frame": end}
            told = rows.dropna(subset="text")
            for place, (index, row) in enumerate(told.iterrows(), 1):
                last = place == len(told)
                window[f"{variant}_caption" if last else f"{variant}_stage{row['stage']}_caption"] = (
                    row["text"]
                )
                if checks and last:
                    window["checks"] = found[index]
            errors += [f"window-{number}: {why}" for why in rows["error"].dropna()]
            windows.append(window)
        meta = {
            "span_uuid": clip,
            "source_video": _without_home(path),
            "duration_span": list(source["span"]),
            "width_source": source["width"],
            "height_source": source["height"],
            "framerate_source": source["fps"],
            **({"errors": errors} if errors else {}),
            "windows": windows,
            "valid": any(f"{variant}_caption" in window for window in windows),
            "recipe": asdict(run.recipe),
        }
        text = json.dumps(meta, ensure_ascii=False, indent=4)
        files[f"metas/v0/{clip}.json"] = text.encode("utf-8")
    return files


def _without_home(path: str) -> str:
    """A path that tells nobody whose machine it was."""
    home = str(Path.home())
    return "~" + path[len(home) :] if path.startswith(home + os.sep) else path


def _cell(value: Any) -> Any:
    """A value of a structured caption as a table can hold it: lists and objects as JSON text."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value


def _file_name(video: object) -> str:
    """A video's name as one name in a folder, with room for a suffix on every file system."""
    name = "".join(c if c.isalnum() or c in " ._-" else "_" for c in str(video)).lstrip(".")
    return name.encode()[:_LONGEST_NAME].decode(errors="ignore") or "video"


def _write(path: Path, data: bytes, overwrite: bool) -> Path:
    if path.is_dir():
        raise ExportError(f"{path} is a folder; give a file")
    if path.exists() and not overwrite:
        raise ExportError(f"{path} is there already; give overwrite=True to replace it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(number, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror}; nothing was changed") from error
    return path


def _write_folder(path: Path, files: dict[str, bytes], overwrite: bool) -> Path:
    """Write all files beside their place first, so that a full disk leaves nothing half done."""
    taken = [name for name in files if (path / name).exists()]
    if path.is_file() or (taken and not overwrite):
        where = path / taken[0] if taken else path
        raise ExportError(f"{where} is there already; give overwrite=True to replace it")
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path, prefix=".export-") as folder:
            for name, data in files.items():
                target = Path(folder) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
            for name in files:
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.move(Path(folder) / name, path / name)
    except OSError as error:
        raise ExportError(f"cannot write to {path}: {error.strerror}") from error
    return path
