"""A stretch of a video cut for a browser: small, H.264 in mp4, playable while it loads.

Encoded anew from exact frames: a copy would begin at a key frame, not at the window. Runs in the
decoding processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
from av.video.frame import VideoFrame

from captionkit.system.temp import TempFolder
from captionkit.video.index import StreamIndex
from captionkit.video.orientation import keep_colours, upright
from captionkit.video.packets import Alive
from captionkit.video.pyav_reader import PyAVReader

_WIDEST = 640
# Bounds the preview of a window that lasts an hour.
_MOST_FRAMES = 600
_CLOCK = 90_000
_AT_ONCE = 16
# Pixels of a frame above which a preview is thinned; a frame of 1080p stays below.
_LARGE = 1920 * 1088
# A person waits for this one file.
_THREADS = 4


def cut(path: str, index: StreamIndex, first: int, last: int, alive: Alive) -> bytes:
    """Encode frames ``first`` to ``last`` as an mp4 file, at their times, without sound.

    Parameters
    ----------
    path, index
        The video and its index.
    first, last
        Frame numbers, both included; of more than 600 only every n-th is taken. Of frames above 1080p
        those that no other frame needs are left out: decoding 4K in full takes longer than a person
        waits.
    alive
        Called for each packet, to show progress.

    Returns
    -------
    bytes
        Content of the file.

    Raises
    ------
    VideoError
        If a frame cannot be decoded.
    """
    shown = index.metadata
    shrink = min(1.0, _WIDEST / max(shown.width, shown.height))
    # yuv420p needs even sides.
    width, height = (max(2, round(side * shrink / 2) * 2) for side in (shown.width, shown.height))
    reader = PyAVReader(path, index, alive, _THREADS)
    # A named file: to move the index to the front, ffmpeg opens its output a second time.
    try:
        with TempFolder("clip") as folder:
            target = folder / "clip.mp4"
            with av.open(str(target), "w", format="mp4", options={"movflags": "faststart"}) as out:
                options = {"preset": "veryfast", "crf": "27"}
                stream: Any = out.add_stream("libx264", rate=Fraction(30), options=options)
                context = stream.codec_context
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                context.time_base, context.thread_count = Fraction(1, _CLOCK), 1
                for number, frame in _frames(reader, index, (first, last), (width, height)):
                    if number == first:
                        keep_colours(context, frame)
                    seconds = shown.frame_times[number] - shown.frame_times[first]
                    frame.pts, frame.time_base = round(seconds * _CLOCK), Fraction(1, _CLOCK)
                    frame.pict_type = 0
                    out.mux(stream.encode(frame))
                out.mux(stream.encode())
            return target.read_bytes()
    finally:
        reader.close()


def _frames(
    reader: PyAVReader, index: StreamIndex, span: tuple[int, int], size: tuple[int, int]
) -> Iterator[tuple[int, VideoFrame]]:
    """Yield the frames of a clip with their numbers."""

    def make(frame: VideoFrame) -> VideoFrame:
        return upright(frame, index.orientation, size)

    first, last = span
    count, shown = last - first + 1, index.metadata
    if shown.width * shown.height > _LARGE and count <= _MOST_FRAMES:
        made, damage = reader.thinned(first, last, make)
        # Which frames are missing for a damage is not known here.
        if damage is None:
            yield from made.items()
            return
    numbers = list(range(first, last + 1, -(-count // _MOST_FRAMES)))
    for begin in range(0, len(numbers), _AT_ONCE):
        some = numbers[begin : begin + _AT_ONCE]
        yield from zip(some, reader.collect(some, make)[0], strict=True)
