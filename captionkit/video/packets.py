"""One pass over the packets of a stream, and the frames that packets become when all are decoded."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from captionkit.video.content import PacketHash
from captionkit.video.errors import VideoError
from captionkit.video.opened import check_clear, open_video, reason

#: Stands for a missing timestamp.
MISSING = np.iinfo(np.int64).min
Alive = Callable[[], None]


@dataclass
class PacketTable:
    """The packets of a stream in the order of the file, each array of shape (packets,).

    ``pts`` and ``dts`` are in the stream's time base or `MISSING`, ``sums`` identify packets by their
    bytes (empty if the packets were not read), ``hidden`` ones are decoded but not shown, ``broken``
    ones are incomplete.
    """

    pts: NDArray[np.int64]
    dts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    keys: NDArray[np.bool_]
    hidden: NDArray[np.bool_]
    broken: NDArray[np.bool_]
    sums: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    damage: str | None = None
    packet_hash: bytes = b""


def packet_sum(packet: Any) -> int:
    """Return a number that tells packets apart by their bytes."""
    return zlib.crc32(packet) << 32 | packet.size & 0xFFFFFFFF


def read_packets(
    path: str, container: InputContainer, stream: VideoStream, size: int, alive: Alive
) -> PacketTable:
    """Read all packets of a stream; ``size`` of the file in bytes bounds their number.

    Raises
    ------
    VideoError
        If the packets are encrypted, or do not end.
    """
    rows: list[tuple[int, int, int, bool, bool, bool]] = []
    sums: list[int] = []
    digest, damage = PacketHash(), None
    # VP8 has packets that only later ones refer to.
    vp8 = stream.codec_context.codec.canonical_name == "vp8"
    try:
        for packet in container.demux(stream):
            if packet.size == 0:
                continue
            alive()
            if not rows:
                check_clear(path, packet)
            if len(rows) > size:
                raise VideoError(f"{path} has packets without end")
            data = memoryview(packet)
            digest.add(packet, packet.size)
            sums.append(packet_sum(packet))
            hidden = packet.is_discard or (vp8 and not data[0] & 16)
            pts, dts = (MISSING if t is None else t for t in (packet.pts, packet.dts))
            rows.append((pts, dts, packet.size, packet.is_keyframe, hidden, packet.is_corrupt))
            if packet.is_corrupt:
                damage = damage or "the container marks packets as damaged"
    except av.FFmpegError as error:
        damage = f"the file breaks off: {reason(error)}"
    columns = np.array(rows, dtype=np.int64).reshape(-1, 6).T
    return PacketTable(
        pts=columns[0].copy(),
        dts=columns[1].copy(),
        sizes=columns[2].copy(),
        keys=columns[3].astype(bool),
        hidden=columns[4].astype(bool),
        broken=columns[5].astype(bool),
        sums=np.array(sums, np.uint64),
        damage=damage,
        packet_hash=digest.digest(),
    )


def decoded(
    path: str,
    alive: Alive,
    threads: int = 0,
    first: int = 0,
    pts: NDArray[np.int64] | None = None,
) -> Iterator[tuple[int, VideoFrame]]:
    """Yield all frames that decode, each with the index of its packet.

    Parameters
    ----------
    path, alive
        The file, and what is called for each packet.
    threads
        Number of the decoder's threads; 0 leaves it to the decoder.
    first
        Packet to begin with.
    pts
        Timestamps of all packets, all different, to seek to the first one; without them earlier packets
        are read, too.

    Raises
    ------
    VideoError
        If there are none.
    """
    container, stream = open_video(path)
    stream.codec_context.thread_count = threads
    found, number = False, 0
    with container:
        try:
            if first and pts is not None:
                container.seek(int(pts[first]), stream=stream)
            for packet in container.demux(stream):
                alive()
                if packet.size:
                    if first and pts is not None and not number:
                        number = int(np.flatnonzero(pts == packet.pts)[0])
                    # Decoders hand the timestamp of a packet on to its frame.
                    packet.pts = packet.dts = number
                    number += 1
                    if number <= first:
                        continue
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    continue
                for frame in frames:
                    found = True
                    yield (-1 if frame.pts is None else frame.pts), frame
        except av.FFmpegError:
            pass
    if not found:
        raise VideoError(f"{path} holds no frame that can be decoded")
