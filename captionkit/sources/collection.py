"""All windows of some videos: plan in parallel, find by key or by name, draw thumbnails."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from PIL import Image

from captionkit.recipe import Recipe
from captionkit.sources.planned import PlannedWindow, SourceClip, content_hash, plan
from captionkit.sources.windows import WindowSpan
from captionkit.video import DecodePool, Source, VideoError

_THUMBNAIL_WIDTH = 160
_MOST_THUMBNAILS = 2000


@dataclass(frozen=True)
class ClipRequest:
    """A clip to cut windows from, before its file is opened.

    ``span`` is in seconds, None for the whole file; ``windows`` are precut windows, if any.
    """

    file: Source = field(repr=False)
    path: str
    span: tuple[float, float] | None = None
    windows: tuple[WindowSpan, ...] = ()


@dataclass(frozen=True)
class VideoRequest:
    """A video's short name, and the clips to open."""

    name: str
    clips: tuple[ClipRequest, ...]


class Sources:
    """All windows of some videos.

    ``windows`` are in the order of the videos, ``by_key`` finds a window, ``problems`` has the reasons
    for skipped videos, clips and windows, by the name of the video.

    Parameters
    ----------
    videos
        Videos to open.
    recipe
        Settings of the windows.
    pool
        Processes that read the frames.
    problems
        Problems known before: the name of a video → the reason for skipping the video.

    Raises
    ------
    ValueError
        If no video has a window; the message lists the reasons.
    """

    def __init__(
        self,
        videos: Iterable[VideoRequest],
        recipe: Recipe,
        pool: DecodePool,
        problems: dict[str, str],
    ) -> None:
        self.pool = pool
        self.problems = dict(problems)
        self.by_key: dict[str, PlannedWindow] = {}
        with ThreadPoolExecutor(pool.workers) as threads:
            for name, windows, reasons in threads.map(lambda each: _opened(each, recipe, pool), videos):
                for window in windows:
                    self.by_key.setdefault(window.key, window)
                if reasons := [*reasons, *_repeats(windows, self.by_key)]:
                    self.problems[name] = "; ".join(reasons)
        self.windows = list(self.by_key.values())
        if not self.windows:
            listed = "; ".join(self.problems.values())
            raise ValueError(f"no video has a window that can be captioned: {listed}")
        self._by_name = {(each.video, each.number): each for each in self.windows}
        self._pictures: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, video: str, number: int) -> PlannedWindow:
        """Return a window by its video's short name and its number.

        Raises
        ------
        KeyError
            If the window does not exist.
        """
        if (video, number) not in self._by_name:
            raise KeyError(f"there is no window {number} of {video!r} in this session")
        return self._by_name[video, number]

    def thumbnail(self, key: str) -> bytes | None:
        """Return a small JPEG of a window's middle frame; None if the frame cannot be read."""
        window = self.by_key.get(key)
        if window is None:
            return None
        with self._lock:
            if key in self._pictures:
                self._pictures.move_to_end(key)
                return self._pictures[key]
        clip, shown = window.source, window.source.metadata
        middle = clip.first_frame + (window.start_frame + window.end_frame) // 2
        high = max(2, round(_THUMBNAIL_WIDTH * shown.height / shown.width))
        try:
            frames = self.pool.read(clip.file, [middle], (_THUMBNAIL_WIDTH, high))
        except VideoError:
            return None
        packed = io.BytesIO()
        Image.fromarray(frames.pixels[0].transpose(1, 2, 0)).save(packed, "JPEG", quality=80)
        with self._lock:
            self._pictures[key] = packed.getvalue()
            while len(self._pictures) > _MOST_THUMBNAILS:
                self._pictures.popitem(last=False)
        return packed.getvalue()

    def clip(self, window: PlannedWindow) -> bytes:
        """Return a window as an H.264 mp4 file, at most 640 pixels wide and without sound."""
        first = window.source.first_frame
        return self.pool.clip(window.source.file, first + window.start_frame, first + window.end_frame)


def _opened(
    video: VideoRequest, recipe: Recipe, pool: DecodePool
) -> tuple[str, list[PlannedWindow], list[str]]:
    """Return a video's windows, and the reasons for clips and windows that are left out."""
    windows: list[PlannedWindow] = []
    reasons: list[str] = []
    hashes: dict[Source, str] = {}
    first = 0
    for request in video.clips:
        try:
            clip = SourceClip.open(pool, request.file, request.path, request.span)
            spans = request.windows or clip.cut(recipe.window_size, recipe.remainder_threshold)
            if request.file not in hashes:
                hashes[request.file] = content_hash(request.file)
        except (ValueError, OSError) as error:
            reasons.append(str(error))
            continue
        # Number every window of the request, so that a window left out does not move the others.
        for number, span in enumerate(spans, first):
            try:
                clip.check(span)
            except ValueError as error:
                reasons.append(f"{request.path}, window {number}: {error}; left out")
            else:
                windows += plan(clip, [span], video.name, hashes[request.file], number)
        first += len(spans)
    return video.name, windows, reasons


def _repeats(windows: list[PlannedWindow], first: dict[str, PlannedWindow]) -> list[str]:
    """Return the reasons for windows of a video that are not the first ones with their key."""
    pairs = [(each, first[each.key]) for each in windows if first[each.key] is not each]
    if len(pairs) == len(windows):
        videos = dict.fromkeys(earlier.video for _, earlier in pairs)
        names = " and ".join(videos)
        return [f"has the same content as {names}, whose captions apply; left out"] if videos else []
    reasons = []
    for each, earlier in pairs:
        frames = f"window {each.number} (frames {each.start_frame} to {each.end_frame})"
        where = "" if earlier.video == each.video else f" of {earlier.video}"
        reasons.append(f"{frames} is the same as window {earlier.number}{where}; left out")
    return reasons
