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
from captionkit.video.index import StreamIndex, open_video

_CONTAINERS = {"mov", "mp4", "matroska", "webm"}
_CODECS = {"h264", "mpeg4", "vp8", "vp9", "hevc"}


def refusal(path: str, index: StreamIndex) -> str | None:
    """Say why decord would not read this stream exactly; None if it would."""
    metadata = index.metadata
    if not set(metadata.container.split(",")) & _CONTAINERS:
        return f"the container {metadata.container}, in which it miscounts frames"
    if metadata.codec not in _CODECS:
        return f"the codec {metadata.codec}, which it lacks or misreads"
    if index.counted:
        return "missing or repeated timestamps"
    if index.discarded:
        return "frames that an edit list hides, which it counts"
    if metadata.rotation:
        return "a rotation, which it ignores"
    if metadata.damage:
        return f"damage ({metadata.damage})"
    gaps = np.diff(metadata.frame_times)
    if len(gaps) and float(gaps.max() - gaps.min()) > 0.5 / metadata.fps:
        return "a variable frame rate"
    if metadata.codec in _OPEN_STARTS and _has_open_starts(path, metadata.codec):
        return "open GOPs or intra refresh, in which it is frames off after a seek"
    return None


def _has_open_starts(path: str, codec: str) -> bool:
    """Whether decoding can start at a frame whose successors refer to earlier ones."""
    container, stream = open_video(path)
    with container:
        start_codes = BitStreamFilterContext(f"{codec}_mp4toannexb", stream)
        for packet in container.demux(stream):
            for part in start_codes.filter(packet):
                if any(_OPEN_STARTS[codec](unit) for unit in bytes(part).split(b"\0\0\1")[1:] if unit):
                    return True
    return False


def _h264_recovery_point(unit: bytes) -> bool:
    return unit[0] & 31 == 6 and unit[1:2] == b"\x06"


def _hevc_clean_random_access(unit: bytes) -> bool:
    return unit[0] >> 1 & 63 == 21


_OPEN_STARTS = {"h264": _h264_recovery_point, "hevc": _hevc_clean_random_access}


class DecordReader:
    """The interface of `PyAVReader`, with decord behind it."""

    def __init__(self, path: str, index: StreamIndex) -> None:
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
