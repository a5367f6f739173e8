"""Films whose frames show their own numbers, to distinguish right frames from wrong ones."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BITS = 12
WIDTH, HEIGHT = 192, 112
_CELL = WIDTH // BITS


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Draw frame ``number``: a row of black and white bars, over a moving texture."""
    image = np.full((HEIGHT, WIDTH, 3), 96, np.uint8)
    rows = np.arange(HEIGHT // 2)[:, None] + number * 3
    image[HEIGHT // 2 :] = (((rows // 8) % 2) * 60 + 80)[..., None]
    for bit in range(BITS):
        level = 235 if number >> bit & 1 else 16
        image[: HEIGHT // 2, bit * _CELL : (bit + 1) * _CELL] = level
    if (width, height) != (WIDTH, HEIGHT):
        image = image.repeat(height // HEIGHT, 0).repeat(width // WIDTH, 1)
    return image


def read_number(frame: np.ndarray) -> int:
    """Read the number in a frame of shape (3, height, width)."""
    _, height, width = frame.shape
    cell = width // BITS
    number = 0
    for bit in range(BITS):
        middle = frame[
            :, height // 8 : height // 4, bit * cell + cell // 4 : (bit + 1) * cell - cell // 4
        ]
        number |= int(middle.mean() > 125) << bit
    return number


def write(
    path: Path,
    frames: int = 120,
    *,
    codec: str = "libx264",
    fps: int = 30,
    options: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
    times: Sequence[int] | None = None,
    container_options: dict[str, str] | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> Path:
    """Encode a film; ``times`` are presentation times in 1/1000 s for a variable frame rate."""
    with _priority_kept(), av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
            if times is not None:
                frame.pts = times[number]
                frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame.reformat(format=pix_fmt)))
        container.mux(stream.encode())
    return path


@contextmanager
def _priority_kept() -> Iterator[None]:
    """Restore this thread's scheduling, because SVT-AV1, as root, makes the thread a real-time one.

    Processes started later would inherit SCHED_FIFO 99, and an engine and a browser would never yield
    to each other.
    """
    policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameter)


def copy_cut(source: Path, target: Path, start_s: float) -> Path:
    """Cut by stream copy from the key frame before ``start_s``; an edit list hides earlier frames."""
    with av.open(str(source)) as into, av.open(str(target), "w") as out:
        track = into.streams.video[0]
        copy = out.add_stream_from_template(track)
        into.seek(int(start_s / track.time_base), stream=track)
        offset = int(start_s / track.time_base)
        for packet in into.demux(track):
            if packet.dts is None:
                continue
            packet.pts -= offset
            packet.dts -= offset
            packet.stream = copy
            out.mux(packet)
    return target
