"""Earlier runs: list all of them, and open a single one."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from captionkit.display import TextTable
from captionkit.recipe import Recipe
from captionkit.review import AB, Comparison, agreements
from captionkit.review import compare as compare_runs
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
    return TextTable(rows, columns=list(COLUMNS)).set_index("run")


def open_run(id: int, store: Store | str | Path | None = None) -> Run:  # noqa: A002
    """Open an earlier run to read, compare, export or delete; use `Session.open` to resume a run."""
    return Run(open_store(store), id)


def compare(run_a: Run | int, run_b: Run | int, store: Store | str | Path | None = None) -> Comparison:
    """Compare the final captions of two runs, on their common windows.

    Parameters
    ----------
    run_a, run_b
        Runs, or their numbers.
    store
        Where a number is looked up; None takes the other run's store, or the project's own.

    Raises
    ------
    ValueError
        If the runs have no window in common.
    KeyError
        If there is no run of a number.
    """
    return compare_runs(*opened(run_a, run_b, store))


def ab(
    run_a: Run | int, run_b: Run | int, seed: int = 0, store: Store | str | Path | None = None
) -> AB:
    """Compare two runs blind: shuffled pairs of captions, stored choices, and a win rate.

    ``run_a``, ``run_b`` and ``store`` are as in `compare`.

    Raises
    ------
    ValueError
        If the runs have no common window with different captions, or are in different stores.
    KeyError
        If there is no run of a number.
    """
    return AB(*opened(run_a, run_b, store), seed)


def agreement(store: Store | str | Path | None = None) -> pd.DataFrame:
    """Return how far the ratings of each two reviewers agree; see `review.agreement`."""
    return agreements(open_store(store).reviews.ratings())


def opened(one: Run | int, two: Run | int, store: Store | str | Path | None) -> tuple[Run, Run]:
    """Return two runs that may be given by their numbers; see `compare`."""
    given = [each for each in (one, two) if isinstance(each, Run)]
    if len(given) < 2:
        place = open_store(store) if store is not None or not given else given[0].store
        one, two = (each if isinstance(each, Run) else Run(place, each) for each in (one, two))
    assert isinstance(one, Run)
    assert isinstance(two, Run)
    return one, two
