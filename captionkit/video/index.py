"""Which frames a file shows and when, and which packet each frame comes from.

Most streams are indexed without decoding: each shown packet is a frame, in the order of their
timestamps. Where that is not sure (old codecs, fields, missing, repeated or absurd timestamps), all is
decoded once: then the order is the decoder's, and the times follow `timeline.mend`. Runs in the
decoding processes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from captionkit.video import timeline
from captionkit.video.content import content_hash, sizes_tell
from captionkit.video.ending import cut_off, lost_near_end
from captionkit.video.errors import VideoError
from captionkit.video.h264 import may_hold_fields
from captionkit.video.metadata import VideoMetadata
from captionkit.video.opened import check_clear, file_identity, open_video
from captionkit.video.orientation import Orientation, of_frame
from captionkit.video.packets import MISSING, Alive, PacketTable, decoded, read_packets
from captionkit.video.sample_table import packets_of_table

# Raw streams: ffmpeg makes their times up.
_UNTIMED = {"h264", "hevc", "vvc", "m4v", "mpegvideo", "mjpeg", "obu", "h261", "h263", "dirac", "vc1"}
# Formats whose packets have exact times after a seek, too.
_SEEKABLE = {"mov", "matroska"}
# Formats in which a jump of the clock is another clock.
_BROADCAST = {"mpegts", "mpeg"}
# Codecs of which every shown packet is one frame, and how many frames their decoders hold back.
_WHOLE_FRAMES = {
    **dict.fromkeys(("h264", "hevc", "vvc"), 16),
    **dict.fromkeys(("mpeg1video", "mpeg2video", "mpeg4"), 1),
    **dict.fromkeys(("vp8", "vp9", "av1", "mjpeg", "prores", "dnxhd", "ffv1", "png", "rawvideo"), 0),
}
# Formats that leave out or mark the packet in which the file was cut off.
_WHOLE_PACKETS = {"matroska", "avi", "ogg", "mov"}
# Last frames that are tried where a file was cut off, and packets before them.
_TAIL = 64
_BEFORE_TAIL = 250
# Largest packet of MPEG-4 that says only that there is no picture, in bytes.
_NO_PICTURE = 16


@dataclass(frozen=True)
class StreamIndex:
    """The frames of a stream in the order shown, and the packets of the file.

    Parameters
    ----------
    shown
        Index of each frame's packet in the order of the file, of shape (frames,).
    keyframes
        Numbers of the frames that decoding may start from, ascending.
    pts
        Timestamp of each packet, of shape (packets,), to seek by; `packets.MISSING` without one.
    sums
        `packets.packet_sum` of each packet; empty if timestamps tell packets apart after a seek.
    decoded
        Whether all was decoded to find the frames.
    discarded
        Number of packets that an edit list hides.
    mirrored
        Whether the picture is mirrored before it is turned.
    metadata
        Facts of the stream.
    """

    shown: NDArray[np.int64]
    keyframes: NDArray[np.int64]
    pts: NDArray[np.int64]
    sums: NDArray[np.uint64]
    decoded: bool
    discarded: int
    mirrored: bool
    metadata: VideoMetadata

    @property
    def orientation(self) -> Orientation:
        """How the picture is mirrored and turned."""
        return Orientation(self.metadata.rotation // 90, self.mirrored)


def build_index(path: str, alive: Alive = lambda: None) -> StreamIndex:
    """Index a file from its own tables, or by reading all its packets once.

    Parameters
    ----------
    path
        The file.
    alive
        Called for each packet, to show progress.

    Raises
    ------
    VideoError
        If the file cannot be opened, or shows no frame.
    """
    container, stream = open_video(path)
    with container:
        found = packets_of_table(path, container, stream)
        if found is not None and sizes_tell(path, found.sizes):
            nothing = np.zeros(len(found.pts), bool)
            table = PacketTable(
                found.pts, found.dts, found.sizes, found.keyframes, found.hidden, nothing
            )
            container.seek(0)
            check_clear(path, next(container.demux(stream)))
            if _clean(table, container, stream):
                return _index(path, container, stream, table, alive)
    # Open anew: the check of the tables has moved the container.
    container, stream = open_video(path)
    with container:
        table = read_packets(path, container, stream, os.path.getsize(path), alive)
        return _index(path, container, stream, table, alive)


def _formats(container: InputContainer) -> set[str]:
    return set(container.format.name.split(","))


def _clean(table: PacketTable, container: InputContainer, stream: VideoStream) -> bool:
    """Whether each shown packet is a frame, in the order of timestamps that are all credible."""
    context = stream.codec_context
    codec = context.codec.canonical_name
    pts = table.pts[~table.hidden]
    if codec not in _WHOLE_FRAMES or _formats(container) & (_UNTIMED | {"avi"}) or not len(pts):
        return False
    if codec == "h264" and may_hold_fields(context.extradata):
        return False
    if codec == "mpeg4" and (table.sizes <= _NO_PICTURE).any():
        return False
    dts = table.dts[table.dts != MISSING]
    if (pts == MISSING).any() or (np.diff(dts) < 0).any():
        return False
    # A stream that reorders nothing has ascending timestamps. Encoders that announce no reordering but
    # do it are known by how often they do.
    depth = _WHOLE_FRAMES[codec]
    if depth and not context.has_b_frames and (np.diff(pts) < 0).mean() < 0.05:
        depth = 0
    if not timeline.ascends(pts, depth):
        return False
    times = np.sort(pts).astype(np.float64) * float(_time_base(stream))
    gaps = np.diff(times)
    limit = timeline.largest_gap(times, bool(_formats(container) & _BROADCAST))
    return bool((gaps > 0).all() and (gaps <= limit).all())


def _time_base(stream: VideoStream) -> Fraction:
    return stream.time_base or Fraction(1, 90_000)


def _index(
    path: str, container: InputContainer, stream: VideoStream, table: PacketTable, alive: Alive
) -> StreamIndex:
    damage = table.damage
    if not len(table.pts) or table.hidden.all():
        raise VideoError(f"{path} holds no video frame" + (f" ({damage})" if damage else ""))
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    identity = file_identity(path)
    clean = _clean(table, container, stream)
    # One thread: starting more takes longer than a frame.
    first_packet, first = next(decoded(path, alive, threads=1))
    here = len(table.pts)
    if stream.frames > (_slots(table) if "avi" in _formats(container) else here):
        # The header of a file that was cut off promises more frames than the file holds.
        damage = f"the header tells {stream.frames} frames, {here} are there"
    cut = cut_off(path, _formats(container))
    damage = damage or cut
    if cut and not _formats(container) & _WHOLE_PACKETS:
        table.broken[-1] = True
    exact = clean and bool(_formats(container) & _SEEKABLE) and len(np.unique(table.pts)) == here
    if clean:
        shown = np.flatnonzero(~table.hidden)
        shown = shown[np.argsort(table.pts[shown], kind="stable")]
        if first_packet in shown:
            # A stream cut in the middle begins with frames that refer to missing ones.
            shown = shown[np.flatnonzero(shown == first_packet)[0] :]
        if damage:
            shown = _without_lost_end(path, table, shown, exact, alive)
        ticks = table.pts[shown]
        seconds = (ticks - ticks[0]) * float(_time_base(stream))
        if _formats(container) & _BROADCAST:
            damage = damage or lost_near_end(seconds)
    else:
        frames = [(packet, frame.is_corrupt) for packet, frame in decoded(path, alive)]
        shown = np.array([packet for packet, _ in frames], np.int64)
        if (here - 1, True) in frames:
            damage = damage or "the last frame is incomplete"
            # Frames after it may be counted: leave out only the last one shown.
            table.broken[-1] |= frames[-1] == (here - 1, True)
        # The rest of a packet that was cut off is not a frame.
        shown = shown[~table.broken[shown] | (shown < 0)] if table.broken[-1] else shown
        if damage and _formats(container) & (_UNTIMED | {"avi"}):
            # The last frames are counted: one of them may follow a lost one that is stored after it.
            shown = shown[: len(shown) - timeline.held_back(shown)]
        if not len(shown):
            raise VideoError(f"{path} holds no frame that can be decoded")
        seconds, note = _times(container, stream, table, shown, 1 / rate)
        seconds = seconds - seconds[0]
        damage = "; ".join(part for part in (damage, note) if part) or None
    try:
        orientation = of_frame(first)
    except ValueError as error:
        raise VideoError(f"{path}: {error}") from error
    last = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 1 / rate
    duration = float(seconds[-1]) + last
    width, height = shown_size(stream, first)
    if orientation.turns % 2:
        width, height = height, width
    metadata = VideoMetadata(
        width=width,
        height=height,
        frame_times=seconds,
        fps=len(seconds) / duration,
        duration=duration,
        codec=stream.codec_context.codec.canonical_name,
        container=container.format.name,
        rotation=orientation.turns * 90,
        identity=identity,
        damage=damage,
        content=content_hash(path, table.sizes, seconds, table.packet_hash),
    )
    sure = shown >= 0
    return StreamIndex(
        shown=shown,
        keyframes=np.flatnonzero(sure & table.keys[np.where(sure, shown, 0)]),
        pts=np.where(table.pts == MISSING, table.dts, table.pts),
        sums=table.sums[:0] if exact else table.sums,
        decoded=not clean,
        discarded=int(table.hidden.sum()),
        mirrored=orientation.mirrored,
        metadata=metadata,
    )


def _slots(table: PacketTable) -> int:
    """Return the frames that an AVI file has time for: its header counts dropped ones, too."""
    times = table.dts[table.dts != MISSING]
    step = int(np.median(np.diff(times))) if len(times) > 1 else 1
    return int(times.max()) + 2 * step if len(times) else len(table.dts)


def _without_lost_end(
    path: str, table: PacketTable, shown: NDArray[np.int64], seekable: bool, alive: Alive
) -> NDArray[np.int64]:
    """Leave frames at the end out that do not decode since the file was cut off."""
    tail = shown[-_TAIL:]
    # Begin early enough for frames that refer to a key frame further back.
    early = np.flatnonzero(table.keys[: max(1, int(tail.min()) - _BEFORE_TAIL)])
    first = int(early[-1]) if len(early) else 0
    frames = decoded(path, alive, first=first, pts=table.pts if seekable else None)
    there = {packet for packet, _ in frames if not table.broken[packet]}
    good = np.isin(tail, list(there))
    # Only the end: a frame missing in the middle keeps its number.
    return np.concatenate([shown[:-_TAIL], tail[good]]) if good.any() else shown


def _times(
    container: InputContainer,
    stream: VideoStream,
    table: PacketTable,
    shown: NDArray[np.int64],
    frame_s: float,
) -> tuple[NDArray[np.float64], str | None]:
    """Return the seconds of decoded frames, and what was mended."""
    if _formats(container) & _UNTIMED or (shown < 0).any():
        return np.arange(len(shown), dtype=np.float64) * frame_s, None
    ticks = table.pts[shown]
    if "avi" in _formats(container) or (ticks == MISSING).mean() > 0.1:
        # AVI times packets in the order of the file; frames take these times in the order shown.
        ticks = np.sort(table.dts[shown])
        if (ticks == MISSING).any():
            return np.arange(len(shown), dtype=np.float64) * frame_s, None
    seconds = np.where(ticks == MISSING, np.nan, ticks * float(_time_base(stream)))
    return timeline.mend(seconds, frame_s, bool(_formats(container) & _BROADCAST))


def shown_size(stream: Any, frame: Any, *, now: bool = False) -> tuple[int, int]:
    """Return width and height as shown: pixels that are not square widen or narrow the picture.

    ``now`` takes the pixels that were decoded last, else those that the file begins with.
    """
    ratio = stream.sample_aspect_ratio
    if now and _formats(stream.container) & (_BROADCAST | _UNTIMED):
        # Only the coded stream tells it, and may change it.
        ratio = stream.codec_context.sample_aspect_ratio or ratio
    width = frame.width
    if ratio and ratio != 1:
        width = max(1, round(width * ratio))
    return width, frame.height
