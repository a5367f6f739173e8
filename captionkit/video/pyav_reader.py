"""Exact frames with PyAV: the frame that was asked for, or an error; runs in decoding processes.

After a seek the packets are recognised, by their timestamps where these are exact, else by their bytes.
A start counts only if the frame that is decoded there needs no other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from captionkit.video.errors import VideoError
from captionkit.video.index import StreamIndex, shown_size
from captionkit.video.opened import open_video
from captionkit.video.orientation import of_frame
from captionkit.video.packets import MISSING, Alive, packet_sum

# Codecs whose decoders obey ``skip_frame`` packet by packet. dav1d (AV1) obeys it when a frame comes
# out, several packets later. These decoders also show nothing before all that a frame needs is there.
_RECOVERING_CODECS = {"h264", "hevc"}
_GO_ON, _FROM_START = -1, -2
_Made = TypeVar("_Made")


class PyAVReader:
    """Reads frames of one file by number; kept open over consecutive windows.

    Parameters
    ----------
    path
        The file.
    index
        Its index.
    alive
        Called for each packet, to show progress.
    threads
        Number of the decoder's threads. Of more, each holds a frame of full size in flight.
    """

    def __init__(
        self, path: str, index: StreamIndex, alive: Alive = lambda: None, threads: int = 1
    ) -> None:
        self._path = path
        self._index = index
        self._alive = alive
        self._threads = threads
        self._damage: str | None = None
        # One for all frames, and one thread: each reformatter has threads of its own.
        self._reformatter = VideoReformatter()
        self._frames: Iterator[tuple[int, VideoFrame]] | None = None
        self._wanted: frozenset[int] = frozenset()
        # Least number of the next frame, after a seek or the last read.
        self._position = 0
        self._numbers = {int(packet): number for number, packet in enumerate(index.shown)}
        # Two frames of one packet, or of none, can only be counted.
        self._named = len(self._numbers) == len(index.shown) and -1 not in self._numbers
        self._packet_of = self._recognised()
        self._false_starts: set[int] = set()
        # Number of the frame that decoding began with, at or before the start that was asked for.
        self._anchor = 0
        self._open()

    def _recognised(self) -> dict[int, int]:
        """Return the index of each packet by the mark that tells it from all others."""
        marks = (self._index.sums if len(self._index.sums) else self._index.pts).tolist()
        counts = Counter(marks)
        return {mark: n for n, mark in enumerate(marks) if counts[mark] == 1}

    def _open(self) -> None:
        self._container, self._stream = open_video(self._path)
        self._stream.codec_context.thread_count = self._threads
        if self._threads > 1:
            self._stream.codec_context.thread_type = "AUTO"
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
            Frame numbers from 0, ascending; a number may repeat.
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
        pictures, damage = self.collect(numbers, lambda frame: self._picture(frame, size))
        return np.stack(pictures), damage

    def collect(
        self, numbers: Sequence[int], make: Callable[[VideoFrame], _Made]
    ) -> tuple[list[_Made], str | None]:
        """Return what ``make`` makes of each frame, as `read`; frames have the file's orientation.

        Raises
        ------
        VideoError
            If a frame that was asked for cannot be decoded.
        """
        self._wanted = frozenset(int(self._index.shown[number]) for number in numbers)
        damaged: tuple[list[_Made], str | None] | None = None
        for start in self._starts(numbers[0]):
            self._damage = None
            made = self._collect(list(numbers), make, start)
            if made is None:
                continue
            read = [made[number] for number in numbers], self._damage
            if self._damage is None or start in (_GO_ON, _FROM_START) or damaged:
                return damaged or read
            # A reference that lies before the start looks like damage: try one start further back.
            damaged, self._frames = read, None
        if damaged:
            return damaged
        seconds = self._index.metadata.frame_times[[numbers[0], numbers[-1]]]
        raise VideoError(
            f"{self._path}: some frames between {seconds[0]:.2f} s and {seconds[1]:.2f} s cannot be "
            f"decoded" + (f" ({self._damage})" if self._damage else "")
        )

    def thinned(
        self, first: int, last: int, make: Callable[[VideoFrame], _Made]
    ) -> tuple[dict[int, _Made], str | None]:
        """Return what ``make`` makes of some of the frames ``first`` to ``last``, by their numbers.

        Frames that no other one needs are left out where the codec tells them, except both ends:
        often half of all. The second value is as in `read`.

        Raises
        ------
        VideoError
            If the first frame cannot be decoded.
        """
        (picture,), damage = self.collect([first], make)
        made = {first: picture}
        self._wanted = frozenset([int(self._index.shown[last])])
        assert self._frames is not None
        for number, frame in self._frames:
            self._position = number + 1
            if number <= last:
                self._check_shape(frame)
                made[number] = make(frame)
            if number >= last:
                break
        return made, damage or self._damage

    def _starts(self, first: int) -> Iterator[int]:
        """Yield starts, cheapest first: go on, key frames ever further back, the start of the file."""
        keys = self._index.keyframes
        place = int(np.searchsorted(keys, first, side="right")) - 1
        nearest = int(keys[place]) if place >= 0 else 0
        named = self._named and place >= 0
        if (
            self._frames is not None
            and self._position <= first
            and (not named or nearest <= self._position or nearest in self._false_starts)
        ):
            yield _GO_ON
        back = 0
        while named and place - back >= 0:
            key = int(keys[place - back])
            if key and key not in self._false_starts:
                yield key
            back = back * 2 or 1
        yield _FROM_START

    def _collect(
        self, numbers: list[int], make: Callable[[VideoFrame], _Made], start: int
    ) -> dict[int, _Made] | None:
        """Decode from a start until all frames are there; None if the start was too late."""
        if start != _GO_ON and not self._seek(start):
            return None
        assert self._frames is not None
        missing, last = set(numbers), numbers[-1]
        made: dict[int, _Made] = {}
        for number, frame in self._frames:
            self._position = number + 1
            if number in missing:
                self._check_shape(frame)
                made[number] = make(frame)
                missing.discard(number)
            if not missing:
                return made
            if number > last or number > min(missing):
                # A frame that was passed does not come again.
                break
        self._frames = None
        return None

    def _seek(self, start: int) -> bool:
        """Move to a start; False if that fails."""
        if start == _FROM_START:
            self._container.close()
            self._open()
            self._position = self._anchor = 0
        else:
            time = int(self._index.pts[self._index.shown[start]])
            if time == MISSING:
                return False
            try:
                self._container.seek(time, stream=self._stream, backward=True, any_frame=False)
            except av.FFmpegError:
                return False
            self._stream.codec_context.flush_buffers()
            self._position = start
        self._frames = self._decode(start)
        return True

    def _packets(self, start: int) -> Iterator[tuple[int, Any]]:
        """Yield the packets from here on with their indexes; end where they are not recognised."""
        by_bytes = bool(len(self._index.sums))
        marks: NDArray[Any] = self._index.sums if by_bytes else self._index.pts
        expected = 0 if start == _FROM_START else None
        for packet in self._container.demux(self._stream):
            self._alive()
            if packet.size == 0:
                yield -1, packet
                continue
            if expected is None:
                mark = packet_sum(packet) if by_bytes else packet.pts
                found = None if mark is None else self._packet_of.get(mark)
                # After a seek by bytes the first packets may be parts of packets.
                if found is None or not packet.is_keyframe:
                    continue
                self._anchor = self._numbers.get(found, start + 1)
                if self._anchor > start:
                    return
                expected = found
            if expected >= len(marks):
                return
            if by_bytes:
                same = packet_sum(packet) == int(marks[expected])
            else:
                same = packet.pts == int(marks[expected])
            if not same:
                if start == _FROM_START:
                    raise VideoError(f"{self._path} changed while it was read")
                return
            yield expected, packet
            expected += 1

    def _decode(self, start: int) -> Iterator[tuple[int, VideoFrame]]:
        """Yield all frames from here on with their numbers."""
        counter, previous = 0, -1
        context: Any = self._stream.codec_context
        codec = self._index.metadata.codec
        skipping = codec in _RECOVERING_CODECS and not self._index.decoded
        sound = start == _FROM_START
        try:
            for place, packet in self._packets(start):
                if place >= 0:
                    # Decoders hand the timestamp of a packet on to its frame.
                    packet.pts = packet.dts = place
                # Skip a frame that was not asked for and that no other frame refers to.
                if skipping:
                    context.skip_frame = "DEFAULT" if place in self._wanted else "NONREF"
                try:
                    frames = packet.decode()
                except av.FFmpegError as error:
                    self._damage = self._damage or f"the decoder reports: {error.strerror}"
                    continue
                for frame in frames:
                    if frame.is_corrupt:
                        self._damage = self._damage or "the decoder marks a frame as damaged"
                    if self._named:
                        number = self._numbers.get(-1 if frame.pts is None else frame.pts, -1)
                    else:
                        number, counter = counter, counter + 1
                    if not sound:
                        sound = self._is_sound(frame, number)
                        if not sound and number >= self._anchor:
                            self._false_starts |= {start, self._anchor}
                            return
                    if not sound or number < self._anchor:
                        continue
                    if number <= previous:
                        raise VideoError(
                            f"{self._path}: the timestamps contradict the order of frames near frame "
                            f"{number}"
                        )
                    previous = number
                    yield number, frame
        except av.FFmpegError as error:
            self._damage = self._damage or f"the file breaks off: {error.strerror}"

    def _is_sound(self, frame: VideoFrame, number: int) -> bool:
        """Whether a frame, one of the first after a seek, shows that decoding could start there."""
        if self._index.metadata.codec in _RECOVERING_CODECS:
            begun = number > self._anchor or (number == self._anchor and frame.key_frame)
            return bool(begun and not frame.is_corrupt)
        return number == self._anchor and bool(frame.key_frame)

    def _check_shape(self, frame: VideoFrame) -> None:
        shown = self._index.metadata
        try:
            orientation = of_frame(frame)
        except ValueError as error:
            raise VideoError(f"{self._path}: {error}") from error
        if orientation != self._index.orientation:
            raise VideoError(f"{self._path}: the orientation of the picture changes within the file")
        # The decoder may lose frames where the picture changes, also if its pixels make up for it.
        for now in (False, True):
            width, height = shown_size(self._stream, frame, now=now)
            if orientation.turns % 2:
                width, height = height, width
            if abs(width * shown.height / (height * shown.width) - 1) > 0.02:
                raise VideoError(
                    f"{self._path}: the shape of the picture changes within the file, from "
                    f"{shown.width} x {shown.height} to {width} x {height}"
                )

    def _picture(self, frame: VideoFrame, size: tuple[int, int]) -> NDArray[np.uint8]:
        orientation = self._index.orientation
        width, height = (size[1], size[0]) if orientation.turns % 2 else size
        picture = self._reformatter.reformat(
            frame, width, height, "rgb24", interpolation=Interpolation.BICUBIC, threads=1
        ).to_ndarray()
        return np.ascontiguousarray(orientation.apply(picture).transpose(2, 0, 1))
