"""The work of every side of the benchmark: the same windows, prompts, lengths and sampling."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from captionkit.demo import videos
from captionkit.recipe import Recipe
from captionkit.sources import PlannedWindow, SourceClip, plan
from captionkit.system.temp import TempFolder
from captionkit.video import DecodePool
from captionkit.video.cache import cache_folder

PROMPT = "Describe this video in every detail."
EDITED = "List all that is seen in this video, and what it does."
STAGE2 = "Add what is missing: {caption}"
STAGE2_EDITED = "Correct this caption: {caption}"
# Match the video tokens of a 7B model with 20 frames of 448 x 252 roughly: 34 frames of 280 x 168 make
# 1,020 tokens. At the demo model's own frame size, encoding would be negligible.
SAMPLING_FPS = 4.0
PIXEL_BUDGET = 224 * 224
# Windows for NeMo Curator's own stages, which keep all frames of a video in memory.
SHORT = 12
_MIXED = (16, 24, 32, 48, 64, 96, 160, 256)


@dataclass(frozen=True)
class Work:
    """Captions to make; ``lengths`` are forced output tokens of each window, the same for all sides."""

    path: str
    windows: int
    lengths: list[int]
    prompt: str = PROMPT
    stage2: str | None = None
    batch_size: int = 16
    salt: str = ""
    pixel_budget: int = PIXEL_BUDGET
    model: str = "demo"


def lengths(windows: int, tokens: int | None) -> list[int]:
    """Return the output tokens of each window: all equal, or mixed from 16 to 256 (None)."""
    if tokens is not None:
        return [tokens] * windows
    return [int(each) for each in np.random.default_rng(0).choice(_MIXED, windows)]


def recipe(work: Work) -> Recipe:
    """Return the recipe of some work; greedy, so that all sides write the same text."""
    return Recipe(
        model=work.model,
        prompt=work.prompt,
        stage2=work.stage2,
        temperature=0,
        top_p=1.0,
        sampling_fps=SAMPLING_FPS,
        pixel_budget=work.pixel_budget,
    )


@functools.cache
def decoders(workers: int | None) -> DecodePool:
    """Return the decoders of this process, shared by all runs as in a session."""
    return DecodePool(workers)


def planned(work: Work, workers: int | None = None) -> list[PlannedWindow]:
    """Return the first windows of the video.

    Raises
    ------
    ValueError
        If the video has fewer windows than the work.
    """
    made = recipe(work)
    clip = SourceClip.open(decoders(workers), work.path, work.path)
    spans = clip.cut(made.window_size, made.remainder_threshold, made.window_seconds)
    if len(spans) < work.windows:
        raise ValueError(f"{work.path} has {len(spans)} windows; the work needs {work.windows}")
    return plan(clip, spans[: work.windows], Path(work.path).stem)


def films(folder: Path, *windows: int) -> list[Path]:
    """Put films of so many windows each into a folder."""
    paths = []
    for count in windows:
        path = folder / f"{count}-windows.mp4"
        path.symlink_to(_rendered(folder, count).resolve())
        paths.append(path)
    return paths


def _rendered(folder: Path, windows: int) -> Path:
    """Return a film of so many windows; rendered once for each version of the painted world."""
    painters = sorted(Path(videos.__file__).parent.glob("*.py"))
    version = hashlib.sha256(b"".join(each.read_bytes() for each in painters)).hexdigest()[:12]

    def render(path: Path) -> None:
        videos.write_film(path, videos.large_scenes(windows))

    return kept(f"{windows}-windows-{version}.mp4", render, folder)


def kept(name: str, make: Callable[[Path], object], folder: Path) -> Path:
    """Return a file or a folder in the cache of files, made if it is not there yet.

    It comes into another folder where the cache cannot be written, as for a user without a home.
    """
    path = cache_folder() / "bench" / name
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TempFolder("bench", path.parent) as beside:
            make(beside / name)
            (beside / name).rename(path)
    except OSError:
        # Another bench may have put it there meanwhile.
        if not path.exists():
            path = folder / name
            make(path)
    return path


def repeat_film(source: Path, target: Path, seconds: float) -> None:
    """Write a long film by repeating the packets of a short one."""
    import av

    with av.open(str(target), "w") as out:
        offset: Any = 0
        stream: Any = None
        while stream is None or float(offset * stream.time_base) < seconds:
            with av.open(str(source)) as container:
                video: Any = container.streams.video[0]
                if stream is None:
                    stream = out.add_stream_from_template(video)
                    stream.time_base = video.time_base
                step = int(Fraction(1) / (video.average_rate * video.time_base))
                last = 0
                for packet in container.demux(video):
                    if packet.dts is None:
                        continue
                    packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                    last = max(last, packet.pts + step)
                    packet.stream = stream
                    out.mux(packet)
                offset = last
