"""Films whose frames show their own numbers, to distinguish right frames from wrong ones."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from captionkit.video import DecodePool

BITS = 12
RATE = 16_000
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
    clicks: Sequence[float] = (),
) -> Path:
    """Encode a film; ``times`` are presentation times in 1/1000 s for a variable frame rate.

    ``clicks`` are the seconds of short tones in its sound; without any, the film has no sound.
    """
    with _priority_kept(), av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if clicks:
            sound = container.add_stream("aac", rate=RATE, layout="mono")
            container.mux(sound.encode(_sound(frames / fps, clicks)))
            container.mux(sound.encode())
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
            if times is not None:
                frame.pts = times[number]
                frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame.reformat(format=pix_fmt)))
        container.mux(stream.encode())
    return path


def _sound(seconds: float, clicks: Sequence[float]) -> av.AudioFrame:
    """Make silence with tones of 30 ms."""
    samples = np.zeros((1, round(seconds * RATE)), np.float32)
    tone = 0.8 * np.sin(2 * np.pi * 1000 * np.arange(round(0.03 * RATE)) / RATE)
    for click in clicks:
        begin = round(click * RATE)
        samples[0, begin : begin + len(tone)] = tone[: samples.shape[1] - begin]
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
    return frame


def heard_clicks(path: Path) -> list[float]:
    """Return when the tones of a film begin, in seconds from its first frame."""
    with av.open(str(path)) as container:
        pieces = [
            (float(frame.pts * frame.time_base), frame.to_ndarray()[0], frame.sample_rate)
            for frame in container.decode(audio=0)
        ]
    begins: list[float] = []
    loud_until = -1.0
    for start, samples, rate in pieces:
        for index in np.flatnonzero(np.abs(samples) > 0.2):
            time = start + index / rate
            if time > loud_until:
                begins.append(time)
            loud_until = time + 0.02
    return begins


def numbers(path: Path, pool: DecodePool) -> list[int]:
    """Read the numbers of all frames of a film of the usual shape."""
    count = pool.probe(path).num_frames
    pixels = pool.read(path, list(range(count)), (WIDTH, HEIGHT)).pixels
    return [read_number(frame) for frame in pixels]


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


def turn(source: Path, target: Path) -> Path:
    """Copy a film's picture with a header that asks for a quarter turn clockwise."""
    with av.open(str(source)) as into, av.open(str(target), "w") as out:
        copy = out.add_stream_from_template(into.streams.video[0])
        for packet in into.demux(video=0):
            if packet.dts is not None:
                packet.stream = copy
                out.mux(packet)
    data = bytearray(target.read_bytes())
    # The matrix of the track header.
    offset = data.index(b"tkhd") + 4 + 40
    matrix = [0, 1 << 16, 0, -(1 << 16), 0, 0, HEIGHT << 16, 0, 1 << 30]
    data[offset : offset + 36] = b"".join((v & 0xFFFFFFFF).to_bytes(4, "big") for v in matrix)
    target.write_bytes(data)
    return target


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
