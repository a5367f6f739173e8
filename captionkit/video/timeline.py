"""Times of frames from timestamps that may be missing, repeated, absurd, or of several clocks.

Arithmetic only. A wrong timestamp is mended alone; the others keep their values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Longest row of wrong timestamps; more are another clock.
_MOST_WRONG = 3
# ffmpeg takes such a jump in a broadcast format for another clock.
_BROADCAST_JUMP_S = 10.0
# In files a long gap may be a still; more than a day is not believed.
_JUMP_S = 86_400.0
# Share of wrong timestamps from which none are believed.
_UNUSABLE = 0.2


def largest_gap(times: NDArray[np.float64], broadcast: bool) -> float:
    """Return the seconds between two frames from which the clock must have jumped."""
    limit = _BROADCAST_JUMP_S if broadcast else _JUMP_S
    gaps = np.diff(times)
    gaps = gaps[gaps > 0]
    return max(limit, 20 * float(np.median(gaps))) if len(gaps) else limit


def mend(
    times: NDArray[np.float64], frame_s: float, broadcast: bool = False
) -> tuple[NDArray[np.float64], str | None]:
    """Return ascending times of frames that are in the order shown.

    Parameters
    ----------
    times
        Seconds from the timestamps of shape (frames,); NaN where one is missing.
    frame_s
        Seconds of a frame by the stream's rate.
    broadcast
        Whether a jump of ten seconds is a new clock (as in joined transport streams).

    Returns
    -------
    tuple
        Seconds, ascending; and what was mended, or None.
    """
    times = times.astype(np.float64).copy()
    known = np.flatnonzero(~np.isnan(times))
    missing = len(times) - len(known)
    if len(known) <= len(times) * (1 - _UNUSABLE):
        return np.arange(
            len(times), dtype=np.float64
        ) * frame_s, "timestamps are missing; times follow the frame rate"
    values = times[known]
    gaps = np.diff(values)
    step = float(np.median(gaps[gaps > 0])) if (gaps > 0).any() else frame_s
    limit = largest_gap(values, broadcast)
    wrong = np.zeros(len(values), bool)
    clocks, at, closed = 0, 1, 0.0
    while True:
        good = np.flatnonzero(~wrong)
        gaps = np.diff(values[good])
        breaks = np.flatnonzero((gaps <= 0) | (gaps > limit))
        if not len(breaks):
            break
        if wrong.sum() + clocks > max(_MOST_WRONG, _UNUSABLE * len(values)):
            return (
                np.arange(len(times), dtype=np.float64) * frame_s,
                "timestamps contradict each other; times follow the frame rate",
            )
        at = int(breaks[0]) + 1
        outliers = _outliers(values[good], at, limit)
        if len(outliers):
            wrong[good[outliers]] = True
            continue
        closed += max(0.0, float(values[good[at]] - values[good[at - 1]]))
        values[good[at] :] += values[good[at - 1]] + step - values[good[at]]
        clocks += 1
    times[known] = np.where(wrong, np.nan, values)
    mended = missing + int(wrong.sum())
    notes = []
    if mended:
        notes.append(f"{mended} of {len(times)} timestamps are missing, repeated or absurd")
    if clocks:
        gap = f" ({closed:.1f} s without a frame are closed)" if closed else ""
        notes.append(f"the clock jumps {clocks} times{gap}")
    return _filled(times, step), "; ".join(notes) or None


def _outliers(values: NDArray[np.float64], at: int, limit: float) -> NDArray[np.int64]:
    """Return the few values around a break before index ``at`` that disagree with their neighbours.

    None of them if the break is a change of the clock.
    """
    before, after = values[at - 1], values[at]
    if after > before:
        # A jump ahead: find out whether the clock comes back, or the file begins or ends there.
        later = values[at : at + _MOST_WRONG + 1]
        back = np.flatnonzero((later > before) & (later - before <= limit))
        if len(back):
            return np.arange(at, at + int(back[0]))
        if len(values) - at <= _MOST_WRONG < at:
            return np.arange(at, len(values))
        if at <= _MOST_WRONG < len(values) - at:
            return np.arange(at)
        return np.arange(0)
    tail = _run(values[:at][::-1] >= after)
    head = _run(values[at:] <= before)
    if min(tail, head) > _MOST_WRONG:
        return np.arange(0)
    if tail == head == 1 and at >= 2 and at + 1 < len(values):
        # Of two, the one that is farther from its other neighbour is wrong.
        earlier_fits = before - values[at - 2] <= values[at + 1] - after
        return np.array([at if earlier_fits else at - 1])
    return np.arange(at - tail, at) if tail < head else np.arange(at, at + head)


def _run(mask: NDArray[np.bool_]) -> int:
    """Return how many values at the beginning are true."""
    return len(mask) if mask.all() else int(np.argmin(mask))


def _filled(times: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Put missing times between their neighbours, evenly; outside, a step apart."""
    indexes = np.arange(len(times))
    known = np.flatnonzero(~np.isnan(times))
    filled = np.interp(indexes, known, times[known])
    first, last = known[0], known[-1]
    filled[:first] = times[first] - (first - indexes[:first]) * step
    filled[last + 1 :] = times[last] + (indexes[last + 1 :] - last) * step
    return filled


def ascends(ordered: NDArray[np.int64], depth: int) -> bool:
    """Whether timestamps in the order of decoding can be shown with ``depth`` frames held back.

    Parameters
    ----------
    ordered
        Timestamps in the order of decoding, all different.
    depth
        Most frames that come before one which is shown earlier.
    """
    return held_back(np.argsort(ordered, kind="stable")) <= depth


def held_back(shown: NDArray[np.int64]) -> int:
    """Return how many frames a decoder holds back, at most, to show these packets in this order."""
    place = np.empty(len(shown), np.int64)
    place[np.argsort(shown, kind="stable")] = np.arange(len(shown))
    # A frame that is shown at place n has at most n + depth frames before it in the stream.
    return int((place - np.arange(len(shown))).max(initial=0))
