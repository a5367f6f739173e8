"""Whether a file was cut off, by what its own container says of its end."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

_LESS = "the file is shorter than its header says"
_NO_END = "the file lacks its end mark"
# The largest page of Ogg.
_PAGE = 65_307
# "File Properties Object" of ASF.
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
# Frames at the end between which lost ones are looked for: decoders hold back at most 16.
_END = 17


def cut_off(path: str, formats: set[str]) -> str | None:
    """Say how a file's end shows that it was cut off; None if nothing shows it.

    Parameters
    ----------
    path
        The file.
    formats
        ffmpeg's names of its container.
    """
    check = next((check for name, check in _CHECKS.items() if name in formats), None)
    if check is None:
        return None
    with open(path, "rb") as file:
        try:
            return check(file, os.path.getsize(path))
        except (struct.error, IndexError):
            return None


def _matroska(file: BinaryIO, size: int) -> str | None:
    """Look at the size of the segment, which follows the header."""
    head = file.read(4096)
    past, length = _ebml_size(head, 4)
    at = past + length
    if head[:4] != b"\x1a\x45\xdf\xa3" or head[at : at + 4] != b"\x18\x53\x80\x67":
        return None
    past, length = _ebml_size(head, at + 4)
    # A live stream leaves its size open.
    live = length == (1 << 7 * (past - at - 4)) - 1
    return _LESS if not live and past + length > size else None


def _ebml_size(data: bytes, at: int) -> tuple[int, int]:
    """Return the place after a size, and the size."""
    width = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + width], "big")
    return at + width, value & ((1 << 7 * width) - 1)


def whole_boxes(file: BinaryIO, size: int) -> int:
    """Return where the last whole box of an MP4 ends, in bytes."""
    at = 0
    while at + 16 <= size:
        file.seek(at)
        length, _, large = struct.unpack(">I4sQ", file.read(16))
        length = {0: size - at, 1: large}.get(length, length)
        if length < 8 or at + length > size:
            break
        at += length
    return at


def _mp4(file: BinaryIO, size: int) -> str | None:
    """Look whether the file ends with a whole box."""
    at = whole_boxes(file, size)
    file.seek(at)
    # Other bytes after the last box are no part of the film.
    cut = at + 8 <= size and file.read(8)[4:] in (b"mdat", b"moof", b"moov", b"mfra")
    return _LESS if cut else None


def _avi(file: BinaryIO, size: int) -> str | None:
    """Look at the sizes of the RIFF chunks, one after the other."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8))
        if name != b"RIFF":
            return None
        at += 8 + length + length % 2
    return _LESS if at > size + 1 else None


def _asf(file: BinaryIO, size: int) -> str | None:
    head = file.read(1 << 16)
    at = head.find(_ASF_FILE)
    if at < 0:
        return None
    (whole,) = struct.unpack_from("<Q", head, at + 40)
    (flags,) = struct.unpack_from("<I", head, at + 88)
    # A broadcast does not know its size.
    return _LESS if not flags & 1 and whole > size else None


def _ogg(file: BinaryIO, size: int) -> str | None:
    """Look at the last page: whether it is whole, and ends its stream."""
    file.seek(max(0, size - 2 * _PAGE))
    tail = file.read()
    at = tail.rfind(b"OggS")
    if at < 0:
        return None
    segments = tail[at + 26]
    past = at + 27 + segments + sum(tail[at + 27 : at + 27 + segments])
    return _NO_END if past > len(tail) or not tail[at + 5] & 4 else None


def _gif(file: BinaryIO, size: int) -> str | None:
    file.seek(max(0, size - 4096))
    return None if file.read().rstrip(b"\0").endswith(b";") else _NO_END


def _mpegts(file: BinaryIO, size: int) -> str | None:
    """Look whether the file ends with a whole packet."""
    head = file.read(204 * 8)
    for length in (188, 192, 204):
        for start in range(length):
            syncs = head[start::length]
            if len(syncs) > 3 and set(syncs) == {0x47}:
                # In files of camcorders four bytes precede the mark.
                whole = (size - start + (4 if length == 192 else 0)) % length == 0
                return None if whole else "the file ends within a packet"
    return None


_CHECKS: dict[str, Callable[[BinaryIO, int], str | None]] = {
    "mov": _mp4,
    "matroska": _matroska,
    "avi": _avi,
    "asf": _asf,
    "ogg": _ogg,
    "gif": _gif,
    "mpegts": _mpegts,
}


def lost_near_end(seconds: NDArray[np.float64]) -> str | None:
    """Say how many frames are missing between the last ones of a constant rate; None if none are.

    A file that was cut off lacks frames that are stored after later ones.
    """
    gaps = np.diff(seconds)
    if len(gaps) <= 2 * _END:
        return None
    step = float(np.median(gaps))
    if (np.abs(gaps[:-_END] - step) > 0.1 * step).any():
        return None
    lost = int((np.round(gaps[-_END:] / step) - 1).clip(0).sum())
    return f"{lost} of the last frames are missing" if lost else None
