"""What a judge chose between two captions of each window, and how far to trust it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from captionkit.display import wilson

CHOICES = ("a", "b", "tie")
# Difference of probabilities below which a pair is a tie.
_EVEN = 0.05
# Kappa from which agreement counts as enough.
_ENOUGH = 0.4


def combine(
    first: Mapping[str, float] | str | None, second: Mapping[str, float] | str | None
) -> tuple[str | None, dict[str, float]]:
    """Return the choice of a judge that saw a pair in both orders, and its probabilities.

    Each order is given as probabilities of a, b and tie, or as the answer of a judge without any. A
    judge that prefers a place contradicts itself, which is a tie. None if an order has no answer.
    """
    if first is None or second is None:
        return None, {}
    orders = [
        each if isinstance(each, Mapping) else {name: float(name == each) for name in CHOICES}
        for each in (first, second)
    ]
    shares = {name: (orders[0][name] + orders[1][name]) / 2 for name in CHOICES}
    if abs(shares["a"] - shares["b"]) <= _EVEN or shares["tie"] > max(shares["a"], shares["b"]):
        return "tie", shares
    return ("a" if shares["a"] > shares["b"] else "b"), shares


def tally(table: pd.DataFrame) -> dict[str, Any]:
    """Return ``a``, ``b``, ``tie``, ``win_rate`` with ``low`` and ``high``, and the bias for a place.

    ``first_place`` is the share of answers for the caption that was shown first among those that are
    no tie, with ``first_low`` and ``first_high``: 0.5 without a bias. A tie counts half; intervals are
    Wilson's, 95%.

    Parameters
    ----------
    table
        Columns ``choice``, and ``first`` and ``second``: what was chosen with a and with b shown first.
    """
    made = list(table["choice"].dropna())
    counts = {name: made.count(name) for name in CHOICES}
    rate = (counts["a"] + counts["tie"] / 2) / len(made) if made else math.nan
    low, high = wilson(rate, len(made))
    shown = [each == "a" for each in table["first"] if each in ("a", "b")]
    shown += [each == "b" for each in table["second"] if each in ("a", "b")]
    place = sum(shown) / len(shown) if shown else math.nan
    place_low, place_high = wilson(place, len(shown))
    return {
        **counts, "win_rate": rate, "low": low, "high": high,
        "first_place": place, "first_low": place_low, "first_high": place_high,
    }  # fmt: skip


@dataclass(frozen=True)
class Calibration:
    """How far a judge agrees with people on the pairs that both chose.

    Parameters
    ----------
    pairs, same
        Pairs with both choices, and those with equal ones.
    kappa, low, high
        Cohen's kappa, 1 for equal choices and 0 for what chance gives, with a 95% interval: Wilson's of
        the share of equal choices, at the same chance. NaN without pairs, or if both always chose the
        same one.
    """

    pairs: int
    same: int
    kappa: float
    low: float
    high: float

    @property
    def trusted(self) -> bool | None:
        """Whether the interval lies above 0.4 or below; None if that is not known yet."""
        if self.low >= _ENOUGH:
            return True
        return False if self.high < _ENOUGH else None

    def __str__(self) -> str:
        if not self.pairs:
            return "Not known: nobody has chosen between these runs yet; ck.ab asks a person"
        kappa = f"{self.kappa:.2f}, {self.low:.2f} to {self.high:.2f}"
        if math.isnan(self.kappa):
            kappa = "undefined: all choices are the same"
        pairs, times = (
            f"{count} {name}{'' if count == 1 else 's'}"
            for count, name in ((self.pairs, "pair"), (self.same, "time"))
        )
        facts = f"on {pairs} it chose as people did {times} (kappa {kappa})"
        match self.trusted:
            case True:
                return f"Trust it: {facts}"
            case False:
                return f"Don't trust it: {facts}"
            case _:
                return f"Not known yet: {facts}; choose more pairs with ck.ab"


def calibrate(judge: Mapping[str, str], people: Mapping[str, str]) -> Calibration:
    """Return the agreement of two sets of choices, each by window key."""
    both = [key for key in judge if key in people]
    one, two = [judge[key] for key in both], [people[key] for key in both]
    same = sum(a == b for a, b in zip(one, two, strict=True))
    chance = _chance(one, two)
    if not both or chance == 1:
        return Calibration(len(both), same, math.nan, math.nan, math.nan)
    share = same / len(both)
    shares = (share, *wilson(share, len(both)))
    kappa, low, high = (max(-1.0, (each - chance) / (1 - chance)) for each in shares)
    return Calibration(len(both), same, kappa, low, high)


def _chance(one: Sequence[str], two: Sequence[str]) -> float:
    """Return the share of equal choices that chance gives, from how often each is made."""
    if not one:
        return 1.0
    return sum(one.count(name) * two.count(name) for name in CHOICES) / len(one) ** 2
