"""Comparing captions: word by word, run with run, and blind.

Imports diff, display and store; called by runs, sessions and widgets.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd

from captionkit.display import html as display
from captionkit.display.diff import Piece, overlap, wilson, word_diff
from captionkit.display import Images
from captionkit.store import Store

Choice = Literal["left", "right", "tie"]


class Comparable(Protocol):
    """What is compared: a `run.Run`."""

    id: int
    store: Store

    @property
    def final(self) -> pd.DataFrame:
        """One row a window."""

    def thumbnails(self, video: str, window: int) -> bytes | None:
        """A small JPEG of a window."""


@dataclass(frozen=True)
class Comparison:
    """Two captions of each window.

    ``table`` has the columns video, window, start_s, end_s, before, after, same, overlap, added and
    removed (words); ``names`` says what the two are. Shows itself as HTML in a notebook.
    """

    table: pd.DataFrame
    names: tuple[str, str]
    images: Images = field(repr=False, default=lambda video, window: None)

    @property
    def summary(self) -> dict[str, float]:
        """``windows``, ``same`` (share of equal texts), ``overlap`` (mean word overlap)."""
        count = len(self.table)
        return {
            "windows": count,
            "same": float(self.table["same"].mean()) if count else math.nan,
            "overlap": float(self.table["overlap"].mean()) if count else math.nan,
        }

    def diff(self, video: str, window: int) -> list[Piece]:
        """The word diff of one window."""
        found = self.table[(self.table["video"] == video) & (self.table["window"] == window)]
        if found.empty:
            raise KeyError(f"window {window} of {video!r} has no caption on both sides")
        return word_diff(found.iloc[0]["before"], found.iloc[0]["after"])

    def _repr_html_(self) -> str:
        facts = self.summary
        said = f"{facts['same']:.0%} the same, word overlap {facts['overlap']:.2f}"
        return display.comparison_html(self.table, self.names, said, self.images)


def compare_tables(
    one: pd.DataFrame,
    two: pd.DataFrame,
    names: tuple[str, str],
    images: Images = lambda video, window: None,
) -> Comparison:
    """Compare two tables of captions (as `Run.captions`, one row a window) by clip and window."""
    keys = ["clip", "window"]
    sides = [side.dropna(subset="text").drop_duplicates(keys) for side in (one, two)]
    both = sides[0].merge(sides[1][[*keys, "text"]], on=keys, suffixes=("_before", "_after"))
    table = both[["video", "window", "start_s", "end_s"]].copy()
    table["before"], table["after"] = both["text_before"], both["text_after"]
    pairs = list(zip(table["before"], table["after"], strict=True))
    table["same"] = [a == b for a, b in pairs]
    table["overlap"] = [overlap(a, b) for a, b in pairs]
    changes = [[piece for piece in word_diff(*pair) if piece.kind == "changed"] for pair in pairs]
    for name, side in (("added", "after"), ("removed", "before")):
        table[name] = [
            sum(len(re.findall(r"\w+", getattr(piece, side))) for piece in each) for each in changes
        ]
    return Comparison(table, names, images)


def compare(run_a: Comparable, run_b: Comparable) -> Comparison:
    """Final captions of two runs, on the windows that both have.

    Raises
    ------
    ValueError
        They have no window in common.
    """
    names = (f"run {run_a.id}", f"run {run_b.id}")
    found = compare_tables(run_a.final, run_b.final, names, run_a.thumbnails)
    if found.table.empty:
        raise ValueError(
            f"{names[0]} and {names[1]} have no captioned window in common; caption the same windows"
        )
    return found


def stability(table: pd.DataFrame) -> pd.DataFrame:
    """How alike the captions of each window are over repeats.

    One row a window: ``repeats``, ``same`` (share of pairs with equal text) and ``overlap`` (mean of
    all pairs).
    """
    rows = []
    for (video, window), group in table.dropna(subset="text").groupby(["video", "window"], sort=False):
        texts = list(group["text"])
        pairs = [(a, b) for place, a in enumerate(texts) for b in texts[place + 1 :]]
        rows.append(
            {
                "video": video,
                "window": window,
                "repeats": len(texts),
                "same": float(np.mean([a == b for a, b in pairs])) if pairs else math.nan,
                "overlap": float(np.mean([overlap(*pair) for pair in pairs])) if pairs else math.nan,
            }
        )
    return pd.DataFrame(rows, columns=["video", "window", "repeats", "same", "overlap"])


@dataclass(frozen=True)
class Pair:
    """Two captions side by side; which run is on which side is not told."""

    video: str
    window: int
    left: str
    right: str


class AB:
    """A blind comparison of two runs: pairs in random order with random sides.

    Choices are kept in the store of the first run; a second session on the same runs goes on.
    """

    def __init__(self, run_a: Comparable, run_b: Comparable, seed: int) -> None:
        if run_a.store.path.resolve() != run_b.store.path.resolve():
            raise ValueError("the two runs are in different stores; choices have to be kept in one")
        table = compare(run_a, run_b).table
        table = table[~table["same"]].reset_index(drop=True)
        if table.empty:
            raise ValueError("the two runs say the same of every window; there is nothing to choose")
        rng = np.random.default_rng(seed)
        self._runs = run_a, run_b
        self._flipped = rng.random(len(table)) < 0.5
        table, self._flipped = table.iloc[order := rng.permutation(len(table))], self._flipped[order]
        self.pairs = [
            Pair(row.video, row.window, *((row.after, row.before) if flip else (row.before, row.after)))
            for row, flip in zip(table.itertuples(), self._flipped, strict=True)
        ]
        keys = run_a.store.rows(
            "SELECT video, number, key FROM jobs JOIN windows ON key = window_key WHERE run = ?",
            (run_a.id,),
        )
        self._keys = {(video, number): key for video, number, key in keys}

    def __len__(self) -> int:
        return len(self.pairs)

    def choose(self, pair: int, choice: Choice) -> None:
        """Record which side of a pair is better: ``left``, ``right`` or ``tie``."""
        if choice not in ("left", "right", "tie"):
            raise ValueError(f"the choice is {choice!r}; give 'left', 'right' or 'tie'")
        if not 0 <= pair < len(self.pairs):
            raise IndexError(f"there is no pair {pair}; there are 0 to {len(self.pairs) - 1}")
        meant = "tie"
        if choice != "tie":
            meant = "a" if (choice == "left") != bool(self._flipped[pair]) else "b"
        shown = self.pairs[pair]
        key = self._keys[shown.video, shown.window]
        run_a, run_b = self._runs
        run_a.store.choose(run_a.id, run_b.id, key, meant)

    @property
    def open_pairs(self) -> list[int]:
        """The pairs without a choice."""
        made = {key for key, _ in self._choices()}
        return [
            place
            for place, pair in enumerate(self.pairs)
            if self._keys[pair.video, pair.window] not in made
        ]

    def _choices(self) -> list[tuple[Any, ...]]:
        run_a, run_b = self._runs
        query = "SELECT window_key, choice FROM choices WHERE run_a = ? AND run_b = ?"
        return run_a.store.rows(query, (run_a.id, run_b.id))

    @property
    def result(self) -> dict[str, Any]:
        """``a``, ``b`` and ``tie`` counts; ``win_rate`` of the first run with ``low`` and ``high``.

        A tie counts half; the interval is Wilson's, 95%.
        """
        made = [choice for _, choice in self._choices()]
        counts = {name: made.count(name) for name in ("a", "b", "tie")}
        asked = len(made)
        rate = (counts["a"] + counts["tie"] / 2) / asked if asked else math.nan
        low, high = wilson(rate, asked)
        return {**counts, "win_rate": rate, "low": low, "high": high}


def ab(run_a: Comparable, run_b: Comparable, seed: int = 0) -> AB:
    """Compare two runs blind: shuffled pairs of captions, choices kept, a win rate at the end.

    Raises
    ------
    ValueError
        No common window with different captions, or different stores.
    """
    return AB(run_a, run_b, seed)
