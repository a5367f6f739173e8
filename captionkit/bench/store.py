"""Measure the store: ``python -m captionkit.bench.store``.

Records captions of 10,000 windows, two stages each, and reads them back, as a running session does.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.table import Table

from captionkit.pipeline import Caption
from captionkit.recipe import Recipe
from captionkit.run import Run
from captionkit.sources import PlannedWindow, SourceClip, plan
from captionkit.store import Store
from captionkit.system.temp import TempFolder
from captionkit.system.terminal import SafeConsole
from captionkit.video import VideoMetadata

CAPTION = Caption(
    prompt="<chat> " * 40,
    text="A red boat moves left over the sea by day, and a white bird follows it. " * 6,
    finish_reason="stop",
    prompt_tokens=300,
    output_tokens=90,
    cached_tokens=256,
    queue_s=0.01,
    first_token_s=0.1,
    seconds=1.0,
    stage=1,
    prompt_text="Describe this video in every detail.",
)


def bench_store(windows: int) -> dict[str, float]:
    """Return times in milliseconds for a run of ``windows`` windows with two stages each."""
    second = Caption(**{**vars(CAPTION), "stage": 2})
    known = imaginary_film(windows)
    adding: list[float] = []
    with TempFolder("bench") as folder:
        store = Store(folder / "runs.sqlite")
        recipe = Recipe(stage2="Add what is missing: {caption}")
        number, begin_ms = _timed(
            lambda: store.add_run(recipe, known, repeats=1, batch_size=16, fresh=False)
        )
        work = store.begin_work(number)
        while jobs := work.claim(16):
            for job in jobs:
                for each in (CAPTION, second):
                    started = time.perf_counter()
                    work.add_caption(job, each)
                    adding.append((time.perf_counter() - started) * 1000)
                work.finish(job, None)
        work.end()
        run = Run(store, number)
        table, read_ms = _timed(lambda: run.captions)
        _, check_ms = _timed(lambda: run.checks)
        store.close()
    return {
        "begin the run": begin_ms,
        "add a caption, median": float(np.median(adding)),
        "add a caption, 99 in 100 within": float(np.percentile(adding, 99)),
        f"run.captions, {len(table):,} rows": read_ms,
        f"run.checks, {len(table):,} rows": check_ms,
    }


def imaginary_film(windows: int, name: str = "film") -> list[PlannedWindow]:
    """Return windows of an imaginary film: the store never reads a frame."""
    times = np.arange(256 * windows) / 30
    facts = VideoMetadata(
        640, 360, times, 30.0, 256 * windows / 30, "h264", "mp4", 0, "bench", content=f"bench {name}"
    )
    clip = SourceClip(f"{name}.mp4", f"{name}.mp4", facts, 0, len(times), (0.0, facts.duration))
    return plan(clip, clip.cut(256, 128), name)


def imaginary_films(windows: int, each: int) -> list[PlannedWindow]:
    """Return windows of imaginary films of ``each`` windows; the last film may be shorter."""
    starts = range(0, windows, each)
    films = (imaginary_film(min(each, windows - start), f"film-{start // each}") for start in starts)
    return [window for film in films for window in film]


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    done = work()
    return done, (time.perf_counter() - started) * 1000


def main(argv: list[str] | None = None) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m captionkit.bench.store", description=__doc__)
    parser.add_argument("--windows", type=int, default=10_000)
    options = parser.parse_args(argv)
    if options.windows < 1:
        parser.error(f"--windows is {options.windows}; give 1 or more")
    table = Table("", "ms", title=f"Store, {options.windows:,} windows of two stages")
    for name, spent in bench_store(options.windows).items():
        table.add_row(name, f"{spent:,.2f}")
    SafeConsole().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
