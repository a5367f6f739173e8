"""CaptionRow: a caption, its window and its recipe, with the same columns everywhere.

`Run.captions`, JSONL, CSV, Parquet, the HTML report and Ray's parts have these columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd

from captionkit.display import TextTable
from captionkit.pipeline.events import Caption
from captionkit.recipe import Recipe
from captionkit.sources import PlannedWindow
from captionkit.video.errors import shown_path


@dataclass(frozen=True)
class CaptionRow:
    """One stage of one window; a failed window has one more row, with its ``error``.

    Parameters
    ----------
    video, path, clip, window, key
        Short name and path of the file, id of the clip, number of the window in its video, and
        content key of the window.
    start_frame, end_frame
        First and last frame, inclusive, counted from the clip's first frame.
    frames
        Number of frames.
    start_s, end_s, fps
        Start and end in seconds of the file; average frames a second.
    model, recipe
        Name of the model; all settings of the recipe as JSON.
    stage, prompt, text
        Stage 1 or 2, the readable part of its prompt, and the caption.
    finish_reason, prompt_tokens, output_tokens, cached_tokens
        Counts from vLLM.
    queue_s, first_token_s, seconds
        Seconds in the queue, until the first token, and in total.
    error
        Reason for a missing caption, else None.
    warnings
        Messages of the decoder, joined by semicolons, else None.
    run, repeat
        Id of the run in its store (None without a store), and index of the window's repeat.
    rating, edited_text
        A person's review of the caption.
    note, tags
        A person's note of the caption, or else of its window; the tags of both, with commas.
    """

    video: str
    path: str | None
    clip: str | None
    window: int
    key: str | None
    start_frame: int | None
    end_frame: int | None
    frames: int | None
    start_s: float | None
    end_s: float | None
    fps: float | None
    model: str | None
    recipe: str | None
    stage: int
    prompt: str | None
    text: str | None
    finish_reason: str | None
    prompt_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    queue_s: float | None
    first_token_s: float | None
    seconds: float | None
    error: str | None
    warnings: str | None
    run: int | None = None
    repeat: int = 0
    rating: int | None = None
    edited_text: str | None = None
    note: str | None = None
    tags: str | None = None


COLUMNS = tuple(each.name for each in fields(CaptionRow))
_WINDOW_COLUMNS = COLUMNS[: COLUMNS.index("model")]
# Number of the window of a video that cannot be read.
_NO_WINDOW = -1
# Take the first word of the annotation, which is a string here, as "int | None".
KINDS: dict[str, type] = {
    each.name: {"int": int, "float": float, "str": str}[str(each.type).split(" ")[0]]
    for each in fields(CaptionRow)
}
# Beyond 2**53, pandas changes whole numbers of a column with missing values.
LARGEST = 2**53
_ALLOWED = [
    (kind, *((int,) if kind is float else ()), type(None)) for kind in (KINDS[name] for name in COLUMNS)
]
_NUMBERS = [index for index, name in enumerate(COLUMNS) if KINDS[name] is not str]
_DTYPES = {int: "Int64", float: "float64"}


def window_columns(window: PlannedWindow) -> dict[str, Any]:
    """Return the columns that depend on the window alone, by name."""
    return {
        "video": window.video,
        "path": window.path,
        "clip": window.clip,
        "window": window.number,
        "key": window.key,
        "start_frame": window.start_frame,
        "end_frame": window.end_frame,
        "frames": window.frames,
        "start_s": window.start_s,
        "end_s": window.end_s,
        "fps": window.source.metadata.fps,
    }


def unread_columns(video: str, path: str) -> dict[str, Any]:
    """Return the columns of a video that cannot be read: no window, and a path that any file holds."""
    names = {"video": shown_path(video), "path": shown_path(path)}
    return {**dict.fromkeys(_WINDOW_COLUMNS), **names, "window": _NO_WINDOW}


def caption_rows(
    window: Mapping[str, Any],
    recipe: Recipe,
    captions: Sequence[Caption],
    error: str | None = None,
    warnings: Sequence[str] = (),
    **more: Any,
) -> list[CaptionRow]:
    """Return the rows of a window: one for each stage, and one for an error.

    Parameters
    ----------
    window
        Columns from `window_columns`.
    recipe, captions, error, warnings
        Settings and results.
    more
        Further columns, such as ``run``.
    """
    common: dict[str, Any] = {
        **window,
        "model": recipe.model,
        "recipe": recipe.to_json(),
        "warnings": "; ".join(warnings) or None,
        **more,
    }
    nothing: dict[str, Any] = dict.fromkeys(COLUMNS[COLUMNS.index("stage") : COLUMNS.index("error")])
    rows = [
        CaptionRow(
            **common,
            stage=each.stage,
            prompt=each.prompt_text,
            text=each.text,
            finish_reason=each.finish_reason,
            prompt_tokens=each.prompt_tokens,
            output_tokens=each.output_tokens,
            cached_tokens=each.cached_tokens,
            queue_s=each.queue_s,
            first_token_s=each.first_token_s,
            seconds=each.seconds,
            error=None,
        )
        for each in captions
    ]
    if error is not None:
        rows.append(CaptionRow(**common, **{**nothing, "stage": len(rows) + 1}, error=error))
    return rows


def captions_table(rows: Iterable[Mapping[str, Any] | Sequence[Any]]) -> pd.DataFrame:
    """Return rows as a table with the columns of `CaptionRow`, in that order.

    Whole numbers have pandas' type ``Int64``, which allows missing values.
    """
    # Without types: pandas would make texts of Arrow, which `typed` makes plain texts again.
    return typed(pd.DataFrame(list(rows), columns=list(COLUMNS), dtype=object))


def all_fit(rows: Sequence[Sequence[Any]]) -> bool:
    """Return whether `fits` holds for all rows; fast, by columns."""
    for index, values in enumerate(zip(*rows, strict=True)):
        kinds = set(map(type, values))
        if not kinds <= set(_ALLOWED[index]):
            return False
        if index in _NUMBERS and any(abs(each) > LARGEST for each in set(values) - {None}):
            return False
    return True


def fits(row: Sequence[Any]) -> bool:
    """Return whether the values of a row (in the order of `COLUMNS`) suit their columns."""
    return all(map(isinstance, row, _ALLOWED)) and all(
        abs(row[index]) <= LARGEST for index in _NUMBERS if row[index] is not None
    )


def typed(table: pd.DataFrame) -> TextTable:
    """Convert each known column to its type; missing texts become None."""
    for name, kind in KINDS.items():
        if name not in table:
            continue
        if kind in _DTYPES:
            table[name] = pd.to_numeric(table[name]).astype(_DTYPES[kind])
        else:
            table[name] = table[name].astype(object).where(table[name].notna(), None)
    return TextTable(table)


def with_edits(captions: pd.DataFrame) -> pd.DataFrame:
    """Return captions, with a person's edits instead of the texts that were edited."""
    edited = captions["edited_text"]
    return captions.assign(text=edited.where(edited.notna(), captions["text"]))
