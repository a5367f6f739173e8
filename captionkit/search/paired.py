"""Paired comparison of two settings on the same windows."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Up to so many windows all subsets are looked at (4,095), beyond that so many random ones.
_ALL_SUBSETS, _RANDOM_SUBSETS = 12, 3999
_EITHER_SIDE = 0.025


@dataclass(frozen=True)
class Paired:
    """The mean difference of two settings, with its 95% interval.

    Parameters
    ----------
    windows
        Windows that both have a score for.
    mean, low, high
        Mean of the differences and its interval; infinite below six windows, which can show nothing.
    """

    windows: int
    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        if not math.isfinite(self.low):
            return f"{self.windows} windows are too few for an interval"
        return f"95% interval {self.low:.2f} to {self.high:.2f}"

    @property
    def told(self) -> bool:
        """Whether the two can be told apart: the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def paired(differences: NDArray[np.float64]) -> Paired:
    """Compare two settings by the differences of their scores, of shape (windows,).

    The interval is Hartigan's: means of subsets of the differences cut the line into pieces that hold
    the true mean equally often. It assumes windows independent of each other and differences symmetric
    about their mean, nothing about their size. It leaves out zero exactly where a test that flips the
    signs of the differences rejects at 5%. Hartigan, J. A. (1969), Using subsample values as typical
    values, JASA 64.
    """
    count = len(differences)
    if not count:
        return Paired(0, math.nan, -math.inf, math.inf)
    if count <= _ALL_SUBSETS:
        chosen = np.array(list(itertools.product((0, 1), repeat=count))[1:], dtype=float)
    else:
        # A fixed seed, so that the same captions give the same answer.
        chosen = np.random.default_rng(0).integers(0, 2, (_RANDOM_SUBSETS, count)).astype(float)
        chosen = chosen[chosen.any(axis=1)]
    means = np.sort(chosen @ differences / chosen.sum(axis=1))
    outside = math.floor(_EITHER_SIDE * (len(means) + 1))
    low, high = (means[outside - 1], means[-outside]) if outside else (-math.inf, math.inf)
    return Paired(count, float(differences.mean()), float(low), float(high))
