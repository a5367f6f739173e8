"""Captions as WebVTT and SRT: subtitles on the video's own time line, one file for each video.

Events of a schema have a cue each, with their own times.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from captionkit.export.base import Export
from captionkit.export.names import file_name
from captionkit.recipe import Recipe
from captionkit.review.events import timed_texts

# Shortest time that the milliseconds of a cue keep apart, and what a flash gets.
_SHORTEST_S, _FLASH_S = 0.002, 0.5


@dataclass(frozen=True)
class Cue:
    """A text from ``start_s`` to ``end_s``."""

    start_s: float
    end_s: float
    text: str


def vtt(export: Export, folder: Path) -> None:
    """Write WebVTT with the recipe in a note."""
    _write(export, folder, "vtt", vtt_head(export.recipe), vtt_cue)


def srt(export: Export, folder: Path) -> None:
    """Write SubRip, a format without a place for the recipe."""
    _write(export, folder, "srt", "", srt_cue)


def _write(
    export: Export, folder: Path, suffix: str, head: str, write: Callable[[int, Cue], str]
) -> None:
    names: dict[str, str] = {}
    written: Counter[str] = Counter()
    for table in export.tables(by_window=True):
        for video, group in table.groupby("video", sort=False):
            if video not in names:
                names[video] = _free_name(video, suffix, set(names.values()))
            cues = _cues(group, export)
            texts = [write(number, cue) for number, cue in enumerate(cues, written[video] + 1)]
            # Open each time: a run may have more videos than a process may have files.
            with (folder / names[video]).open("ab") as file:
                file.write("".join([*([] if written[video] else [head]), *texts]).encode("utf-8"))
            written[video] += len(cues)


def _free_name(video: str, suffix: str, taken: Container[str]) -> str:
    name, number = file_name(video), 1
    while f"{name}.{suffix}" in taken:
        number += 1
        name = f"{file_name(video)}-{number}"
    return f"{name}.{suffix}"


def _cues(group: pd.DataFrame, export: Export) -> list[Cue]:
    # The last text of a window whose second stage failed is not what the recipe asks for.
    failed = group.loc[group["error"].notna(), "key"]
    last = group.dropna(subset="text").drop_duplicates("key", keep="last")
    last = last[~last["key"].isin(failed)]
    found = export.faults(last) if export.checks else {}
    cues = []
    for index, row in last.iterrows():
        names = found.get(index)
        marks = f"\n[{', '.join(names)}]" if names else ""
        for start_s, end_s, text in timed_texts(dict(row), export.run.recipe.schema):
            cues.append(Cue(*_shown(start_s, end_s, row["end_s"]), text + marks))
    # WebVTT wants cues by their start; windows may overlap, and an event may have no valid times.
    return sorted(cues, key=lambda cue: cue.start_s)


def _shown(start_s: float, end_s: float, last_s: float) -> tuple[float, float]:
    """Return the times of a cue; one without a length, which no player shows, gets half a second."""
    if end_s - start_s >= _SHORTEST_S:
        return start_s, end_s
    end_s = min(start_s + _FLASH_S, max(start_s, last_s))
    return max(0.0, min(start_s, end_s - _FLASH_S)), end_s


def vtt_head(recipe: Recipe) -> str:
    """Return the beginning of a WebVTT file, with the recipe in a note."""
    # Escape arrows, which a note must not contain.
    text = recipe.to_json().replace("-->", "--\\u003e")
    return f"WEBVTT\n\nNOTE captionkit recipe\n{text}\n"


def vtt_cue(_: int, cue: Cue) -> str:
    """Return a cue of WebVTT."""
    text = html.escape(_lines(cue.text), quote=False)
    return f"\n{_clock(cue.start_s, '.')} --> {_clock(cue.end_s, '.')}\n{text}\n"


def srt_cue(number: int, cue: Cue) -> str:
    """Return a cue of SubRip; numbers begin at 1."""
    text = _lines(cue.text).replace("-->", "->")
    before = "\n" if number > 1 else ""
    return f"{before}{number}\n{_clock(cue.start_s, ',')} --> {_clock(cue.end_s, ',')}\n{text}\n"


def _lines(text: str) -> str:
    """Remove empty lines, which would end the cue."""
    return "\n".join(line for line in text.splitlines() if line.strip()) or "…"


def _clock(seconds: float, mark: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{mark}{rest % 1000:03}"
