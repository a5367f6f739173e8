"""A stretch of a film as a file of its own: the very frames, with their sound; for training.

The frames are encoded anew as H.264, or copied where a copy has exactly these frames. A file that was
written is read again before it counts. Runs in the decoding processes.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import asdict
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from captionkit.video.encoding import Encoding, Excerpt, file_hash
from captionkit.video.errors import VideoError
from captionkit.video.index import StreamIndex, build_index
from captionkit.video.opened import open_video
from captionkit.video.orientation import keep_colours, upright
from captionkit.video.packets import MISSING, Alive, decoded
from captionkit.video.pyav_reader import PyAVReader
from captionkit.video.sound import Sound

_AT_ONCE = 16
_CLOCK = 90_000
# Rates of films, and how far times may lie beside them: Matroska rounds to milliseconds.
_RATES = (*map(Fraction, (24, 25, 30, 50, 60)), *(Fraction(n * 1000, 1001) for n in (24, 30, 60)))
_ROUNDED_S = 0.0012
# Less free room than this explains a file that cannot be read back.
_FULL = 1 << 20


def write_excerpt(
    reader: PyAVReader,
    index: StreamIndex,
    path: str,
    first: int,
    last: int,
    target: str,
    how: Encoding,
    alive: Alive,
) -> dict[str, Any]:
    """Write frames ``first`` to ``last`` of a film, both included, as an mp4 file.

    Returns
    -------
    dict
        The fields of an `Excerpt`.

    Raises
    ------
    VideoError
        If a frame cannot be decoded, or the file read back does not have the frames wanted.
    OSError
        If the target cannot be written.
    """
    cut = _Cut(reader, index, path, list(range(first, last + 1)), target, how, alive)
    try:
        made = cut.copied() if cut.can_copy() else None
        return asdict(made or cut.encoded())
    except av.FFmpegError as error:
        # The reader turns errors of the film into its own; what is left belongs to the target.
        raise OSError(error.errno, error.strerror, target) from error


class _Cut:
    def __init__(
        self,
        reader: PyAVReader,
        index: StreamIndex,
        path: str,
        numbers: list[int],
        target: str,
        how: Encoding,
        alive: Alive,
    ) -> None:
        self._reader, self._index, self._path = reader, index, path
        self._target, self._how, self._alive = target, how, alive
        shown = index.metadata
        times = shown.frame_times
        self._all = numbers
        start = float(times[numbers[0]])
        after = numbers[-1] + 1
        self._seconds = (float(times[after]) if after < len(times) else shown.duration) - start
        self._numbers = numbers
        self._times = times[numbers] - start
        if how.fps:
            count = max(1, round(self._seconds * how.fps))
            # Allow for rounded times: a frame due a thousandth later counts as shown.
            wanted = np.arange(count) / how.fps
            self._numbers = [
                numbers[int(at) - 1]
                for at in np.searchsorted(self._times - 0.001, wanted, side="right")
            ]
            self._times = wanted
        self._base, self._ticks = _ticks(self._times)
        self._size = _size((shown.width, shown.height), how.size)

    def can_copy(self) -> bool:
        """Whether the frames' packets are a row that begins with a key frame and holds no other."""
        index, shown = self._index, self._index.metadata
        if not self._how.copy or self._how.fps or index.decoded or len(index.sums):
            return False
        first, packets = self._numbers[0], np.sort(index.shown[self._numbers])
        row = bool((np.diff(packets) == 1).all()) and int(index.shown[first]) == int(packets[0])
        plain = not shown.rotation and not index.mirrored and shown.codec == "h264"
        return row and plain and first in index.keyframes and self._size == (shown.width, shown.height)

    def copied(self) -> Excerpt | None:
        """Copy the stream; None if the copy does not have the very pixels."""
        wanted = sorted(int(packet) for packet in self._index.shown[self._numbers])
        pts = {int(self._index.pts[packet]) for packet in wanted}
        begin = int(self._index.pts[self._index.shown[self._numbers[0]]])
        source, track = open_video(self._path)
        with source:
            if track.codec_context.pix_fmt != "yuv420p":
                return None
            source.seek(begin, stream=track, backward=True, any_frame=False)
            with self._opened() as out:
                stream = out.add_stream_from_template(track)
                sound = self._sound(out)
                for packet in source.demux(track):
                    self._alive()
                    if packet.pts not in pts:
                        continue
                    pts.discard(packet.pts)
                    packet.pts -= begin
                    packet.dts = None if packet.dts is None else packet.dts - begin
                    packet.stream = stream
                    sound.mux_until(float(packet.pts * packet.time_base))
                    out.mux(packet)
                    if not pts:
                        break
                sound.end(self._seconds)
        sums, damage = self._reader.collect(self._numbers, _picture_sum)
        there = [_picture_sum(frame) for _, frame in decoded(self._target, self._alive, threads=1)]
        if pts or there != sums:
            return None
        return self._checked(copied=True, sound=sound.outcome, damage=damage)

    def encoded(self) -> Excerpt:
        """Encode the frames anew."""
        # Both tracks must be known before the first packet is written.
        (frame, *_), damage = self._reader.collect(self._numbers[:1], self._upright)
        with self._opened() as out:
            stream = self._video_stream(out, frame)
            sound = self._sound(out)
            for begin in range(0, len(self._numbers), _AT_ONCE):
                # A frame may be shown several times: read it once.
                some = self._numbers[begin : begin + _AT_ONCE]
                unique = sorted(set(some))
                frames, found = self._reader.collect(unique, self._upright)
                damage = damage or found
                pictures = dict(zip(unique, frames, strict=True))
                for offset, number in enumerate(some, begin):
                    frame = pictures[number]
                    frame.pts, frame.time_base = self._ticks[offset], self._base
                    frame.pict_type = 0
                    out.mux(stream.encode(frame))
                sound.mux_until(float(self._times[min(begin + _AT_ONCE, len(self._times)) - 1]))
            out.mux(stream.encode())
            sound.end(self._seconds)
        count = sum(1 for _ in decoded(self._target, self._alive, threads=1))
        if count != len(self._numbers):
            raise self._differs(f"{count} of {len(self._numbers)} frames decode")
        return self._checked(copied=False, sound=sound.outcome, damage=damage)

    def _opened(self) -> Any:
        return av.open(self._target, "w", format="mp4", options={"movflags": "faststart"})

    def _video_stream(self, out: Any, frame: VideoFrame) -> Any:
        options = {"preset": "fast", "crf": str(self._how.crf)}
        stream = out.add_stream("libx264", rate=1 / self._base, options=options)
        stream.width, stream.height = self._size
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = self._base
        # The pool fills the cores.
        context.thread_count = 1
        keep_colours(context, frame)
        return stream

    def _sound(self, out: Any) -> _SoundTrack:
        index = self._index
        ticks = int(index.pts[index.shown[self._all[0]]]) if index.shown[self._all[0]] >= 0 else MISSING
        zero = float(index.metadata.frame_times[self._all[0]])
        source, video = open_video(self._path)
        with source:
            tick = float(video.time_base or 0)
            if not index.decoded and ticks != MISSING:
                zero = ticks * tick
            else:
                zero += (video.start_time or 0) * tick
        return _SoundTrack(out, Sound(self._path, zero, zero + self._seconds, self._alive))

    def _upright(self, frame: VideoFrame) -> VideoFrame:
        return upright(frame, self._index.orientation, self._size)

    def _checked(self, *, copied: bool, sound: str, damage: str | None) -> Excerpt:
        """Read the file back and compare number and times of its frames."""
        with open(self._target, "rb") as file:
            os.fsync(file.fileno())
        try:
            facts = build_index(self._target, self._alive).metadata
        except VideoError as error:
            raise self._differs(str(error)) from error
        if facts.num_frames != len(self._times):
            raise self._differs(f"{facts.num_frames} of {len(self._times)} frames are there")
        apart = float(np.abs(facts.frame_times - self._times).max())
        if apart > _ROUNDED_S:
            raise self._differs(f"its frames are shown up to {apart:.4f} s beside their times")
        return Excerpt(
            frames=facts.num_frames,
            width=facts.width,
            height=facts.height,
            fps=facts.fps,
            duration=facts.duration,
            bytes=os.path.getsize(self._target),
            sha256=file_hash(self._target),
            copied=copied,
            sound=sound,
            damage=damage,
        )

    def _differs(self, what: str) -> Exception:
        room = os.statvfs(os.path.dirname(self._target) or ".")
        if room.f_bavail * room.f_frsize < _FULL:
            return OSError(28, "no space left on device", self._target)
        first, last = self._all[0], self._all[-1]
        return VideoError(
            f"{self._path}: the clip of frames {first} to {last} does not read back as it was written: "
            f"{what}"
        )


class _SoundTrack:
    """The sound of an excerpt, encoded in step with its picture."""

    def __init__(self, out: Any, sound: Sound) -> None:
        self._out, self._sound = out, sound
        self._stream: Any = None
        if sound.rate:
            self._stream = out.add_stream("aac", rate=sound.rate, layout=sound.layout)

    @property
    def outcome(self) -> str:
        """``kept``, ``none``, or what is missing."""
        return self._sound.problem or ("kept" if self._stream is not None else "none")

    def mux_until(self, seconds: float) -> None:
        """Write the sound up to a time, in seconds from the start."""
        for frame in self._sound.until(seconds):
            self._out.mux(self._stream.encode(frame))

    def end(self, seconds: float) -> None:
        """Write the rest."""
        self.mux_until(seconds)
        if self._stream is not None:
            self._out.mux(self._stream.encode())
        self._sound.close()


def _size(shown: tuple[int, int], most: tuple[int, int] | None) -> tuple[int, int]:
    """Return the size of an excerpt: within the bound, of the same shape, with even sides."""
    shrink = min(1.0, *(limit / side for limit, side in zip(most or shown, shown, strict=True)))
    width, height = (max(2, int(side * shrink + 1e-6) // 2 * 2) for side in shown)
    return width, height


def _ticks(times: NDArray[np.float64]) -> tuple[Fraction, list[int]]:
    """Return a time base and the times in it: one tick a frame at a constant rate."""
    count = len(times)
    if count > 1:
        fitted = Fraction((count - 1) / float(times[-1])).limit_denominator(1001)
        for rate in (*_RATES, fitted):
            if rate and np.ptp(times - np.arange(count) / float(rate)) < _ROUNDED_S:
                return 1 / rate, list(range(count))
    return Fraction(1, _CLOCK), [round(each * _CLOCK) for each in times.tolist()]


def _picture_sum(frame: VideoFrame) -> int:
    """Return a number that tells pictures apart."""
    return zlib.crc32(frame.to_ndarray().tobytes())
