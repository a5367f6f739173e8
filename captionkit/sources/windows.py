"""Compute the frames of each window, and the frames that the model sees; arithmetic only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from captionkit.recipe import LEAST_FRAMES, MOST_FRAMES

# At more uneven times frames are sampled by time.
_UNEVEN_S = 0.1


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

    The reference's rule counts frames, whatever their times: at a variable rate 256 frames may last a
    second or an hour. `windows_of_seconds` cuts by time.

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


def windows_of_seconds(
    times: NDArray[np.float64], window_seconds: float, remainder_seconds: float
) -> list[WindowSpan]:
    """Tile frames with windows of a length in seconds, by the frames' times.

    A window begins with the first frame at or after each multiple of ``window_seconds`` from the first
    frame; a stretch of fewer than 4 frames joins the window before it, at the beginning the one after
    it. A remainder shorter than ``remainder_seconds`` extends the last window.

    Parameters
    ----------
    times
        Seconds of each frame, of shape (frames,), ascending.
    window_seconds
        Length of a window.
    remainder_seconds
        Least length of the last window.

    Raises
    ------
    ValueError
        If the length is not above 0.
    """
    if not (window_seconds > 0 and math.isfinite(window_seconds)):
        raise ValueError(f"window_seconds is {window_seconds}; give a number above 0")
    if len(times) < LEAST_FRAMES:
        return []
    # Round: 0.3 of 0.1 s each may arrive as 2.9999999999999996.
    parts = np.floor(np.round((times - times[0]) / window_seconds, 6)).astype(np.int64)
    starts = [0, *(np.flatnonzero(np.diff(parts)) + 1).tolist()]
    step = float(np.median(np.diff(times)))
    if len(starts) > 1 and times[-1] + step - times[starts[-1]] < remainder_seconds - 1e-6:
        starts.pop()
    kept = [0]
    for start in starts[1:]:
        if start - kept[-1] >= LEAST_FRAMES and len(times) - start >= LEAST_FRAMES:
            kept.append(start)
    ends = [*(start - 1 for start in kept[1:]), len(times) - 1]
    return [WindowSpan(start, end) for start, end in zip(kept, ends, strict=True)]


def tile(
    times: NDArray[np.float64],
    window_size: int,
    remainder_threshold: int,
    window_seconds: float | None = None,
) -> list[WindowSpan]:
    """Tile frames with windows of ``window_size`` frames, or of ``window_seconds``.

    ``remainder_threshold`` then stands for the same share of the seconds as of the frames.
    """
    if window_seconds is None:
        return compute_windows(len(times), window_size, remainder_threshold)
    least = window_seconds * min(1.0, remainder_threshold / window_size)
    return windows_of_seconds(times, window_seconds, least)


def is_constant_rate(times: NDArray[np.float64]) -> bool:
    """Whether frames come so evenly that their numbers tell their times, to a frame and 0.1 s."""
    if len(times) < LEAST_FRAMES:
        return True
    even = np.linspace(times[0], times[-1], len(times))
    mean = (times[-1] - times[0]) / (len(times) - 1)
    return bool(np.abs(times - even).max() <= min(mean, _UNEVEN_S))


def sample_frames(
    span: WindowSpan,
    seconds: float,
    sampling_fps: float = 2.0,
    times: NDArray[np.float64] | None = None,
) -> list[int]:
    """Return the frames of a window that the model sees, in the numbering of ``span``.

    Their number is even (the model reads frames in pairs), 4 to 768 and at most the window's length;
    they spread evenly from the first to the last frame. At a variable rate they spread evenly over
    the time: frame ``i`` of ``n`` is the one on screen at ``i * seconds / n``, so that a frame that is
    shown for long comes several times. Models that take the steps between frames as equal (Qwen2.5-VL)
    then see at each of their times what the film shows.

    Parameters
    ----------
    span
        The window, of at least 4 frames.
    seconds
        Duration of the window.
    sampling_fps
        Wanted frames a second.
    times
        Seconds of the window's frames, of shape (frames,); None for a constant rate.

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
    # The end counts: the last frame may be a still that stays for long.
    if times is not None and not is_constant_rate(np.append(times, times[0] + seconds)):
        moments = times[0] + np.arange(count) * (seconds / count)
        # A frame that comes a rounded microsecond later than its moment is on screen.
        on_screen = np.searchsorted(times, moments + 1e-6, side="right") - 1
        return [span.start + int(index) for index in on_screen]
    step = (len(span) - 1) / (count - 1)
    return [span.start + round(index * step) for index in range(count)]
