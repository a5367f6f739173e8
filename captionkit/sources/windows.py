"""Compute the frames of each window, and the frames that the model sees; arithmetic only."""

from __future__ import annotations

import math
from dataclasses import dataclass

LEAST_FRAMES = 4
MOST_FRAMES = 768


@dataclass(frozen=True)
class WindowSpan:
    """First and last frame of a window, both inclusive."""

    start: int
    end: int

    def __len__(self) -> int:
        return max(0, self.end - self.start + 1)


def compute_windows(
    total_frames: int, window_size: int = 256, remainder_threshold: int = 128
) -> list[WindowSpan]:
    """Tile ``total_frames`` frames with windows of ``window_size``.

    Fewer than 4 frames make no window, at most ``window_size`` frames make one. A remainder of at least
    ``remainder_threshold`` frames becomes another window; a smaller remainder extends the last one.

    Raises
    ------
    ValueError
        If a number of frames or the threshold is negative, or a window has fewer than 4 frames.
    """
    if total_frames < 0:
        raise ValueError(f"total_frames is {total_frames}; a video has 0 frames or more")
    if window_size < LEAST_FRAMES:
        raise ValueError(f"window_size is {window_size}; a window needs at least {LEAST_FRAMES} frames")
    if remainder_threshold < 0:
        raise ValueError(f"remainder_threshold is {remainder_threshold}; give 0 or more frames")
    if total_frames < LEAST_FRAMES:
        return []
    if total_frames <= window_size:
        return [WindowSpan(0, total_frames - 1)]
    starts = list(range(0, total_frames - window_size + 1, window_size))
    remainder = total_frames - len(starts) * window_size
    # Require enough frames for sampling, even if the threshold is lower.
    if remainder and remainder >= max(remainder_threshold, LEAST_FRAMES):
        starts.append(len(starts) * window_size)
    ends = [*(start - 1 for start in starts[1:]), total_frames - 1]
    return [WindowSpan(start, end) for start, end in zip(starts, ends, strict=True)]


def sample_frames(span: WindowSpan, seconds: float, sampling_fps: float = 2.0) -> list[int]:
    """Return the frames of a window that the model sees, in the numbering of ``span``.

    Their number is even (the model reads frames in pairs), 4 to 768 and at most the window's length;
    they spread evenly from the first to the last frame.

    Parameters
    ----------
    span
        The window, of at least 4 frames.
    seconds
        Duration of the window.
    sampling_fps
        Wanted frames a second.

    Raises
    ------
    ValueError
        If the rate is not above 0, or the window has fewer than 4 frames.
    """
    if not (sampling_fps > 0 and math.isfinite(sampling_fps)):
        raise ValueError(f"sampling_fps is {sampling_fps}; give a number above 0")
    if len(span) < LEAST_FRAMES:
        raise ValueError(f"a window of {len(span)} frames cannot be sampled; {LEAST_FRAMES} needed")
    # Round at the ninth digit: 8.0 seconds may arrive as 7.999999999999999.
    wanted = math.floor(round(seconds * sampling_fps, 9))
    count = min(max(wanted, LEAST_FRAMES), MOST_FRAMES, len(span))
    count -= count % 2
    step = (len(span) - 1) / (count - 1)
    return [span.start + round(index * step) for index in range(count)]
