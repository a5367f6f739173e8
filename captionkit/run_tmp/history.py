"""Runs of earlier: a table of all, and one of them to look at.

Imports run and store; called by notebooks, widgets and the command line.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd

from captionkit.runs.run import Run, open_store
from captionkit.store import Store


def runs(store: Store | str | Path | None = None) -> pd.DataFrame:
    """All runs, newest first, with recipe, counts and rate (windows a second of work)."""
    rows = open_store(store).rows(
        "SELECT runs.id, runs.created, recipe, count(*), sum(coalesce(done, 0) AND error IS NULL), "
        "count(error), busy_s, runs.note FROM runs JOIN jobs ON jobs.run = runs.id "
        "LEFT JOIN results ON results.id = jobs.result GROUP BY runs.id ORDER BY runs.id DESC"
    )
    table = []
    for number, created, recipe, total, done, failed, busy, note in rows:
        known = json.loads(recipe)
        table.append(
            {
                "run": number,
                "created": created,
                "model": known["variant"],
                "prompt": known["prompt"],
                "stage2": known["stage2_prompt"],
                "windows": total,
                "done": done,
                "failed": failed,
                "windows_per_s": done / busy if busy else math.nan,
                "note": note,
            }
        )
    names = [
        "run",
        "created",
        "model",
        "prompt",
        "stage2",
        "windows",
        "done",
        "failed",
        "windows_per_s",
        "note",
    ]
    return pd.DataFrame(table, columns=names).set_index("run")


def open_run(id: int, store: Store | str | Path | None = None) -> Run:  # noqa: A002
    """A run of earlier, to look at, compare, export or delete; `Session.open` can go on with it."""
    return Run(open_store(store), id)
