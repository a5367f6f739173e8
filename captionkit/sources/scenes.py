"""Windows by scenes: shots found by PySceneDetect, long ones cut into windows, short ones joined.

The detector sees our own exact frames, so a cut is a frame number like any other. Needs the extra
``scenes``.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from captionkit.recipe import LEAST_FRAMES
from captionkit.sources.windows import WindowSpan, tile
from captionkit.video import DecodePool, Source, VideoError
from captionkit.video.cache import file_cache, file_stamp
from captionkit.video.metadata import VideoMetadata

#: Shots shorter than this, in seconds, are joined to the next one.
SHORTEST_S = 1.0
# PySceneDetect compares pictures of about this width.
_WIDTH = 192
# 512 pictures of 192 x 108 are 32 MB.
_AT_ONCE = 512


def check_scenes() -> None:
    """Refuse to look for scenes without PySceneDetect.

    Raises
    ------
    ValueError
        If the package is not installed.
    """
    if importlib.util.find_spec("scenedetect") is None:
        raise ValueError('cut="scenes" needs PySceneDetect: pip install "captionkit[scenes]"')


def scene_windows(
    starts: Sequence[int],
    times: NDArray[np.float64],
    duration: float,
    window_size: int,
    remainder_threshold: int,
    window_seconds: float | None = None,
) -> list[WindowSpan]:
    """Return windows that keep to shots.

    Parameters
    ----------
    starts
        First frames of the shots, ascending, the first one 0.
    times
        Time of each frame in seconds, of shape (frames,).
    duration
        End of the last frame in seconds.
    window_size, remainder_threshold, window_seconds
        How a longer shot is cut, see `tile`.
    """
    count = len(times)
    if count < LEAST_FRAMES:
        return []
    ends = np.append(times, duration)
    joined: list[int] = []
    for start in starts:
        # A shot joins the one before it while that one is short.
        if not joined or _is_long(joined[-1], start, ends):
            joined.append(start)
    if len(joined) > 1 and not _is_long(joined[-1], count, ends):
        joined.pop()
    windows = []
    for start, past in zip(joined, [*joined[1:], count], strict=True):
        spans = tile(times[start:past], window_size, remainder_threshold, window_seconds)
        windows += [WindowSpan(start + each.start, start + each.end) for each in spans]
    return windows


def _is_long(start: int, past: int, ends: NDArray[np.float64]) -> bool:
    return past - start >= LEAST_FRAMES and bool(ends[past] - ends[start] >= SHORTEST_S - 1e-6)


def shot_starts(
    pool: DecodePool,
    file: Source,
    metadata: VideoMetadata,
    on_share: Callable[[float], bool] = lambda share: True,
) -> list[int]:
    """Return the first frames of a film's shots, from the cache of files or found now.

    Parameters
    ----------
    pool, file, metadata
        The film. Frames that cannot be read have no cut.
    on_share
        Called with the share that is done; False stops.

    Raises
    ------
    ValueError
        If PySceneDetect is not installed, ``on_share`` stopped the search, or the film has changed.
    """
    check_scenes()
    kind = f"scenes, {importlib.metadata.version('av')}"
    stamp = "" if isinstance(file, bytes) else file_stamp(file)
    if not isinstance(file, bytes) and (kept := file_cache().get(file, kind, stamp)):
        found: list[int] = json.loads(kept)
        return found
    starts = _found(pool, file, metadata, on_share)
    if not isinstance(file, bytes):
        file_cache().put(file, kind, stamp, json.dumps(starts).encode())
    return starts


def _found(
    pool: DecodePool, file: Source, metadata: VideoMetadata, on_share: Callable[[float], bool]
) -> list[int]:
    from scenedetect.common import FrameTimecode
    from scenedetect.detectors import AdaptiveDetector

    count, fps = metadata.num_frames, metadata.fps
    size = (_WIDTH, max(2, round(_WIDTH * metadata.height / metadata.width / 2) * 2))
    detector = AdaptiveDetector(min_scene_len=max(LEAST_FRAMES, round(fps / 2)))
    starts = {0}
    timecode = FrameTimecode(0, fps=fps)
    for begin in range(0, count, _AT_ONCE):
        if not on_share(begin / count):
            raise ValueError("the search for scenes was stopped")
        numbers = list(range(begin, min(count, begin + _AT_ONCE)))
        try:
            pixels = pool.read(file, numbers, size, metadata.identity).pixels
        except VideoError:
            if not isinstance(file, bytes) and pool.probe(file).identity != metadata.identity:
                raise
            continue
        for number, rgb in zip(numbers, pixels, strict=True):
            timecode = FrameTimecode(number, fps=fps)
            image = np.ascontiguousarray(rgb[::-1].transpose(1, 2, 0))
            starts |= {cut.frame_num for cut in detector.process_frame(timecode, image)}
    starts |= {cut.frame_num for cut in detector.post_process(timecode)}
    return sorted(starts)
