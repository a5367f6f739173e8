"""Verdict: what a stored verification found in a caption that the workbench shows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from captionkit.display import Spans
from captionkit.run import Run
from captionkit.store import Store, StoredStage, StoreError, WindowState


@dataclass(frozen=True)
class Verdict:
    """A caption's verdict.

    ``places`` are the false claims, ``unsupported`` is whether there is one, and ``supported`` is the
    share of true claims, None where none was asked.
    """

    places: Spans = ()
    unsupported: bool = False
    supported: float | None = None


def verdicts(store: Store, run: int, captions: Mapping[str, StoredStage]) -> dict[str, Verdict]:
    """Return the verdicts on a run's captions by window key; empty if the run was never verified."""
    if not captions or store.answers.verified(run) is None:
        return {}
    rows = [
        {"video": "", "window": 0, "key": key, "repeat": 0, "stage": each.stage, "text": each.text}
        for key, each in captions.items()
    ]
    table = pd.DataFrame(rows, index=list(captions))
    try:
        found = Run(store, run).verdicts(table)
    except (KeyError, StoreError):
        # A damaged run of a stranger's store must not cost the captions.
        return {}
    return {
        str(row.Index): Verdict(
            row.places,
            row.unsupported is not pd.NA and bool(row.unsupported),
            None if math.isnan(row.supported) else row.supported,
        )
        for row in found.itertuples()
    }


def shown_verdicts(store: Store, states: Mapping[str, WindowState]) -> dict[str, Verdict]:
    """Return the verdicts on the last stages of windows, by window key."""
    by_run: dict[int, dict[str, StoredStage]] = {}
    for key, state in states.items():
        if state.stages:
            by_run.setdefault(state.run, {})[key] = state.stages[-1]
    found: dict[str, Verdict] = {}
    for run, captions in by_run.items():
        found |= verdicts(store, run, captions)
    return found
