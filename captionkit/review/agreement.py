"""How far two people agree who rated the same captions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from captionkit.display import TextTable

COLUMNS = ("reviewer_a", "reviewer_b", "captions", "same", "within_one", "kappa")
_LEVELS = np.arange(1, 6)


def agreements(ratings: Iterable[tuple[int, int, str, int | None]]) -> pd.DataFrame:
    """Return one row for each two people with captions that both rated, with `COLUMNS`.

    ``captions`` is their number, ``same`` the share with equal ratings, ``within_one`` with ratings at
    most one star apart, and ``kappa`` Cohen's kappa with quadratic weights: 1 for equal ratings, 0 for
    what chance would give; NaN where each person gave one rating only, the same.

    Parameters
    ----------
    ratings
        Rows of `store.Reviews.ratings`: result, stage, person, rating.
    """
    by_person: dict[str, dict[tuple[int, int], int]] = {}
    for result, stage, person, rating in ratings:
        if rating is not None:
            by_person.setdefault(person, {})[result, stage] = rating
    rows = []
    for one, two in itertools.combinations(sorted(by_person), 2):
        common = by_person[one].keys() & by_person[two].keys()
        if not common:
            continue
        a, b = (np.array([by_person[who][each] for each in common]) for who in (one, two))
        apart = np.abs(a - b)
        rows.append(
            (one, two, len(common), (apart == 0).mean(), (apart <= 1).mean(), weighted_kappa(a, b))
        )
    return TextTable(rows, columns=list(COLUMNS))


def weighted_kappa(a: np.ndarray, b: np.ndarray) -> float:
    """Return Cohen's kappa of ratings 1 to 5, of shape (captions,), with quadratic weights."""
    shares = [np.array([(side == level).mean() for level in _LEVELS]) for side in (a, b)]
    weights = (_LEVELS[:, None] - _LEVELS[None, :]) ** 2
    by_chance = float((weights * np.outer(*shares)).sum())
    return 1 - float(((a - b) ** 2).mean()) / by_chance if by_chance else math.nan
