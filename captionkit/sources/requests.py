"""Requests: videos before they are opened, and how their windows are cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from captionkit.recipe import LEAST_FRAMES, Recipe
from captionkit.sources.planned import PlannedWindow, SourceClip, plan
from captionkit.sources.scenes import scene_windows, shot_starts
from captionkit.sources.windows import WindowSpan
from captionkit.video import DecodePool, Source, VideoMetadata

Cut = Literal["frames", "scenes"]

CUTS: tuple[Cut, ...] = ("frames", "scenes")


@dataclass(frozen=True)
class CutRule:
    """How a video without windows of its own is cut: by the recipe's frames, also within its scenes."""

    recipe: Recipe
    cut: Cut = "frames"


def refuse_recut(own: Recipe, wanted: Recipe) -> None:
    """Refuse a recipe whose windows are cut otherwise.

    Raises
    ------
    ValueError
        If a setting of the windows differs; the message says how to get such windows.
    """
    for name in ("window_size", "remainder_threshold", "window_seconds"):
        here, there = getattr(own, name), getattr(wanted, name)
        if here != there:
            raise ValueError(
                f"{name} is {there}, but this session's windows were cut with {here}; make a session "
                f"for it: Session(…, recipe=Recipe({name}={there}))"
            )


@dataclass(frozen=True)
class SpanRequest:
    """A window in seconds of the file, its end excluded; ``where`` is its row, for messages."""

    start_s: float
    end_s: float
    where: str


@dataclass(frozen=True)
class ClipRequest:
    """A clip to cut windows from, before its file is opened.

    ``span`` is in seconds, None for the whole file. A clip may come with its windows: ``windows`` in
    frames of the clip, or ``given`` in seconds of the file.
    """

    file: Source = field(repr=False)
    path: str
    span: tuple[float, float] | None = None
    windows: tuple[WindowSpan, ...] = ()
    given: tuple[SpanRequest, ...] = ()


@dataclass(frozen=True)
class VideoRequest:
    """A video's short name, and the clips to open."""

    name: str
    clips: tuple[ClipRequest, ...]


def open_request(
    video: VideoRequest, rule: CutRule, pool: DecodePool, goes_on: Callable[[float], bool]
) -> tuple[list[PlannedWindow], list[str]]:
    """Return a video's windows, and the reasons for clips and windows that are left out.

    ``goes_on`` is called with the share of a search for scenes that is done; False stops the search.
    """
    windows: list[PlannedWindow] = []
    reasons: list[str] = []
    # Clips of a file share its facts: the times of a long film take megabytes.
    known: dict[Source, VideoMetadata] = {}
    first = 0
    for request in video.clips:
        try:
            shown = known.get(request.file)
            clip = SourceClip.open(pool, request.file, request.path, request.span, shown)
            known[request.file] = clip.metadata
            spans = _spans(clip, request, rule, pool, goes_on)
        except (ValueError, OSError) as error:
            reasons.append(str(error))
            continue
        # Number every window of the request, so that a window left out does not move the others.
        for number, (span, where) in enumerate(spans, first):
            try:
                if isinstance(span, SpanRequest):
                    span = clip.within(span.start_s, span.end_s)
                clip.check(span)
            except ValueError as error:
                reasons.append(f"{where or f'{request.path}, window {number}'}: {error}; left out")
            else:
                windows += plan(clip, [span], video.name, number)
        first += len(spans)
    return windows, reasons


def _spans(
    clip: SourceClip,
    request: ClipRequest,
    rule: CutRule,
    pool: DecodePool,
    goes_on: Callable[[float], bool],
) -> list[tuple[WindowSpan | SpanRequest, str]]:
    """Return the windows of a clip, each with its row if it has one."""
    if request.given:
        return [(each, each.where) for each in request.given]
    recipe = rule.recipe
    lengths = (recipe.window_size, recipe.remainder_threshold, recipe.window_seconds)
    spans = request.windows
    if not spans and rule.cut == "scenes" and clip.num_frames >= LEAST_FRAMES:
        shown, begin, past = clip.metadata, clip.first_frame, clip.first_frame + clip.num_frames
        starts = [
            start - begin
            for start in shot_starts(pool, clip.file, shown, goes_on)
            if begin < start < past
        ]
        times, end = shown.frame_times[begin:past], clip.times(0, clip.num_frames - 1)[1]
        spans = tuple(scene_windows([0, *starts], times, end, *lengths))
    return [(each, "") for each in spans or clip.cut(*lengths)]
