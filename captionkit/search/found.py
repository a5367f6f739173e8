"""What a search found: a table, a figure, the best setting for a cost, and sentences about them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from captionkit import display
from captionkit.run.run import Run
from captionkit.search.measured import Choice, HeldOut, Measured, mean, rank
from captionkit.search.paired import Paired, paired

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Found:
    """What a search found; a notebook shows sentence and table.

    ``stopped`` says whether the search was stopped or ran out of time before its last round, ``metric``
    and ``beside`` name the numbers, ``held_out`` has the leader's score on windows that decided
    nothing, None without such windows.
    """

    def __init__(
        self,
        measured: Sequence[Measured],
        metric: str,
        beside: str,
        *,
        held_out: HeldOut | None = None,
        stopped: bool = False,
        now: str = "",
        steps: tuple[int, int] = (1, 1),
    ) -> None:
        self.measured = list(measured)
        self.metric, self.beside = metric, beside
        self.held_out, self.stopped = held_out, stopped
        #: What is under way, in words; empty at the end.
        self.now = now
        #: Settings measured and planned, each round counting anew.
        self.steps = steps
        scored = [each for each in measured if each.scores]
        most = max((len(each.scores) for each in scored), default=0)
        last = [each for each in scored if len(each.scores) == most]
        self._lead = max(last, key=rank) if last else None

    @property
    def runs(self) -> dict[str, Run]:
        """The run of each setting, by name; each has all the setting's windows."""
        return {each.name: each.run for each in self.measured if each.run is not None}

    @property
    def leader(self) -> str:
        """Name and score of the leader so far."""
        if self._lead is None:
            return "none yet"
        return f"{self.lead.name}, {self.score(self.lead):.2f}"

    @property
    def prompts(self) -> list[str]:
        """The prompts of the front and of the leader, the best first: winners to propose from."""
        ranked = sorted([self.lead, *self.front], key=self.score, reverse=True)
        return list(dict.fromkeys(each.recipe.prompt for each in ranked))

    @property
    def lead(self) -> Measured:
        """The setting with the best mean of those with most windows; of equal ones, the cheapest.

        Raises
        ------
        ValueError
            If nothing was measured.
        """
        if self._lead is None:
            raise ValueError("nothing was measured; let the search run longer")
        return self._lead

    @property
    def first(self) -> Measured:
        """The search's first setting that was measured, which sentences compare with."""
        return next((each for each in self.measured if each.scores), self.lead)

    def difference(self, one: Measured, two: Measured) -> Paired:
        """Compare two settings on their common windows; positive if the first is better."""
        common = sorted(one.scores.keys() & two.scores.keys())
        return paired(np.array([one.scores[key] - two.scores[key] for key in common], dtype=float))

    def score(self, each: Measured) -> float:
        """Return a setting's score on the leader's windows.

        Of a setting with fewer windows, it is the leader's score less their mean difference on their
        common windows, so that easy first windows favour nobody.
        """
        if not each.scores:
            return math.nan
        return mean(self.lead.scores) - self.difference(self.lead, each).mean

    @property
    def table(self) -> pd.DataFrame:
        """One row for each setting, the best first.

        Columns: setting, the values that vary, ``windows``, the metric and the one beside it (means a
        caption; see `score`), ``behind`` with ``low`` and ``high`` (how far behind the leader, with its
        95% interval on common windows), ``verdict``, ``words``, ``tokens`` and ``seconds`` (a window),
        ``front`` (nothing measured is better and cheaper), failed, run, error.
        """
        front = {each.name for each in self.front}
        rows = []
        for each in self.measured:
            behind = self.difference(self.lead, each) if each.scores else None
            rows.append(
                {
                    "setting": each.name,
                    **each.setting.values,
                    "windows": len(each.scores),
                    self.metric: self.score(each) if each.scores else math.nan,
                    self._beside_column: mean(each.beside),
                    "behind": behind.mean if behind else math.nan,
                    "low": _finite(behind.low) if behind else math.nan,
                    "high": _finite(behind.high) if behind else math.nan,
                    "verdict": self._verdict(each),
                    "words": each.words,
                    "tokens": each.tokens,
                    "seconds": each.seconds,
                    "front": each.name in front,
                    "failed": each.failed,
                    "run": each.run.id if each.run else None,
                    "error": each.error,
                }
            )
        made = pd.DataFrame(rows)
        made["run"] = made["run"].astype("Int64")
        order = pd.DataFrame(
            {
                "windows": -made["windows"],
                # Equal means differ in their last digit.
                "score": -made[self.metric].round(9),
                "tokens": made["tokens"],
            }
        )
        order = order.sort_values(list(order), kind="stable")
        return made.loc[order.index].reset_index(drop=True)

    @property
    def _beside_column(self) -> str:
        # The column words is there for every search.
        return "words beside" if self.beside == "words" else self.beside

    def _verdict(self, each: Measured) -> str:
        if not each.scores:
            return "could not run" if each.error else "not measured"
        if each is self.lead:
            return "leads"
        behind = self.difference(self.lead, each)
        return f"worse on {behind.windows}" if behind.low > 0 else f"can't tell on {behind.windows}"

    @property
    def front(self) -> list[Measured]:
        """Settings that nothing measured beats in quality for as few tokens, the cheapest first."""
        scored = [each for each in self.measured if each.scores]
        found: list[Measured] = []
        for each in sorted(scored, key=lambda each: (each.tokens, -self.score(each))):
            if not found or self.score(each) > self.score(found[-1]):
                found.append(each)
        return found

    @property
    def tied(self) -> list[str]:
        """Settings with all windows that can't be told from the leader."""
        lead = self.lead
        return [
            each.name
            for each in self.measured
            if each is not lead
            and len(each.scores) == len(lead.scores)
            and not self.difference(lead, each).told
        ]

    @property
    def best(self) -> Choice:
        """The leader; its sentence says what it can't be told from."""
        return self._choice(self.lead, self.sentence)

    def best_under(self, tokens: float | None = None, seconds: float | None = None) -> Choice:
        """Return the best setting that costs at most so many tokens, or seconds, a window.

        Raises
        ------
        ValueError
            If no setting is as cheap; the message names the cheapest.
        """
        if tokens is None and seconds is None:
            raise ValueError("give tokens= or seconds=, the most that a window may cost")
        scored = [each for each in self.measured if each.scores]
        fitting = [
            each
            for each in scored
            if (tokens is None or each.tokens <= tokens)
            and (seconds is None or each.seconds <= seconds)
        ]
        if not fitting:
            least = min(scored, key=lambda each: each.tokens, default=self.lead)
            raise ValueError(
                f"no setting is as cheap; the cheapest, {least.name}, takes {least.tokens:.0f} tokens "
                f"and {least.seconds:.2g} s a window"
            )
        limits = [f"{tokens:g} tokens"] if tokens is not None else []
        limits += [f"{seconds:g} s"] if seconds is not None else []
        chosen = max(fitting, key=self.score)
        return self._choice(chosen, f"Best within {' and '.join(limits)} a window: {self.why(chosen)}")

    def cheapest_at(self, quality: float) -> Choice:
        """Return the setting with the fewest tokens whose score is at least ``quality``.

        Raises
        ------
        ValueError
            If no setting is as good; the message has the best score.
        """
        fitting = [each for each in self.measured if each.scores and self.score(each) >= quality]
        if not fitting:
            raise ValueError(
                f"no setting reaches {quality:g}; the best, {self.lead.name}, has "
                f"{self.score(self.lead):.2f}"
            )
        chosen = min(fitting, key=lambda each: each.tokens)
        return self._choice(chosen, f"Cheapest from {quality:g} on: {self.why(chosen)}")

    def choice(self, name: str) -> Choice:
        """Return a setting by its name, with a sentence.

        Raises
        ------
        KeyError
            If there is no measured setting of this name.
        """
        for each in self.measured:
            if each.name == name and each.scores:
                return self._choice(each, self.why(each))
        raise KeyError(f"no setting {name!r} was measured")

    def _choice(self, each: Measured, sentence: str) -> Choice:
        score = self.score(each)
        return Choice(each.name, each.recipe, each.run, score, each.tokens, each.seconds, sentence)

    def why(self, each: Measured) -> str:
        """Explain a setting in a sentence, compared with the first one of the search."""
        first = self.first
        own = f"{each.name}: {self.metric} {self.score(each):.2f} for {_price(each)}"
        few = "" if len(each.scores) == len(self.lead.scores) else f", on {len(each.scores)} windows"
        if each is first:
            return f"{own}{few}."
        return f"{own}{few}. Against {first.name}: {self._against(each, first)}."

    def _against(self, each: Measured, other: Measured) -> str:
        gain = self.difference(each, other)
        times = f"{each.tokens / other.tokens:.1f}x the tokens" if other.tokens else ""
        if not gain.told:
            return f"can't be told apart on {gain.windows} windows ({gain}), for {times}"
        how = "more" if gain.mean > 0 else "less"
        return f"{abs(gain.mean):.2f} {how} {self.metric} a caption for {times} ({gain})"

    @property
    def sentence(self) -> str:
        """The result in words."""
        if self._lead is None:
            return "Nothing is measured yet."
        lead, count = self.lead, len(self.lead.scores)
        tied = [each for each in self.measured if each.name in self.tied]
        if not tied:
            text = f"Best on {count} windows: {self.why(lead)}"
        else:
            cheap = min([lead, *tied], key=lambda each: each.tokens)
            names = ", ".join(each.name for each in tied)
            both = f"{lead.name} and {names} apart" if len(tied) == 1 else f"{lead.name} from {names}"
            text = f"Can't tell {both} on {count} windows. "
            nearest = max(tied, key=self.score)
            text += f"{self.why(lead)} It is ahead of {nearest.name} by "
            ahead = self.difference(lead, nearest)
            text += f"{ahead.mean:.2f} ({ahead}). "
            text += f"The cheapest of them is {cheap.name}, for {_price(cheap)}."
        if self.held_out is not None:
            text += f" {self.held_out}"
        return f"{text} Stopped early: more windows may change this." if self.stopped else text

    def figure(self) -> Figure:
        """Draw quality against tokens a window, with names, the front, and intervals to the leader."""
        return display.search_figure(self.table, self.metric)

    def __repr__(self) -> str:
        return f"<Found: {self.sentence}>"

    def table_html(self) -> str:
        """Return the figures of `table` as HTML, without the values that names have already."""
        shown = [
            "setting", "windows", self.metric, self._beside_column, "behind", "low", "high", "verdict",
            "words", "tokens", "seconds", "front",
        ]  # fmt: skip
        table = self.table
        shown += [name for name in ("failed", "error") if table[name].any()]
        return display.frame_html(table[shown])

    def _repr_html_(self) -> str:
        said = f"<p>{display.escape(self.sentence)}</p>"
        return said if self._lead is None else f"{said}{self.table_html()}"


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.nan


def _price(each: Measured) -> str:
    seconds = "" if math.isnan(each.seconds) else f" and {each.seconds:.2g} s"
    return f"{each.tokens:.0f} tokens{seconds} a window"
