"""Helpers of store tests; few imports, for processes that are killed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from captionkit.pipeline import Caption
from captionkit.recipe import Recipe
from captionkit.sources import PlannedWindow, SourceClip
from captionkit.store import Job, Store, Work
from captionkit.video import VideoMetadata

CAPTION = Caption(
    prompt="<chat>",
    text="A red boat.",
    finish_reason="stop",
    prompt_tokens=10,
    output_tokens=4,
    cached_tokens=0,
    queue_s=0.0,
    first_token_s=0.1,
    seconds=0.2,
    stage=1,
    prompt_text="Describe this video.",
)
_FACTS = VideoMetadata(640, 360, np.arange(1024) / 30, 30.0, 1024 / 30, "h264", "mp4", 0, "film")


def window(number: int, video: str = "film") -> PlannedWindow:
    start = number * 8.5
    clip = SourceClip(f"{video}.mp4", f"{video}.mp4", _FACTS, 0, 1024, (0.0, 1024 / 30))
    return PlannedWindow(
        f"{video}-{number}", video, f"{video}.mp4", "clip", number, 0, 255, start, start + 8.5, clip
    )


WINDOWS = [window(number) for number in range(4)]


def begin(store: Store, recipe: Recipe | None = None, windows=WINDOWS, fresh: bool = False) -> int:
    return store.add_run(recipe or Recipe(), windows, repeats=1, batch_size=16, fresh=fresh)


def claimed(store: Store, run: int) -> tuple[Work, dict[int, Job]]:
    """Claim all open jobs of a run; return the work and the jobs by position."""
    work = store.begin_work(run)
    return work, {job.position: job for job in work.claim(1_000_000)}


def done(store: Store, run: int, position: int, text: str = "A red boat.") -> None:
    work, jobs = claimed(store, run)
    work.add_caption(jobs[position], replace(CAPTION, text=text))
    work.finish(jobs[position], None)
    work.end()


def failed(store: Store, run: int, position: int, error: str, warnings=()) -> None:
    work, jobs = claimed(store, run)
    work.finish(jobs[position], error, warnings)
    work.end()
