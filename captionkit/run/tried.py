"""The prompts that were tried in a store, each with its rate and the ratings of its captions."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from captionkit import prompts
from captionkit.display import TextTable
from captionkit.run.history import runs
from captionkit.store import Store, open_store

COLUMNS = (
    "prompt", "stage2", "saved", "runs", "last_run", "done", "failed", "windows_per_s", "rated",
    "rating",
)  # fmt: skip


def prompts_tried(store: Store | str | Path | None = None) -> pd.DataFrame:
    """Return the prompts of all runs, the one of the newest run first.

    Columns: prompt and stage2 (as in the recipes), saved (its name in the store), runs (their number),
    last_run, done and failed (windows), windows_per_s (of the last run), rated (captions) and rating
    (their mean, NaN without any).
    """
    opened = open_store(store)
    names = {(each.prompt, each.stage2): each.name for each in opened.shelf.prompts().values()}
    ratings: dict[int, dict[tuple[int, int], int]] = {}
    for run, result, stage, rating in opened.reviews.rated():
        ratings.setdefault(run, {})[result, stage] = rating
    table = runs(opened)
    # A run that cannot be read has no prompt.
    table = table[table["prompt"].notna()]
    found = []
    for (prompt, stage2), group in table.groupby(["prompt", "stage2"], sort=False, dropna=False):
        second = stage2 if isinstance(stage2, str) else None
        # Runs may share a caption, whose rating counts once.
        rated: dict[tuple[int, int], int] = {}
        for run in group.index:
            rated |= ratings.get(run, {})
        mean = sum(rated.values()) / len(rated) if rated else math.nan
        found.append(
            (
                prompt, second, names.get((prompts.resolve(prompt), second)),
                len(group), group.index[0],
                group["done"].sum(), group["failed"].sum(), group["windows_per_s"].iloc[0],
                len(rated), mean,
            )
        )  # fmt: skip
    tried = TextTable(found, columns=list(COLUMNS))
    for name in ("stage2", "saved"):
        # Beside texts, pandas would make None a NaN.
        values = [row[COLUMNS.index(name)] for row in found]
        tried[name] = pd.Series(values, dtype=object)
    return tried.sort_values("last_run", ascending=False, ignore_index=True)
