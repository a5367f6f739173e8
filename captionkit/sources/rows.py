"""Windows as a table of pandas, and back: the rows that a person chose, or a sample of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from captionkit.display import WindowTable
from captionkit.sources.planned import PlannedWindow


def windows_table(
    windows: Sequence[PlannedWindow], marks: Mapping[str, tuple[str, str]]
) -> WindowTable:
    """Return windows as a table, one row each; ``marks`` are people's notes and tags by window key.

    All columns are columns of captions as well; see `captions.CaptionRow`.
    """
    return WindowTable(
        {
            "video": [each.video for each in windows],
            "window": [each.number for each in windows],
            "start_s": [each.start_s for each in windows],
            "end_s": [each.end_s for each in windows],
            "frames": [each.frames for each in windows],
            "note": [marks.get(each.key, ("", ""))[0] for each in windows],
            "tags": [marks.get(each.key, ("", ""))[1] for each in windows],
            "key": [each.key for each in windows],
            "path": [each.path for each in windows],
            "clip": [each.clip for each in windows],
            "start_frame": [each.start_frame for each in windows],
            "end_frame": [each.end_frame for each in windows],
            "fps": [each.source.metadata.fps for each in windows],
        }
    )


def row_keys(rows: object) -> list[str]:
    """Return the keys of some rows of a table of windows, each once.

    Raises
    ------
    ValueError
        If ``rows`` is not a table of windows.
    """
    if not isinstance(rows, pd.DataFrame) or "key" not in rows:
        raise ValueError(
            "windows= takes rows of the session's table, such as "
            "session.windows.query(\"video == 'harbour'\")"
        )
    return list(rows["key"].drop_duplicates())


def refuse_unknown(rows: pd.DataFrame, known: Mapping[str, PlannedWindow]) -> None:
    """Refuse rows of other videos than the known windows'.

    Raises
    ------
    ValueError
        If a row's window is not known; the message names the first.
    """
    unknown = rows[[key not in known for key in rows["key"]]]
    if len(unknown):
        first = unknown.iloc[0]
        raise ValueError(
            f"{len(unknown)} of these windows are not in this session (the first: window "
            f"{first.get('window', '?')} of {first.get('video', '?')!r}); take rows of this "
            "session's own table"
        )


def refuse_missing(keys: Iterable[str], known: Mapping[str, PlannedWindow], run: int) -> None:
    """Refuse a run with windows of other videos.

    Raises
    ------
    ValueError
        If the window of a key is not known; the message has their number.
    """
    missing = [key for key in keys if key not in known]
    if missing:
        raise ValueError(
            f"{len(missing)} windows of run {run} are not in this session; open the videos that it was "
            "made of"
        )


def sample_rows(table: WindowTable, count: int, seed: int) -> WindowTable:
    """Return ``count`` rows, spread evenly over the videos; all of them if there are fewer."""
    return table.loc[sorted(spread_rows(table, seed)[:count])]


def spread_rows(table: pd.DataFrame, seed: int) -> list[int]:
    """Return the labels of all rows in an order whose every beginning is spread evenly over videos."""
    rng = np.random.default_rng(seed)
    turns = [
        (turn, rng.random(), row)
        for rows in table.groupby("video", sort=False).groups.values()
        for turn, row in enumerate(rng.permutation(np.array(rows)))
    ]
    return [row for _, _, row in sorted(turns)]
