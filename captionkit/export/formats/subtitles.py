"""Captions as WebVTT and SRT: subtitles on the video's own time line, one file for each video."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from captionkit.export.base import Export
from captionkit.recipe import Recipe
from captionkit.review import faults

_LONGEST_NAME = 200


@dataclass(frozen=True)
class Cue:
    """A text from ``start_s`` to ``end_s``."""

    start_s: float
    end_s: float
    text: str


def vtt_files(export: Export) -> dict[str, bytes]:
    """Return WebVTT with the recipe in a note."""
    return _files(export, "vtt", vtt)


def srt_files(export: Export) -> dict[str, bytes]:
    """Return SubRip, a format without a place for the recipe."""
    return _files(export, "srt", srt)


def _files(
    export: Export, suffix: str, make: Callable[[Sequence[Cue], Recipe], bytes]
) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for video, group in export.table.groupby("video", sort=False):
        name, number = file_name(video), 1
        while f"{name}.{suffix}" in files:
            number += 1
            name = f"{file_name(video)}-{number}"
        files[f"{name}.{suffix}"] = make(_cues(group, export), export.run.recipe)
    return files


def _cues(group: pd.DataFrame, export: Export) -> list[Cue]:
    last = group.dropna(subset="text").drop_duplicates("key", keep="last")
    found = faults(last, export.run.recipe.schema) if export.checks else {}
    cues = []
    for index, row in last.iterrows():
        text = row["text"]
        if names := found.get(index):
            text += f"\n[{', '.join(names)}]"
        cues.append(Cue(row["start_s"], row["end_s"], text))
    return cues


def file_name(video: object) -> str:
    """Return a video's name as a safe file name, short enough for a suffix on every file system."""
    name = "".join(c if c.isalnum() or c in " ._-" else "_" for c in str(video)).lstrip(".")
    return name.encode()[:_LONGEST_NAME].decode(errors="ignore") or "video"


def vtt(cues: Sequence[Cue], recipe: Recipe) -> bytes:
    """Return WebVTT with the recipe in a note."""
    # Escape arrows, which a note must not contain.
    text = recipe.to_json().replace("-->", "--\\u003e")
    blocks = ["WEBVTT", f"NOTE captionkit recipe\n{text}"]
    for cue in cues:
        text = html.escape(_lines(cue.text), quote=False)
        blocks.append(f"{_clock(cue.start_s, '.')} --> {_clock(cue.end_s, '.')}\n{text}")
    return ("\n\n".join(blocks) + "\n").encode("utf-8")


def srt(cues: Sequence[Cue], recipe: Recipe) -> bytes:
    """Return SubRip, a format without a place for the recipe."""
    blocks = []
    for number, cue in enumerate(cues, 1):
        text = _lines(cue.text).replace("-->", "->")
        blocks.append(f"{number}\n{_clock(cue.start_s, ',')} --> {_clock(cue.end_s, ',')}\n{text}\n")
    return "\n".join(blocks).encode("utf-8")


def _lines(text: str) -> str:
    """Remove empty lines, which would end the cue."""
    return "\n".join(line for line in text.splitlines() if line.strip()) or "…"


def _clock(seconds: float, mark: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{mark}{rest % 1000:03}"
