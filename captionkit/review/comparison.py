"""Compare two captions of each window word by word, and the repeats of a window."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pandas as pd

from captionkit import display
from captionkit.display import Images, Piece, Spans, TextTable, overlap, word_diff
from captionkit.store import Store

Unsupported = Callable[[pd.DataFrame], Mapping[Any, Spans]]
# What a comparison shows of itself as text.
_LINES, _WIDTH = 8, 160


class Comparable(Protocol):
    """A `run.Run`."""

    id: int
    store: Store

    @property
    def final(self) -> pd.DataFrame:
        """One row for each window."""

    def thumbnail(self, key: str) -> bytes | None:
        """Return a small JPEG of a window."""

    def unsupported(self, captions: pd.DataFrame) -> Mapping[Any, Spans]:
        """Return the places of false claims in captions, by the table's index."""


@dataclass(frozen=True)
class Comparison:
    """Two captions of each window.

    ``table`` has the columns video, window, key, start_s, end_s, before, after, same, overlap, added
    and removed (words), and ``unsupported`` if `Run.verify` found false claims: their places in both
    texts, which HTML underlines with a wave. ``names`` has the names of both sides. A notebook shows
    HTML.
    """

    table: pd.DataFrame
    names: tuple[str, str]
    images: Images = field(repr=False, default=display.no_images)

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
        """Return the word diff of one window."""
        found = self.table[(self.table["video"] == video) & (self.table["window"] == window)]
        if found.empty:
            raise KeyError(f"window {window} of {video!r} has no caption on both sides")
        return word_diff(found.iloc[0]["before"], found.iloc[0]["after"])

    def __repr__(self) -> str:
        facts, count = self.summary, len(self.table)
        lines = [
            f"<Comparison: {' and '.join(self.names)}, {count} window{'' if count == 1 else 's'}, "
            f"{facts['same']:.0%} the same, word overlap {facts['overlap']:.2f}>"
        ]
        for row in self.table.head(_LINES).itertuples():
            lines.append(f"{row.video} {row.window}:")
            sides = (row.before,) if row.same else (row.before, row.after)
            marks = "=" if row.same else "-+"
            lines += [f"  {mark} {_shortened(text)}" for mark, text in zip(marks, sides, strict=True)]
        return "\n".join([*lines, *(["…"] if count > _LINES else [])])

    def _repr_html_(self) -> str:
        facts = self.summary
        summary = f"{facts['same']:.0%} the same, word overlap {facts['overlap']:.2f}"
        return display.comparison_html(self.table, self.names, summary, self.images)


def _shortened(text: str) -> str:
    line = " ".join(display.visible(text).split())
    return line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…"


def compare_tables(
    one: pd.DataFrame,
    two: pd.DataFrame,
    names: tuple[str, str],
    images: Images = display.no_images,
    unsupported: tuple[Unsupported, Unsupported] | None = None,
) -> Comparison:
    """Compare two tables of captions (one row for each window) by the windows' keys.

    ``unsupported`` return the places of false claims of both tables, by their index.
    """
    sides = [side.dropna(subset="text").drop_duplicates("key") for side in (one, two)]
    both = sides[0].merge(sides[1][["key", "text"]], on="key", suffixes=("_before", "_after"))
    table = both[["video", "window", "key", "start_s", "end_s"]].copy()
    table["before"], table["after"] = both["text_before"], both["text_after"]
    pairs = list(zip(table["before"], table["after"], strict=True))
    table["same"] = [a == b for a, b in pairs]
    table["overlap"] = [overlap(a, b) for a, b in pairs]
    changes = [[piece for piece in word_diff(*pair) if piece.kind == "changed"] for pair in pairs]
    for name, side in (("added", "after"), ("removed", "before")):
        table[name] = [
            sum(len(re.findall(r"\w+", getattr(piece, side))) for piece in each) for each in changes
        ]
    if unsupported is not None:
        marks = [
            {side.loc[index, "key"]: spans for index, spans in find(side).items()}
            for find, side in zip(unsupported, sides, strict=True)
        ]
        if any(marks):
            table["unsupported"] = [tuple(side.get(key, ()) for side in marks) for key in table["key"]]
    return Comparison(table, names, images)


def compare(run_a: Comparable, run_b: Comparable) -> Comparison:
    """Compare the final captions of two runs, on their common windows.

    Raises
    ------
    ValueError
        If the runs have no window in common.
    """
    names = (f"run {run_a.id}", f"run {run_b.id}")
    found = compare_tables(
        run_a.final, run_b.final, names, run_a.thumbnail, (run_a.unsupported, run_b.unsupported)
    )
    if found.table.empty:
        raise ValueError(
            f"{names[0]} and {names[1]} have no captioned window in common; caption the same windows"
        )
    return found


def stability(table: pd.DataFrame) -> pd.DataFrame:
    """Compare the repeated captions of each window.

    One row for each window: ``repeats``, ``same`` (share of pairs with equal text), and ``overlap`` as
    the mean of all pairs.
    """
    rows = []
    for (video, window), group in table.dropna(subset="text").groupby(["video", "window"], sort=False):
        texts = list(group["text"])
        pairs = list(itertools.combinations(texts, 2))
        rows.append(
            {
                "video": video,
                "window": window,
                "repeats": len(texts),
                "same": float(np.mean([a == b for a, b in pairs])) if pairs else math.nan,
                "overlap": float(np.mean([overlap(*pair) for pair in pairs])) if pairs else math.nan,
            }
        )
    return TextTable(rows, columns=["video", "window", "repeats", "same", "overlap"])
