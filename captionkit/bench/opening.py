"""Measure the opening of collections: ``python -m captionkit.bench opening``.

Clips of one second, a long mp4 film, the times that models are told at a variable rate, and what a run
of 100,000 windows costs to show. The cache of files is a new one.
"""

from __future__ import annotations

import argparse
import os
import struct
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray
from rich.table import Table

from captionkit.bench.store import CAPTION, imaginary_film
from captionkit.bench.work import repeat_film
from captionkit.demo.videos import large_scenes, write_film
from captionkit.display import no_images
from captionkit.pipeline.prepared import prepare
from captionkit.recipe import Recipe
from captionkit.run import Run
from captionkit.sources import CutRule, SourceClip, Sources, WindowSpan, plan, windows_table
from captionkit.stages.adapter import video_requests
from captionkit.store import Store
from captionkit.system.temp import TempFolder
from captionkit.system.terminal import SafeConsole
from captionkit.video import DecodePool

# Bytes between two frames of the long film, which no reader of its tables needs.
_HOLE = 40_000
_EVERY_S = 0.02


def bench_opening(clips: int, hours: float, windows: int) -> dict[str, str]:
    """Return the figures by name."""
    found: dict[str, str] = {}
    with _cache_of_its_own() as folder:
        films = folder / "clips"
        _write_clips(films, clips)
        for time_ in ("first", "second"):
            first_s, all_s, read = _open(films)
            found[f"{clips:,} clips of 1 s, {time_} time: first windows / all"] = (
                f"{first_s:.2f} / {all_s:.2f} s"
            )
            found[f"bytes read for them, {time_} time"] = f"{read / 1e6:,.1f} MB"
        film = folder / "long.mp4"
        _write_long(film, hours)
        size = film.stat().st_size / 1e9
        first_s, all_s, read = _open(film)
        name = f"mp4 of {size:.1f} GB, {hours:g} h"
        found[f"{name}: first windows / all"] = f"{first_s:.2f} / {all_s:.2f} s"
        found["bytes read for it"] = f"{read / 1e6:,.1f} MB"
        found["variable rate: largest error of a told time"] = f"{_told_error(folder):.2f} s"
        found |= _show(folder, windows)
    return found


@contextmanager
def _cache_of_its_own() -> Iterator[Path]:
    before = os.environ.get("CAPTIONKIT_CACHE")
    with TempFolder("bench") as folder:
        os.environ["CAPTIONKIT_CACHE"] = str(folder / "cache")
        try:
            yield folder
        finally:
            if before is None:
                del os.environ["CAPTIONKIT_CACHE"]
            else:
                os.environ["CAPTIONKIT_CACHE"] = before


def _write_clips(folder: Path, count: int) -> None:
    """Write clips of 30 frames; each is one film with other metadata, so that no two are the same."""
    import av

    folder.mkdir()
    source = folder.parent / "one.mp4"
    write_film(source, large_scenes(1))
    for number in range(count):
        with av.open(str(source)) as into, av.open(str(folder / f"clip{number:05}.mp4"), "w") as out:
            out.metadata["comment"] = str(number)
            video = into.streams.video[0]
            stream = out.add_stream_from_template(video)
            for written, packet in enumerate(into.demux(video)):
                if packet.dts is None or written == 30:
                    break
                packet.stream = stream
                out.mux(packet)


def _write_long(path: Path, hours: float) -> None:
    """Write an mp4 film as large as one of many bits a second: with holes between its frames.

    A hole takes no place on most disks, but is read as any other bytes by whoever reads the whole file.
    """
    source = path.with_name("short.mp4")
    write_film(source, large_scenes(4))
    repeated = path.with_name("repeated.mp4")
    repeat_film(source, repeated, hours * 3600)
    _spread(repeated, path)
    repeated.unlink()


def _spread(source: Path, target: Path) -> None:
    """Copy an mp4 film with a hole before each sample: 64-bit chunk offsets, one sample a chunk."""
    import av

    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        places = [(entry.pos, entry.size) for entry in stream.index_entries]
    data = source.read_bytes()
    boxes = {name: (start, end) for name, start, end in _boxes(data, 0, len(data))}
    head = data[: boxes[b"mdat"][0]]
    offsets, at = [], len(head) + 16
    with target.open("wb") as out:
        for place, size in places:
            at += _HOLE
            offsets.append(at)
            out.seek(at)
            out.write(data[place : place + size])
            at += size
        out.seek(0)
        out.write(head + struct.pack(">I4sQ", 1, b"mdat", at - len(head)))
        out.seek(at)
        out.write(_with_chunks(data, *boxes[b"moov"], offsets))


def _with_chunks(data: bytes, start: int, end: int, offsets: list[int]) -> bytes:
    """Return a box with one sample a chunk, at these offsets."""
    name = data[start + 4 : start + 8]
    content = data[start + 8 : end]
    if name == b"stsc":
        content = struct.pack(">IIIII", 0, 1, 1, 1, 1)
    elif name in (b"stco", b"co64"):
        name, content = b"co64", struct.pack(f">II{len(offsets)}Q", 0, len(offsets), *offsets)
    elif name in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        inner = _boxes(data, start + 8, end)
        content = b"".join(_with_chunks(data, begin, past, offsets) for _, begin, past in inner)
    return struct.pack(">I4s", len(content) + 8, name) + content


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, begin and end of the boxes of a part of a small file."""
    while end - start >= 8:
        size, name = struct.unpack_from(">I4s", data, start)
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start + 8)
        yield name, start, start + size
        start += size


def _open(source: Path) -> tuple[float, float, int]:
    """Return seconds to the first windows and to all, and the bytes that all processes read."""
    with _BytesRead() as read:
        started = time.perf_counter()
        videos, problems = video_requests(source)
        sources = Sources(videos, CutRule(Recipe()), DecodePool(), problems)
        sources.wait(first=True)
        first_s = time.perf_counter() - started
        sources.wait()
        all_s = time.perf_counter() - started
    sources.close()
    if sources.problems:
        raise RuntimeError(f"the bench's own films are left out: {sources.problems}")
    return first_s, all_s, read.total


def _told_error(folder: Path) -> float:
    """Return how far the times that models compute lie, at most, from when the frame is on screen.

    The film has 100 frames in 4 s, and then one a second. Models take each frame's own index, or equal
    steps.
    """
    film = folder / "variable.mkv"
    times = np.array([*range(0, 4000, 40), *range(4000, 54_000, 1000)]) / 1000
    _write_at(film, times)
    with DecodePool(workers=1) as pool:
        clip = SourceClip.open(pool, str(film), str(film))
        (window,) = plan(clip, [WindowSpan(0, len(times) - 1)], film.stem)
        told = prepare(window, Recipe(), pool).video.metadata
    shown = np.array(told["frames_indices"]) / told["fps"]
    numbers = np.abs(times[:, None] - shown).argmin(axis=0)
    even = np.arange(len(shown)) * (told["total_num_frames"] / told["fps"] / len(shown))
    until = np.append(times[1:], clip.metadata.duration)[numbers]
    return float(max(*np.abs(times[numbers] - shown), *(shown - even), *(even - until)))


def _write_at(path: Path, times: NDArray[np.float64]) -> None:
    """Write a film with frames at these seconds."""
    import av

    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, seconds in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), number, np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(seconds * 1000), Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


def _show(folder: Path, windows: int) -> dict[str, str]:
    """Return time and memory of the table of some windows and of a run on them."""
    known = imaginary_film(windows)
    store = Store(folder / "shown.sqlite")
    number = store.add_run(Recipe(), known, repeats=1, batch_size=16, fresh=False)
    work = store.begin_work(number)
    while jobs := work.claim(10_000):
        for job in jobs:
            work.add_caption(job, CAPTION)
            work.finish(job, None)
    work.end()
    run, table = Run(store, number), windows_table(known, {})
    table.images = no_images
    shown = {}
    for name, draw in (("a run", run._repr_html_), ("the table", table._repr_html_)):
        started = time.perf_counter()
        draw()
        spent = time.perf_counter() - started
        tracemalloc.start()
        draw()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        shown[f"{name} of {windows:,} windows, shown"] = f"{spent:.2f} s, {peak / 1e6:.0f} MB"
    store.close()
    return shown


class _BytesRead:
    """Counts the bytes that this process and its decoders read in a block."""

    def __enter__(self) -> _BytesRead:
        self._stop = threading.Event()
        self._last: dict[int, int] = {}
        self._before = psutil.Process().io_counters().read_chars
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(_EVERY_S):
            self._look()

    def _look(self) -> None:
        for each in psutil.Process().children(recursive=True):
            try:
                self._last[each.pid] = each.io_counters().read_chars
            except psutil.Error:
                continue

    def __exit__(self, *_: object) -> None:
        self._look()
        self._stop.set()
        self._thread.join()
        own = psutil.Process().io_counters().read_chars - self._before
        self.total = own + sum(self._last.values())


def main(argv: list[str] | None = None) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m captionkit.bench opening", description=__doc__)
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--windows", type=int, default=100_000)
    options = parser.parse_args(argv)
    for name, value in vars(options).items():
        if value <= 0:
            parser.error(f"--{name} is {value}; give more than 0")
    table = Table("", "", title="Opening")
    for name, figure in bench_opening(options.clips, options.hours, options.windows).items():
        table.add_row(name, figure)
    SafeConsole().print(table)
    return 0
