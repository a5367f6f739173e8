"""Captions as WebVTT and SRT: subtitles over the video's own time line.

Called by `export.whole_run`.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from captionkit.recipe import Recipe


@dataclass(frozen=True)
class Cue:
    """A text from ``start_s`` to ``end_s``."""

    start_s: float
    end_s: float
    text: str


def vtt(cues: Sequence[Cue], recipe: Recipe) -> bytes:
    """WebVTT, the recipe in a note."""
    # A note ends at an empty line and may not hold an arrow.
    told = json.dumps(asdict(recipe), ensure_ascii=False).replace("-->", "--\\u003e")
    blocks = ["WEBVTT", f"NOTE captionkit recipe\n{told}"]
    for cue in cues:
        text = html.escape(_lines(cue.text), quote=False)
        blocks.append(f"{_clock(cue.start_s, '.')} --> {_clock(cue.end_s, '.')}\n{text}")
    return ("\n\n".join(blocks) + "\n").encode("utf-8")


def srt(cues: Sequence[Cue], recipe: Recipe) -> bytes:
    """SubRip, which has no room for a recipe."""
    blocks = []
    for number, cue in enumerate(cues, 1):
        text = _lines(cue.text).replace("-->", "->")
        blocks.append(f"{number}\n{_clock(cue.start_s, ',')} --> {_clock(cue.end_s, ',')}\n{text}\n")
    return "\n".join(blocks).encode("utf-8")


def _lines(text: str) -> str:
    """A text without the empty lines that would end its cue."""
    return "\n".join(line for line in text.splitlines() if line.strip()) or "…"


def _clock(seconds: float, mark: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{mark}{rest % 1000:03}"
