"""Earlier runs: list all of them, and open a single one."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from captionkit.recipe import Recipe
from captionkit.run.run import Run
from captionkit.store import Store, open_store

COLUMNS = (
    "run", "created", "model", "prompt", "stage2", "windows", "done", "failed", "windows_per_s", "note",
)  # fmt: skip


def runs(store: Store | str | Path | None = None) -> pd.DataFrame:
    """Return all runs, newest first, with recipe, counts and rate (windows a second of work).

    A run that cannot be read has no recipe, and the reason as its note.
    """
    rows = []
    for number, created, text, total, done, failed, busy_s, note in open_store(store).history():
        try:
            recipe: Recipe | None = Recipe.from_json(text)
            rate = done / busy_s if busy_s else math.nan
        except (ValueError, TypeError) as error:
            # A damaged run of a stranger's store must not hide the others.
            recipe, rate = None, math.nan
            note = f"this run cannot be read: {error}"
        rows.append(
            (
                number,
                created,
                recipe.model if recipe else None,
                recipe.prompt if recipe else None,
                recipe.stage2 if recipe else None,
                total,
                done,
                failed,
                rate,
                note,
            )
        )
    return pd.DataFrame(rows, columns=list(COLUMNS)).set_index("run")


def open_run(id: int, store: Store | str | Path | None = None) -> Run:  # noqa: A002
    """Open an earlier run to read, compare, export or delete; use `Session.open` to resume a run."""
    return Run(open_store(store), id)
