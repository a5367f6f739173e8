"""How a stretch of a film is written as a file of its own, and the facts of such a file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Encoding:
    """How an excerpt is written.

    Parameters
    ----------
    crf
        Quality of H.264, from 0 (lossless) to 51; about 18 cannot be told from the source.
    size
        Most width and height in pixels; None keeps the size. Pictures keep their shape.
    fps
        Frames a second, each the frame shown at that time; None keeps every frame at its time.
    copy
        Copy the stream where that gives exactly the frames wanted.
    """

    crf: int = 18
    size: tuple[int, int] | None = None
    fps: float | None = None
    copy: bool = True


@dataclass(frozen=True)
class Excerpt:
    """Facts of a written file.

    ``copied`` tells whether the picture was copied; ``sound`` is ``kept``, ``none``, or the reason why
    some is missing; ``damage`` is what the decoder reported of the frames, or None.
    """

    frames: int
    width: int
    height: int
    fps: float
    duration: float
    bytes: int
    sha256: str
    copied: bool
    sound: str
    damage: str | None


def file_hash(path: str | Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
