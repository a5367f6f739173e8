"""Events of captions in seconds of the film: offsets added, range and order checked, borders joined."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import pandas as pd

from captionkit import structured
from captionkit.display import TextTable

COLUMNS = (
    "video", "path", "window", "key", "repeat", "stage", "event", "start_s", "end_s", "text", "invalid",
    "window_start_s", "window_end_s",
)  # fmt: skip
_DEFINITION = "#/$defs/"
_EVENT = {"start", "end", "text"}
#: Seconds by which an event may leave its window, since models round times.
SLACK_S = 0.5
# Windows begin and end at fractions of a second, whose difference is not exact.
_SLACK_S = SLACK_S + 1e-6


def events_property(schema: str | None) -> str | None:
    """Return the property of a schema that lists events (start, end, text), None without one."""
    if schema is None:
        return None
    whole = json.loads(schema)
    for name, about in whole["properties"].items():
        items = about.get("items") if isinstance(about, dict) else None
        if isinstance(items, dict) and str(items.get("$ref")).startswith(_DEFINITION):
            # As pydantic writes a list of models.
            items = whole.get("$defs", {}).get(items["$ref"].removeprefix(_DEFINITION))
        if isinstance(items, dict) and set(items.get("properties") or ()) >= _EVENT:
            return str(name)
    return None


def event_rows(captions: pd.DataFrame, schema: str | None) -> pd.DataFrame:
    """Return the events of captions, one row each, of the last stage of each window.

    Parameters
    ----------
    captions
        Table with the columns of `CaptionRow`.
    schema
        Schema of the captions, with a list of start, end (seconds within the window) and text.

    Returns
    -------
    pandas.DataFrame
        `COLUMNS`: ``event`` is the number within the window, from 0; start_s and end_s are seconds of
        the film, missing if they are not numbers; ``invalid`` says what is wrong, else None. A caption
        that is not JSON has one row with only that. Models round times: an event that begins or ends up
        to `SLACK_S` (0.5 s) outside its window is valid and clamped to the window; further outside it
        is invalid and keeps its times.

    Raises
    ------
    ValueError
        If the schema has no events.
    """
    name = events_property(schema)
    if schema is None or name is None:
        raise ValueError(
            'these captions have no events; caption with schema="events", or with a schema of your '
            "own that has a list of objects with start, end and text"
        )
    last = captions.dropna(subset="text").drop_duplicates(["repeat", "key"], keep="last")
    rows = [
        {
            **{each: row[each] for each in ("video", "path", "window", "key", "repeat", "stage")},
            "window_start_s": row["start_s"],
            "window_end_s": row["end_s"],
            **event,
        }
        for row in last.to_dict("records")
        for event in _events(row, schema, name)
    ]
    table = TextTable(rows, columns=list(COLUMNS))
    whole = dict.fromkeys(("window", "repeat", "stage", "event"), "Int64")
    seconds = dict.fromkeys(("start_s", "end_s", "window_start_s", "window_end_s"), "float64")
    table = table.astype({**whole, **seconds})
    for each in ("text", "invalid"):
        table[each] = table[each].astype(object).where(table[each].notna(), None)
    return table


def _events(row: dict[str, Any], schema: str, name: str) -> Iterator[dict[str, Any]]:
    values, problem = structured.read(row["text"], schema)
    listed = values.get(name)
    if not isinstance(listed, list):
        yield {"event": 0, "invalid": problem or f"{name} is not a list"}
        return
    span = row["end_s"] - row["start_s"]
    before = 0.0
    for number, each in enumerate(listed):
        event = each if isinstance(each, dict) else {}
        start, end, text = _seconds(event.get("start")), _seconds(event.get("end")), event.get("text")
        said = text if isinstance(text, str) and text.strip() else None
        problem = _fault(start, end, span, before)
        if problem is None:
            start, end = max(start, 0.0), min(end, span)
        yield {
            "event": number,
            "start_s": row["start_s"] + start,
            "end_s": row["start_s"] + end,
            "text": said,
            "invalid": "it has no text" if said is None else problem,
        }
        # A time outside the window says nothing about the order of the others.
        if 0 <= start <= span:
            before = max(before, start)


def _seconds(value: Any) -> float:
    """Return a number of JSON, NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _fault(start: float, end: float, span: float, before: float) -> str | None:
    """Return what is wrong with the times of an event, in seconds within its window."""
    if math.isnan(start) or math.isnan(end):
        return "start or end is not a number"
    if start < -_SLACK_S or end > span + _SLACK_S or start > span or end < 0:
        return f"{start:g} to {end:g} s lies outside the window of {span:.2f} s"
    if end < start:
        return f"it ends at {end:g} s, before it begins at {start:g} s"
    if max(start, 0.0) < before:
        return f"it begins at {start:g} s, before the event before it ({before:g} s)"
    return None


def join_events(events: pd.DataFrame, gap_s: float) -> pd.DataFrame:
    """Return valid events by film and time, those of equal text at both sides of a border as one.

    ``last_window`` is the number of the last window of an event.
    """
    if not gap_s >= 0:
        raise ValueError(f"gap_s is {gap_s}; give 0 or more seconds")
    valid = events[events["invalid"].isna()]
    joined: list[dict[str, Any]] = []
    late: list[dict[str, Any]] = []
    order = ["video", "repeat", "window_start_s", "event"]
    for row in valid.sort_values(order, kind="stable").to_dict("records"):
        # Rows come by time: what ended before this window goes on in no later one.
        film, border = (row["video"], row["repeat"]), row["window_start_s"] - gap_s
        late = [
            each
            for each in late
            if (each["video"], each["repeat"]) == film and each["window_end_s"] >= border
        ]
        parts = [each for each in late if _continues(each, row, gap_s)]
        if parts:
            part = parts[-1]
            part["start_s"] = min(part["start_s"], row["start_s"])
            part["end_s"] = max(part["end_s"], row["end_s"])
            part["window_end_s"], part["last_window"] = row["window_end_s"], row["window"]
            part["last_key"] = row["key"]
        else:
            joined.append({**row, "last_window": row["window"], "last_key": row["key"]})
            late.append(joined[-1])
    table = TextTable(joined, columns=[*COLUMNS, "last_window"])
    table = table.astype({each: events[each].dtype for each in COLUMNS})
    order = ["video", "repeat", "start_s", "end_s"]
    return table.astype({"last_window": "Int64"}).sort_values(order, kind="stable", ignore_index=True)


def _continues(one: dict[str, Any], two: dict[str, Any], gap_s: float) -> bool:
    """Return whether an event goes on in another one, of the next window."""
    border = two["window_start_s"]
    return bool(
        (one["path"], one["video"], one["repeat"]) == (two["path"], two["video"], two["repeat"])
        and one["last_key"] != two["key"]
        and border <= one["window_end_s"] + gap_s
        and _meet(one, two, gap_s)
        and _plain(one["text"]) == _plain(two["text"])
    )


def _meet(one: dict[str, Any], two: dict[str, Any], gap_s: float) -> bool:
    """Return whether two parts meet: at the border, or within what both windows show."""
    if two["window_start_s"] < one["window_end_s"] - gap_s:
        starts, ends = (one["start_s"], two["start_s"]), (one["end_s"], two["end_s"])
        return bool(max(starts) <= min(ends) + gap_s)
    return bool(
        one["end_s"] >= one["window_end_s"] - gap_s and two["start_s"] <= two["window_start_s"] + gap_s
    )


def _plain(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def timed_texts(row: dict[str, Any], schema: str | None) -> list[tuple[float, float, str]]:
    """Return what a caption says when, in seconds of the film: each event, or the text of the window.

    An event without valid times counts for the whole window, as does a caption that cannot be read.
    """
    name = events_property(schema)
    if schema is None or name is None:
        return [(row["start_s"], row["end_s"], row["text"])]
    found = []
    for event in _events(row, schema, name):
        if "text" not in event:
            return [(row["start_s"], row["end_s"], row["text"])]
        if event["text"] is not None:
            valid = event["invalid"] is None
            times = event if valid else row
            found.append((times["start_s"], times["end_s"], event["text"]))
    return found
