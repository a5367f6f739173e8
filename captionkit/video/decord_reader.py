"""Frames with decord, for the streams that it reads exactly; others are refused with the reason.

decord (last commit: 2022) counts frames after a seek, and so is silently wrong on open GOP, mpegts, AVI
and copy-cut clips. Measured: 13 of 57 valid files. Runs in the decoding processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from av.bitstream import BitStreamFilterContext
from numpy.typing import NDArray

from captionkit.video.errors import VideoError
from captionkit.video.index import StreamIndex
from captionkit.video.opened import open_video
from captionkit.video.packets import Alive

_CONTAINERS = {"mov", "mp4", "matroska", "webm"}
_CODECS = {"h264", "vp8", "vp9", "hevc"}


def refusal(path: str, index: StreamIndex) -> str | None:
    """Say why decord would not read this stream exactly; None if it would."""
    metadata = index.metadata
    if not set(metadata.container.split(",")) & _CONTAINERS:
        return f"the container {metadata.container}, in which it miscounts frames"
    if metadata.codec not in _CODECS:
        return f"the codec {metadata.codec}, which it lacks or misreads"
    if index.decoded:
        return "packets that are not frames, or timestamps that are missing, repeated or absurd"
    if index.discarded:
        return "frames that an edit list hides, which it counts"
    if metadata.rotation or index.mirrored:
        return "a rotation or a mirrored picture, which it ignores"
    if metadata.damage:
        return f"damage ({metadata.damage})"
    gaps = np.diff(metadata.frame_times)
    if len(gaps) and float(gaps.max() - gaps.min()) > 0.5 / metadata.fps:
        return "a variable frame rate"
    return _wrong_starts(path, metadata.codec)


def _wrong_starts(path: str, codec: str) -> str | None:
    """Say why decoding cannot start at each packet that counts as a key frame, None if it can."""
    headers: set[bytes] = set()
    container, stream = open_video(path)
    with container:
        units_of = None
        if codec in _OPEN_STARTS:
            units_of = BitStreamFilterContext(f"{codec}_mp4toannexb", stream)
        keys = 0
        for packet in container.demux(stream):
            key, data = packet.is_keyframe, bytes(packet)
            keys += bool(key and data)
            if units_of is None:
                if data and key and not _IS_KEY[codec](data):
                    return _FALSE_STARTS
                continue
            for part in units_of.filter(packet):
                units = [unit for unit in bytes(part).split(b"\0\0\1")[1:] if unit]
                if any(_OPEN_STARTS[codec](unit) for unit in units):
                    return "open GOPs or intra refresh, in which it is frames off after a seek"
                if part.is_keyframe and not any(_IS_START[codec](unit) for unit in units):
                    return _FALSE_STARTS
                headers |= {unit.rstrip(b"\0") for unit in units if _IS_HEADER[codec](unit)}
                if len(headers) > 1:
                    return "several headers, between which it does not tell"
        # A parser corrects the flags of packets; decord seeks by the container's own.
        if sum(bool(each.is_keyframe) for each in stream.index_entries) > keys:
            return _FALSE_STARTS
    return None


_FALSE_STARTS = "frames that count as key frames but are none"


def _h264_recovery_point(unit: bytes) -> bool:
    return unit[0] & 31 == 6 and unit[1:2] == b"\x06"


def _hevc_clean_random_access(unit: bytes) -> bool:
    return unit[0] >> 1 & 63 == 21


_OPEN_STARTS = {"h264": _h264_recovery_point, "hevc": _hevc_clean_random_access}
_IS_START = {
    "h264": lambda unit: unit[0] & 31 == 5,
    "hevc": lambda unit: 16 <= unit[0] >> 1 & 63 <= 20,
}
_IS_HEADER = {
    "h264": lambda unit: unit[0] & 31 == 7,
    "hevc": lambda unit: unit[0] >> 1 & 63 == 33,
}
_IS_KEY = {
    "vp8": lambda data: not data[0] & 1,
    # Profile 3 has one more bit before those of a shown existing frame and of an inter frame.
    "vp9": lambda data: not data[0] & (0b0110 if data[0] & 0b110000 == 0b110000 else 0b1100),
}


class DecordReader:
    """The interface of `PyAVReader`, with decord behind it."""

    def __init__(self, path: str, index: StreamIndex, alive: Alive = lambda: None) -> None:
        alive()
        reason = refusal(path, index)
        if reason:
            raise VideoError(
                f'{path} cannot be read exactly by decord: it has {reason}. Use reader="pyav".'
            )
        try:
            import decord
        except ImportError as error:
            raise VideoError(
                f"decord is not installed (it has no wheel for this machine); read {path} with "
                'reader="pyav"'
            ) from error
        self._decord: Any = decord
        self._path = path
        self._index = index
        self._reader: Any = None
        self._size: tuple[int, int] | None = None

    def close(self) -> None:
        """Close the file."""
        self._reader = None

    def read(
        self, numbers: Sequence[int], size: tuple[int, int]
    ) -> tuple[NDArray[np.uint8], str | None]:
        """Read frames by number, resized; see `PyAVReader.read`."""
        try:
            if self._reader is None or size != self._size:
                # Without a size decord keeps frames of full size, of all that it decodes ahead.
                self._reader = self._decord.VideoReader(
                    self._path, width=size[0], height=size[1], num_threads=1
                )
                self._size = size
            if len(self._reader) != self._index.metadata.num_frames:
                raise VideoError(
                    f"{self._path} cannot be read exactly by decord: it counts "
                    f"{len(self._reader)} frames where the file shows "
                    f'{self._index.metadata.num_frames}. Use reader="pyav".'
                )
            frames = self._reader.get_batch(list(numbers)).asnumpy()
            # decord decodes ahead without limit until a seek.
            self._reader.seek(0)
        except self._decord.DECORDError as error:
            raise VideoError(f"{self._path}: decord failed: {str(error).splitlines()[0]}") from error
        return np.ascontiguousarray(frames.transpose(0, 3, 1, 2)), None
