"""Which frames a file shows and when: one pass over its packets, nothing decoded.

Frames are named by their presentation time, never by counting after a seek. If a container has no
reliable times (raw streams, AVI, missing or repeated timestamps), frames are counted from the start.
Runs in the decoding processes.
"""

from __future__ import annotations

import bisect
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from captionkit.video.content import PacketHash, content_hash, sizes_tell
from captionkit.video.errors import VideoError
from captionkit.video.metadata import VideoMetadata
from captionkit.video.sample_table import packets_of_table

# Formats without presentation times: ffmpeg makes their times up.
_UNTIMED = {"avi", "h264", "hevc", "m4v", "mpegvideo", "mjpeg", "obu", "ivf"}
_EDGE = 1 << 20


@dataclass(frozen=True)
class StreamIndex:
    """The packets of a video stream in order of presentation.

    ``times`` are presentation times in units of ``time_base``; ``keyframes`` those of the packets that
    decoding may start from. ``counted`` says whether frames have to be counted from the start,
    ``discarded`` how many packets an edit list hides.
    """

    times: NDArray[np.int64]
    keyframes: list[int]
    time_base: Fraction
    counted: bool
    discarded: int
    metadata: VideoMetadata

    def keyframe_before(self, time: int, back: int = 0) -> int | None:
        """Time of the key frame at or before a time, or ``back`` key frames earlier.

        None stands for the start of the file.
        """
        index = bisect.bisect_right(self.keyframes, time) - 1 - back
        return self.keyframes[index] if index >= 0 else None


def open_video(path: str) -> tuple[InputContainer, VideoStream]:
    """Open a local file and pick its best video stream.

    Raises
    ------
    VideoError
        If the path is not a file that can be read as a video.
    """
    file = Path(path)
    if not file.exists():
        raise VideoError(f"no such file: {path}")
    if file.is_dir():
        raise VideoError(f"{path} is a folder; give a video file")
    if file.stat().st_size == 0:
        raise VideoError(f"{path} is empty (0 bytes)")
    try:
        # Files only: a playlist under the name of an .mp4 must not open what it lists.
        container = av.open(
            f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="ignore"
        )
    except (av.FFmpegError, OSError) as error:
        raise VideoError(f"{path} cannot be read as a video: {_reason(error)}") from error
    covers = av.stream.Disposition.attached_pic
    streams = [s for s in container.streams.video if not s.disposition & covers]
    best = container.streams.best("video")
    stream = best if best in streams else next(iter(streams), None)
    if stream is None:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        container.close()
        raise VideoError(f"{path} has no video stream (it holds {kinds})")
    if stream.codec_context is None:
        container.close()
        raise VideoError(f"{path} holds a video codec that this build of ffmpeg cannot decode")
    return container, stream


def _reason(error: Exception) -> str:
    """Say what went wrong, without the path that ffmpeg appends."""
    return (getattr(error, "strerror", None) or str(error)).split(":")[0]


def build_index(path: str) -> StreamIndex:
    """Index a file from its own tables, or by reading all its packets once.

    Raises
    ------
    VideoError
        If the file cannot be opened, or shows no frame.
    """
    container, stream = open_video(path)
    with container:
        found = _from_table(path, container, stream)
        if found is not None:
            return _index(path, container, stream, found)
    # Open anew: the check of the tables has moved the container.
    container, stream = open_video(path)
    with container:
        return _index(path, container, stream, _from_packets(container, stream))


@dataclass
class _Found:
    """What the packets of a stream tell, from a pass over them or from the container's own tables."""

    shown: list[int]
    keyframes: list[int]
    sizes: NDArray[np.int64]
    discarded: int = 0
    untimed: bool = False
    damage: str | None = None
    packet_hash: bytes = b""


def _from_table(path: str, container: InputContainer, stream: VideoStream) -> _Found | None:
    """Take the packets from the container's tables, if these tell all that a pass would tell."""
    packets = packets_of_table(path, container, stream)
    if packets is None or not sizes_tell(path, packets.sizes):
        return None
    shown = ~packets.hidden
    return _Found(
        packets.pts[shown].tolist(),
        packets.pts[shown & packets.keyframes].tolist(),
        packets.sizes,
        int(packets.hidden.sum()),
    )


def _from_packets(container: InputContainer, stream: VideoStream) -> _Found:
    """Read all packets."""
    found = _Found([], [], np.zeros(0, np.int64))
    shown, sizes, digest = found.shown, [], PacketHash()
    try:
        for packet in container.demux(stream):
            if packet.size == 0:
                continue
            sizes.append(packet.size)
            digest.add(packet, packet.size)
            if packet.is_corrupt:
                found.damage = found.damage or "the container marks packets as damaged"
            if packet.is_discard:
                found.discarded += 1
                continue
            if packet.pts is None:
                found.untimed = True
                shown.append(len(shown))
                continue
            if packet.is_keyframe:
                found.keyframes.append(packet.pts)
            shown.append(packet.pts)
    except av.FFmpegError as error:
        found.damage = f"the file breaks off: {_reason(error)}"
    found.sizes, found.packet_hash = np.array(sizes, np.int64), digest.digest()
    return found


def _index(path: str, container: InputContainer, stream: VideoStream, found: _Found) -> StreamIndex:
    shown, keyframes, discarded = found.shown, found.keyframes, found.discarded
    untimed, damage = found.untimed, found.damage
    time_base = stream.time_base or Fraction(1, 90_000)
    if not shown:
        raise VideoError(f"{path} holds no video frame" + (f" ({damage})" if damage else ""))
    times = np.array(sorted(shown), dtype=np.int64)
    # One thread: starting more takes longer than a frame.
    first = next(_decoded(path, threads=1))
    if first.pts is not None and not untimed:
        # A stream cut in the middle begins with frames that refer to missing ones.
        times = times[times >= first.pts]
    formats = set(container.format.name.split(","))
    counted = bool(untimed or formats & _UNTIMED or (np.diff(times) <= 0).any())
    # The header of a file that was cut off promises more frames than the file holds.
    if stream.frames and stream.frames > len(shown) + discarded:
        damage = f"the header tells {stream.frames} frames, {len(shown) + discarded} are there"
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    if counted:
        # Decode all: a packet of such a container need not be a frame.
        seconds = np.arange(sum(1 for _ in _decoded(path))) / float(rate)
    else:
        seconds = (times - times[0]) * float(time_base)
    last = float(1 / rate)
    if len(seconds) > 1:
        last = float(np.median(np.diff(seconds)))
    duration = float(seconds[-1]) + last
    # PyAV gives the anticlockwise angle of the display matrix.
    rotation = round(-first.rotation) % 360
    width, height = _shown_size(stream)
    if rotation % 180:
        width, height = height, width
    metadata = VideoMetadata(
        width=width,
        height=height,
        frame_times=seconds,
        fps=len(seconds) / duration,
        duration=duration,
        codec=stream.codec_context.codec.canonical_name,
        container=container.format.name,
        rotation=rotation,
        identity=file_identity(path),
        damage=damage,
        content=content_hash(path, found.sizes, seconds, found.packet_hash),
    )
    return StreamIndex(
        times=times,
        keyframes=sorted(keyframes),
        time_base=time_base,
        counted=counted,
        discarded=discarded,
        metadata=metadata,
    )


def _shown_size(stream: Any) -> tuple[int, int]:
    """Compute width and height as shown: pixels that are not square widen or narrow the picture."""
    ratio = stream.sample_aspect_ratio
    width = stream.width
    if ratio and ratio != 1:
        width = max(1, round(stream.width * ratio))
    return width, stream.height


def _decoded(path: str, threads: int = 0) -> Iterator[VideoFrame]:
    """Yield all frames that decode, from the start; raise a `VideoError` if there are none.

    ``threads`` of 0 leaves their number to the decoder.
    """
    container, stream = open_video(path)
    stream.codec_context.thread_count = threads
    found = False
    with container:
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                continue
            for frame in frames:
                found = True
                yield frame
    if not found:
        raise VideoError(f"{path} holds no frame that can be decoded")


def file_identity(path: str) -> str:
    """Hash a file's path, size, time of change and both ends: changes when its content does."""
    status = os.stat(path)
    digest = hashlib.sha256(f"{os.path.realpath(path)}\0{status.st_mtime_ns}".encode())
    digest.update(f"\0{status.st_size}\0".encode())
    with open(path, "rb") as file:
        digest.update(file.read(_EDGE))
        file.seek(max(0, status.st_size - _EDGE))
        digest.update(file.read(_EDGE))
    return digest.hexdigest()[:32]
