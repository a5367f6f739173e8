"""The times of an mp4 or mov film from its own sample tables, without a pass over its packets.

libavformat builds its index from these tables and from the edit list: decode times, key frames, sizes
and hidden samples. The index lacks the offset from a sample's decode time to its presentation time, so
the offsets (``ctts``) are read here and joined by the samples' positions. The result is checked against
real packets at the start, in the middle and at the end; whatever looks odd is left to the packet pass.
"""

from __future__ import annotations

import io
import itertools
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

# A table beyond this is not one of a film: 60 hours at 60 frames a second need 300 MB.
_MOST_BYTES = 512 << 20
# libavformat ignores a table with an offset beyond this.
_LARGEST_OFFSET = 1 << 28
_CHECKED_PACKETS = 24


@dataclass(frozen=True)
class Packets:
    """The packets of a video stream in decode order, each array of shape (packets,).

    ``pts`` and ``dts`` are presentation and decode times in the stream's time base, ``sizes`` in bytes;
    ``hidden`` packets are decoded but not shown.
    """

    pts: Numbers
    dts: Numbers
    sizes: Numbers
    keyframes: NDArray[np.bool_]
    hidden: NDArray[np.bool_]


def packets_of_table(path: str, container: InputContainer, stream: VideoStream) -> Packets | None:
    """Return the packets of a just opened file from its tables.

    Moves the container: seek before reading from it.

    Returns
    -------
    Packets or None
        None if the tables are missing, fragmented, inconsistent, or differ from the packets that were
        checked.
    """
    if "mov" not in container.format.name.split(","):
        return None
    try:
        return _joined(path, container, stream)
    except (av.FFmpegError, OSError, ValueError, MemoryError, struct.error):
        return None


def _joined(path: str, container: InputContainer, stream: VideoStream) -> Packets | None:
    table, length = _read(path, stream.id), os.path.getsize(path)
    entries = stream.index_entries
    # A pass over the packets stops at a sample of any stream that lies beyond the file.
    others = [each for each in container.streams if each is not stream]
    if any(entry.pos + entry.size > length for each in others for entry in each.index_entries):
        return None
    if table is None or not len(entries) or stream.frames != len(table.sizes):
        return None
    # One tuple a sample: the faster way through the index from Python.
    rows = np.array(
        [(e.pos, e.timestamp, e.size, e.is_keyframe, e.is_discard) for e in entries], dtype=np.int64
    )
    positions, dts, sizes, keys, hidden = rows.T
    order = np.argsort(table.positions, kind="stable")
    known = table.positions[order]
    found = np.minimum(np.searchsorted(known, positions), len(known) - 1)
    samples = order[found]
    odd = (
        (np.diff(known) <= 0).any()
        or (known[found] != positions).any()
        or (table.sizes[samples] != sizes).any()
        or (sizes <= 0).any()
        or int((positions + sizes).max()) > length
    )
    if odd:
        return None
    pts = dts + table.offsets[samples]
    shift = _shift(container, stream, positions, sizes, dts, pts)
    if shift is None:
        return None
    return Packets(pts + shift, dts, sizes, keys.astype(bool), hidden.astype(bool))


def _shift(
    container: InputContainer,
    stream: VideoStream,
    positions: Numbers,
    sizes: Numbers,
    dts: Numbers,
    pts: Numbers,
) -> int | None:
    """Return the shift that libavformat adds to all presentation times; None if packets differ.

    A film with negative offsets is shifted as a whole, so the first packet tells the shift.
    """
    shift = None
    checked = 0
    for start in (0, len(dts) // 2, len(dts) - _CHECKED_PACKETS):
        if start > 0:
            container.seek(int(dts[start]), stream=stream)
        elif start < 0:
            break
        number = None
        for packet in itertools.islice(container.demux(stream), _CHECKED_PACKETS):
            if packet.size == 0:
                break
            if number is None:
                # An edit list may show a sample twice: the time tells which one it is.
                at = np.flatnonzero((positions == packet.pos) & (dts == packet.dts))
                if not len(at) or (start == 0 and at[0] != 0):
                    return None
                number = int(at[0])
            if packet.pts is None or number >= len(dts):
                return None
            if shift is None:
                shift = int(packet.pts - pts[number])
            told = (packet.pos, packet.size, packet.dts, packet.pts, packet.is_corrupt)
            if told != (positions[number], sizes[number], dts[number], pts[number] + shift, False):
                return None
            number += 1
            checked += 1
    return shift if checked else None


@dataclass(frozen=True)
class _Table:
    """The samples of a track in decode order: place in the file, size, and pts minus dts."""

    positions: Numbers
    sizes: Numbers
    offsets: Numbers


def _read(path: str, track: int) -> _Table | None:
    """Read the tables of a track; None without them, or if the film is in fragments."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        movie = None
        for name, start, end in _boxes(file, 0, size):
            if name == b"moof":
                return None
            if name == b"moov":
                if movie is not None or end - start > _MOST_BYTES:
                    return None
                file.seek(start)
                movie = file.read(end - start)
    if movie is None:
        return None
    content = io.BytesIO(movie)
    tracks = []
    for name, start, end in _boxes(content, 0, len(movie)):
        if name in (b"mvex", b"cmov"):
            return None
        if name == b"trak" and _track_id(content, start, end) == track:
            tracks.append((start, end))
    if len(tracks) != 1:
        return None
    inside = _inside(content, *tracks[0], b"mdia", b"minf", b"stbl")
    tables = {name: (start, end) for name, start, end in _boxes(content, *inside)} if inside else {}
    return _samples(movie, tables)


def _boxes(file: Any, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the boxes between two positions: name, begin and end of the content."""
    while end - start >= 8:
        file.seek(start)
        size, name = struct.unpack(">I4s", file.read(8))
        head = 8
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
            head = 16
        elif size == 0:
            size = end - start
        if size < head or start + size > end:
            raise ValueError(f"a box of {size} bytes at {start} does not fit")
        yield name, start + head, start + size
        start += size


def _inside(file: Any, start: int, end: int, *names: bytes) -> tuple[int, int] | None:
    """Return begin and end of the box at a path of names."""
    for wanted in names:
        places = [(begin, past) for name, begin, past in _boxes(file, start, end) if name == wanted]
        if len(places) != 1:
            return None
        start, end = places[0]
    return start, end


def _track_id(file: Any, start: int, end: int) -> int | None:
    place = _inside(file, start, end, b"tkhd")
    if place is None:
        return None
    file.seek(place[0])
    version = file.read(4)[0]
    file.seek(place[0] + (20 if version == 1 else 12))
    return int(struct.unpack(">I", file.read(4))[0])


def _samples(movie: bytes, tables: dict[bytes, tuple[int, int]]) -> _Table | None:
    def table(name: bytes, kind: str, columns: int, skip: int = 4) -> Numbers:
        start, end = tables[name]
        (count,) = struct.unpack_from(">I", movie, start + skip)
        begin, length = start + skip + 4, count * columns * np.dtype(kind).itemsize
        if begin + length > end:
            raise ValueError(f"the table {name!r} is cut off")
        rows = np.frombuffer(movie, kind, count * columns, begin).astype(np.int64)
        return rows.reshape(-1, columns)

    chunk_name = b"co64" if b"co64" in tables else b"stco"
    if not {b"stsd", b"stsc", b"stsz", chunk_name} <= tables.keys():
        return None
    if struct.unpack_from(">I", movie, tables[b"stsd"][0] + 4) != (1,):
        return None
    one_size, count = struct.unpack_from(">II", movie, tables[b"stsz"][0] + 4)
    if count == 0 or count > _MOST_BYTES // 4:
        return None
    sizes = np.full(count, one_size, np.int64)
    if not one_size:
        sizes = table(b"stsz", ">u4", 1, skip=8)[:, 0]
    chunks = table(chunk_name, ">u8" if chunk_name == b"co64" else ">u4", 1)[:, 0]
    runs = table(b"stsc", ">u4", 3)
    firsts = np.append(runs[:, 0], len(chunks) + 1)
    if not len(runs) or firsts[0] != 1 or (np.diff(firsts) <= 0).any():
        return None
    in_chunk = np.repeat(runs[:, 1], np.diff(firsts))
    if int(in_chunk.sum()) != count:
        return None
    before = np.cumsum(sizes) - sizes
    first_samples = np.cumsum(in_chunk) - in_chunk
    filled = in_chunk > 0
    starts = chunks[filled] - before[first_samples[filled]]
    positions = before + np.repeat(starts, in_chunk[filled])
    offsets = np.zeros(count, np.int64)
    if b"ctts" in tables:
        told = table(b"ctts", ">i4", 2)
        if (told[:, 0] < 0).any() or int(told[:, 0].sum()) != count:
            return None
        if (np.abs(told[:, 1]) >= _LARGEST_OFFSET).any():
            return None
        offsets = np.repeat(told[:, 1], told[:, 0])
    return _Table(positions, sizes, offsets)


__all__ = ["Packets", "packets_of_table"]
