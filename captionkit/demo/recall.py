"""How much of the truth a run's captions state, for videos whose truth is known.

Works on any run of videos with a truth file beside them, as the sample videos have.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from captionkit.demo.marks import mark
from captionkit.display import TextTable

if TYPE_CHECKING:
    from captionkit.run.run import Run

FACTS = ("kind", "colour", "motion", "background", "time")


def fact_recall(run: Run) -> pd.DataFrame:
    """Compute the share of true facts that each caption states, one row a window and stage.

    Columns: video, window, stage, one for each of `FACTS` (0 to 1), ``recall`` of all facts together
    and ``false``, the number of wrong facts stated. Windows that no single scene covers are left out.
    `summary` gives the mean over windows.

    Raises
    ------
    ValueError
        If no video of the run has a truth file (``harbour.json`` beside ``harbour.mp4``).
    """
    table = run.captions
    if not any(_scenes(path) for path in table["path"].drop_duplicates()):
        raise ValueError(
            f"no video of run {run.id} has a truth file beside it; the sample videos have, see "
            "captionkit.demo.videos"
        )
    rows = []
    captioned = table.dropna(subset="text")
    for caption, scene in zip(captioned.itertuples(), true_scenes(captioned), strict=True):
        if scene is None:
            continue
        marks = mark(caption.text, scene)
        row: dict[str, Any] = {name: getattr(caption, name) for name in ("video", "window", "stage")}
        for name in FACTS:
            found = [right for (fact, _), right in marks.facts.items() if fact == name]
            row[name] = sum(found) / len(found)
        rows.append({**row, "recall": marks.recall, "false": marks.false})
    return TextTable(rows, columns=["video", "window", "stage", *FACTS, "recall", "false"])


def summary(run: Run) -> pd.DataFrame:
    """Average `fact_recall`, one row a stage."""
    return fact_recall(run).groupby("stage")[[*FACTS, "recall", "false"]].mean()


def true_scenes(table: pd.DataFrame) -> list[dict[str, Any] | None]:
    """Return the true scene of each row (columns path, start_s, end_s), None without a single one."""
    truths = {path: _scenes(path) for path in table["path"].drop_duplicates()}
    times = zip(table["path"], table["start_s"], table["end_s"], strict=True)
    return [_covering(truths[path], start, end) for path, start, end in times]


def fact_f1(table: pd.DataFrame) -> list[float]:
    """Return the F1 of facts of each caption, see `Marks.f1`; NaN without a text or a true scene."""
    return [
        math.nan if scene is None or not isinstance(text, str) else mark(text, scene).f1
        for text, scene in zip(table["text"], true_scenes(table), strict=True)
    ]


def _scenes(path: str) -> list[dict[str, Any]]:
    beside = Path(path).with_suffix(".json")
    if not beside.is_file():
        return []
    try:
        truth = json.loads(beside.read_text(encoding="utf-8"))
    except ValueError:
        return []
    scenes = truth.get("scenes") if isinstance(truth, dict) else None
    return scenes if isinstance(scenes, list) else []


def _covering(scenes: list[dict[str, Any]], start: float, end: float) -> dict[str, Any] | None:
    slack = 0.05
    for scene in scenes:
        if scene["start_s"] - slack <= start and end <= scene["end_s"] + slack:
            return scene
    return None
