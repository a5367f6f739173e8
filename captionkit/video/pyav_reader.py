"""Exact frames with PyAV: the frame that was asked for, or an error; runs in decoding processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from captionkit.video.errors import VideoError
from captionkit.video.index import StreamIndex, open_video

# Codecs whose decoders obey ``skip_frame`` packet by packet. dav1d (AV1) obeys it when a frame comes
# out, several packets later.
_SKIPPING_CODECS = {"h264", "hevc"}


class PyAVReader:
    """Reads frames of one file by number; kept open over consecutive windows.

    Parameters
    ----------
    path
        The file.
    index
        Its index.
    """

    def __init__(self, path: str, index: StreamIndex) -> None:
        self._path = path
        self._index = index
        self._damage: str | None = None
        self._frames: Iterator[tuple[int, VideoFrame]] | None = None
        self._wanted: frozenset[int] = frozenset()
        # Least name of the next frame, after a seek or the last read.
        self._position = 0
        self._open()

    def _open(self) -> None:
        self._container, self._stream = open_video(self._path)
        # One thread: more would hold more frames in flight, and the pool already fills the cores.
        self._stream.codec_context.thread_count = 1
        self._frames = None

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def read(
        self, numbers: Sequence[int], size: tuple[int, int]
    ) -> tuple[NDArray[np.uint8], str | None]:
        """Read frames by number, resized.

        Parameters
        ----------
        numbers
            Frame numbers from 0, ascending.
        size
            (width, height) in pixels, as shown.

        Returns
        -------
        tuple
            uint8 of shape (frames, 3, height, width), and the damage that the decoder reported.

        Raises
        ------
        VideoError
            If a frame that was asked for cannot be decoded.
        """
        self._damage = None
        names = list(numbers) if self._index.counted else [int(self._index.times[n]) for n in numbers]
        for start in self._starts(names[0]):
            pictures = self._collect(names, size, start)
            if pictures is not None:
                return np.stack([pictures[name] for name in names]), self._damage
        seconds = self._index.metadata.frame_times[[numbers[0], numbers[-1]]]
        raise VideoError(
            f"{self._path}: some frames between {seconds[0]:.2f} s and {seconds[1]:.2f} s cannot be "
            f"decoded" + (f" ({self._damage})" if self._damage else "")
        )

    def _starts(self, first: int) -> Iterator[int | None]:
        """Yield starts, cheapest first: -1 (go on), a key frame, earlier ones, None (the start)."""
        if self._index.counted:
            if self._frames is not None and self._position <= first:
                yield -1
            yield None
            return
        key = self._index.keyframe_before(first)
        if self._frames is not None and (key or 0) <= self._position <= first:
            yield -1
        yielded = set()
        # Go back up to two key frames more: frames behind a key frame may refer to earlier ones (open
        # GOP).
        for back in range(3):
            key = self._index.keyframe_before(first, back)
            if key is None:
                break
            if key not in yielded:
                yielded.add(key)
                yield key
        yield None

    def _collect(
        self, names: list[int], size: tuple[int, int], start: int | None
    ) -> dict[int, NDArray[np.uint8]] | None:
        """Decode from a start until all frames are there; None if the start was too late."""
        self._wanted = frozenset(names)
        if start != -1:
            self._seek(start)
        assert self._frames is not None
        missing, last = set(names), names[-1]
        pictures: dict[int, NDArray[np.uint8]] = {}
        for name, frame in self._frames:
            self._position = name + 1
            if name in missing:
                pictures[name] = self._picture(frame, size)
                missing.discard(name)
            if not missing:
                return pictures
            if name > last and not self._index.counted:
                break
        self._frames = None
        return None

    def _seek(self, start: int | None) -> None:
        if start is None or self._index.counted:
            self._container.close()
            self._open()
            self._position = 0
        else:
            self._container.seek(start, stream=self._stream, backward=True, any_frame=False)
            self._stream.codec_context.flush_buffers()
            self._position = start
        self._frames = self._decode()

    def _decode(self) -> Iterator[tuple[int, VideoFrame]]:
        """Yield all frames from here on with their names: the presentation time, or the number."""
        counter = 0
        context: Any = self._stream.codec_context
        skipping = not self._index.counted and self._index.metadata.codec in _SKIPPING_CODECS
        try:
            for packet in self._container.demux(self._stream):
                # Skip a frame that was not asked for and that no other frame refers to.
                if skipping:
                    context.skip_frame = "DEFAULT" if packet.pts in self._wanted else "NONREF"
                try:
                    frames = packet.decode()
                except av.FFmpegError as error:
                    self._damage = self._damage or f"the decoder reports: {error.strerror}"
                    continue
                for frame in frames:
                    if frame.is_corrupt:
                        self._damage = self._damage or "the decoder marks a frame as damaged"
                    if self._index.counted:
                        yield counter, frame
                        counter += 1
                    elif frame.pts is not None:
                        yield frame.pts, frame
        except av.FFmpegError as error:
            self._damage = self._damage or f"the file breaks off: {error.strerror}"

    def _picture(self, frame: VideoFrame, size: tuple[int, int]) -> NDArray[np.uint8]:
        turns = self._index.metadata.rotation // 90
        width, height = size if turns % 2 == 0 else (size[1], size[0])
        picture = frame.reformat(
            width=width, height=height, format="rgb24", interpolation=Interpolation.BICUBIC
        ).to_ndarray()
        # rot90 turns anticlockwise.
        upright = np.rot90(picture, -turns)
        return np.ascontiguousarray(upright.transpose(2, 0, 1))
