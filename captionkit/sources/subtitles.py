"""Subtitles as cues with times: WebVTT and SubRip, in any encoding with a byte-order mark."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class Cue:
    """A text with its start and end in seconds.

    ``number`` counts the blocks of the file from 0; ``problem`` is a line of times that cannot be read.
    """

    number: int
    start_s: float
    end_s: float
    text: str
    problem: str | None = None


def decoded(content: bytes, encoding: str = "utf-8") -> tuple[str, str]:
    """Return the text of a file and its encoding: of its byte-order mark, else the given one.

    Raises
    ------
    UnicodeDecodeError, LookupError
        If the file is in another encoding, or there is no such encoding.
    """
    used = next((name for mark, name in _MARKS if content.startswith(mark)), encoding)
    return content.decode(used), used


def cues(text: str, *, vtt: bool) -> Iterator[Cue]:
    """Yield the cues of WebVTT or SubRip in the order of the file."""
    blocks = text.replace("\r\n", "\n").replace("\r", "\n").split("\n\n")
    for number, block in enumerate(blocks):
        lines = [line for line in block.split("\n") if line.strip()]
        at = next((n for n, line in enumerate(lines) if "-->" in line), None)
        if at is None or lines[0].startswith(("NOTE", "STYLE")):
            continue
        try:
            start, end = (_seconds(each.split()[0]) for each in lines[at].split("-->"))
        except (ValueError, IndexError):
            yield Cue(number, 0.0, 0.0, "", lines[at])
            continue
        said = "\n".join(lines[at + 1 :])
        if vtt:
            said = said.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        yield Cue(number, start, end, said)


def _seconds(clock: str) -> float:
    """Return the seconds of ``01:02:03.456``; hours may be missing, a comma may stand for the point."""
    seconds = 0.0
    for part in clock.replace(",", ".").split(":"):
        seconds = seconds * 60 + float(part)
    return seconds
