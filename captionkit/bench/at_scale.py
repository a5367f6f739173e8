"""Measure Ray's pipeline without an engine: ``python -m captionkit.bench ray``.

Real films of tiny frames are opened, cut, decoded and sent through Ray to a backend that answers at
once: what remains is the cost of everything around the engine. The windows have four frames each.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.table import Table

from captionkit.engine import Backend, Completion, Request
from captionkit.recipe import LEAST_FRAMES, Recipe
from captionkit.scale import caption_videos
from captionkit.system.memory import PeakMemory
from captionkit.system.temp import TempFolder
from captionkit.system.terminal import SafeConsole

_BATCH = 16
_MB = 1e6


class _Answers:
    """A backend that captions each window at once, and can be pickled."""

    info: Mapping[str, Any] = {"max_model_len": 32768, "device": "none"}

    def knows(self, uid: str) -> bool:
        return False

    async def stream(self, request: Request) -> AsyncIterator[str | Completion]:
        yield Completion(
            prompt=request.prompt,
            text=f"A red boat moves left over the sea by day, as {request.prompt}.",
            finish_reason="stop",
            prompt_tokens=300,
            output_tokens=20,
            cached_tokens=0,
            queue_s=0.0,
            first_token_s=0.0,
            seconds=0.0,
        )

    def close(self) -> None:
        return


def bench_ray(windows: int, a_film: int) -> dict[str, str]:
    """Return the figures by name, for films of ``a_film`` windows."""
    recipe = Recipe(window_size=LEAST_FRAMES, remainder_threshold=LEAST_FRAMES, sampling_fps=30.0)
    backend: Backend = _Answers()
    with TempFolder("bench") as folder:
        films = folder / "films"
        films.mkdir()
        _write_films(films, windows // a_film, a_film)
        own = psutil.Process()
        used: list[tuple[float, int]] = []

        def look() -> int:
            used.append((time.monotonic(), int(own.memory_info().rss)))
            return used[-1][1]

        started = time.monotonic()
        with PeakMemory(look, 0.5):
            done = caption_videos(films, recipe, folder / "out", batch_size=_BATCH, backend=backend)
        if (done["captioned"], done["failed"]) != (windows, 0):
            raise RuntimeError(
                f"of {windows} windows there are {done['captioned']}: {done['problems']}"
            )
        parts = [each.stat().st_size for each in (folder / "out" / "parts").iterdir()]
        resumed = time.monotonic()
        again = caption_videos(films, recipe, folder / "out", batch_size=_BATCH, backend=backend)
        resume_s = time.monotonic() - resumed
        if again["of this run"]:
            raise RuntimeError(f"a resume computed {again['of this run']} windows again")
    half = [rss for at, rss in used if at - started < (resumed - started) / 2]
    return {
        "windows": f"{windows:,} in {windows // a_film:,} films",
        "windows a second": f"{done['windows_per_s']:.0f}",
        "memory of the driver, first half": f"{max(half) / _MB:.0f} MB",
        "memory of the driver, all": f"{max(rss for _, rss in used) / _MB:.0f} MB",
        "files": f"{len(parts):,} of {np.mean(parts) / 1e3:,.0f} kB, for {windows // _BATCH:,} batches",
        "resume of all": f"{resume_s:.1f} s",
    }


def _write_films(folder: Path, count: int, windows: int) -> None:
    """Write films of tiny frames; each has other metadata, so that no two are the same."""
    import av

    source = folder.parent / "one.mp4"
    with av.open(str(source), "w") as out:
        stream = out.add_stream("libx264", rate=30)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for number in range(windows * LEAST_FRAMES):
            picture = np.full((64, 64, 3), number % 256, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())
    for number in range(count):
        film = folder / f"film{number:05}.mp4"
        shutil.copy(source, film)
        with film.open("ab") as file:
            # A box that players skip.
            file.write((16).to_bytes(4, "big") + b"free" + number.to_bytes(8, "big"))


def main(argv: list[str] | None = None) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m captionkit.bench ray", description=__doc__)
    parser.add_argument("--windows", type=int, default=20_000)
    parser.add_argument("--a-film", type=int, default=1000, help="windows of each film")
    options = parser.parse_args(argv)
    if not 1 <= options.a_film <= options.windows:
        parser.error("--a-film is from 1 to --windows")
    windows = options.windows // options.a_film * options.a_film
    table = Table("", "", title="Ray, without an engine")
    for name, figure in bench_ray(windows, options.a_film).items():
        table.add_row(name, figure)
    SafeConsole().print(table)
    return 0
