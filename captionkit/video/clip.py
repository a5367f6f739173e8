"""A stretch of a video cut for a browser: small, H.264 in mp4, playable while it loads.

Encoded anew from exact frames: a copy would begin at a key frame, not at the window. Runs in the
decoding processes.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av

from captionkit.system.temp import TempFolder
from captionkit.video.index import StreamIndex

_WIDEST = 640
# Bounds the preview of a window that lasts an hour.
_MOST_FRAMES = 600
_CLOCK = 90_000
_AT_ONCE = 16


def cut(reader: Any, index: StreamIndex, first: int, last: int) -> bytes:
    """Encode frames ``first`` to ``last`` as an mp4 file, at their times, without sound.

    Parameters
    ----------
    reader
        An open reader of the video.
    index
        Its index.
    first, last
        Frame numbers, both included; of more than 600 only every n-th is taken.

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
    step = -(-(last - first + 1) // _MOST_FRAMES)
    numbers = list(range(first, last + 1, step))
    # A named file: to move the index to the front, ffmpeg opens its output a second time.
    with TempFolder("clip") as folder:
        path = folder / "clip.mp4"
        with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
            options = {"preset": "veryfast", "crf": "27"}
            stream: Any = container.add_stream("libx264", rate=Fraction(30), options=options)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.codec_context.time_base = Fraction(1, _CLOCK)
            stream.codec_context.thread_count = 1
            for begin in range(0, len(numbers), _AT_ONCE):
                some = numbers[begin : begin + _AT_ONCE]
                frames, _ = reader.read(some, (width, height))
                for number, pixels in zip(some, frames, strict=True):
                    frame = av.VideoFrame.from_ndarray(pixels.transpose(1, 2, 0).copy(), format="rgb24")
                    seconds = shown.frame_times[number] - shown.frame_times[first]
                    frame.pts, frame.time_base = round(seconds * _CLOCK), Fraction(1, _CLOCK)
                    container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path.read_bytes()
