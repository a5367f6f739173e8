"""Blind A/B comparison of two runs, without the names of the runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from captionkit.display import escape, table_html, wilson
from captionkit.review.comparison import Comparable, compare

Choice = Literal["left", "right", "tie"]


@dataclass(frozen=True)
class Pair:
    """Two captions of a window side by side, without the names of their runs."""

    video: str
    window: int
    key: str
    left: str
    right: str


class AB:
    """A blind comparison of two runs: pairs in random order with random sides.

    The store of the first run keeps the choices; a second session on the same runs resumes.
    """

    def __init__(self, run_a: Comparable, run_b: Comparable, seed: int) -> None:
        if run_a.store.path.resolve() != run_b.store.path.resolve():
            raise ValueError("the two runs are in different stores; choices need a common store")
        table = compare(run_a, run_b).table
        table = table[~table["same"]]
        if table.empty:
            raise ValueError(
                "the two runs have equal captions for all windows; there is nothing to choose"
            )
        rng = np.random.default_rng(seed)
        self._runs = run_a, run_b
        flipped = rng.random(len(table)) < 0.5
        order = rng.permutation(len(table))
        table, self._flipped = table.iloc[order], flipped[order]
        self.pairs = [
            Pair(
                row.video, row.window, row.key,
                *((row.after, row.before) if flip else (row.before, row.after)),
            )
            for row, flip in zip(table.itertuples(), self._flipped, strict=True)
        ]  # fmt: skip

    def __len__(self) -> int:
        return len(self.pairs)

    def __repr__(self) -> str:
        return f"<AB: {self._summary()}>"

    def _repr_html_(self) -> str:
        """Show the next pair without a choice, and how to choose."""
        text = self._summary()
        if not (left := self.open_pairs):
            return f"<div>{escape(text)}</div>"
        pair = self.pairs[left[0]]
        hint = f'; choose with .choose({left[0]}, "left"), "right" or "tie"'
        shown = [f"{escape(pair.video)} {pair.window}", escape(pair.left), escape(pair.right)]
        return table_html(["window", "left", "right"], [shown], text + hint)

    def _summary(self) -> str:
        run_a, run_b = self._runs
        facts, count = self.result, len(self.pairs)
        names = f"run {run_a.id} and run {run_b.id}, {count} pair{'' if count == 1 else 's'}"
        if len(self.open_pairs) == count:
            return f"{names}, none chosen yet"
        return (
            f"{names}, {len(self.open_pairs)} open; run {run_a.id} better {facts['a']} times, "
            f"run {run_b.id} {facts['b']} times, {facts['tie']} ties: run {run_a.id} wins "
            f"{facts['win_rate']:.0%} ({facts['low']:.0%} to {facts['high']:.0%})"
        )

    def choose(self, pair: int, choice: Choice) -> None:
        """Record which side of a pair is better: ``left``, ``right`` or ``tie``."""
        if choice not in ("left", "right", "tie"):
            raise ValueError(f"the choice is {choice!r}; give 'left', 'right' or 'tie'")
        if not 0 <= pair < len(self.pairs):
            raise IndexError(f"there is no pair {pair}; there are 0 to {len(self.pairs) - 1}")
        better = "tie"
        if choice != "tie":
            better = "a" if (choice == "left") != bool(self._flipped[pair]) else "b"
        run_a, run_b = self._runs
        run_a.store.reviews.choose(run_a.id, run_b.id, self.pairs[pair].key, better)

    @property
    def open_pairs(self) -> list[int]:
        """The pairs without a choice."""
        made = self._choices()
        return [index for index, pair in enumerate(self.pairs) if pair.key not in made]

    def _choices(self) -> dict[str, str]:
        run_a, run_b = self._runs
        return run_a.store.reviews.choices(run_a.id, run_b.id)

    @property
    def result(self) -> dict[str, Any]:
        """``a``, ``b`` and ``tie`` counts; ``win_rate`` of the first run with ``low`` and ``high``.

        A tie counts half; the interval is Wilson's, 95%.
        """
        made = list(self._choices().values())
        counts = {name: made.count(name) for name in ("a", "b", "tie")}
        asked = len(made)
        rate = (counts["a"] + counts["tie"] / 2) / asked if asked else math.nan
        low, high = wilson(rate, asked)
        return {**counts, "win_rate": rate, "low": low, "high": high}
