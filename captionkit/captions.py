"""CaptionRow: a caption with all that joins it to its pixels and its recipe, the same everywhere.

`Run.captions`, JSONL, CSV, Parquet, the HTML report and Ray's parts have these columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd

from captionkit.pipeline.events import Caption
from captionkit.recipe import Recipe
from captionkit.sources import PlannedWindow


@dataclass(frozen=True)
class CaptionRow:
    """One stage of one window; a window that failed has a row more, with its ``error``.

    Parameters
    ----------
    video, path, clip, window, key
        Short name and path of the file, id of the clip, number of the window in its video, and the
        window's key, which follows from its content.
    start_frame, end_frame
        First and last frame, inclusive, counted from the clip's first frame.
    start_s, end_s, fps
        In seconds of the file; average frames a second.
    model, recipe
        The model, and the whole recipe as JSON.
    stage, prompt, text
        Stage 1 or 2, the readable part of its prompt, and the caption.
    finish_reason, prompt_tokens, output_tokens, cached_tokens
        vLLM's.
    queue_s, first_token_s, seconds
        Seconds of waiting, until the first token, and in all.
    error
        Why the window has no further caption, else None.
    warnings
        What the decoder reported, joined by semicolons, else None.
    run, repeat
        The run's id in its store (None outside of one), and which repeat of the window it is.
    rating, edited_text, note
        What a person said of the caption.
    """

    video: str
    path: str | None
    clip: str | None
    window: int
    key: str | None
    start_frame: int | None
    end_frame: int | None
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


COLUMNS = tuple(each.name for each in fields(CaptionRow))
WINDOW_COLUMNS = COLUMNS[: COLUMNS.index("model")]
# Annotations are strings here, as in `int | None`.
KINDS: dict[str, type] = {
    each.name: {"int": int, "float": float, "str": str}[str(each.type).split(" ")[0]]
    for each in fields(CaptionRow)
}
_DTYPES = {int: "Int64", float: "float64"}


def window_columns(window: PlannedWindow) -> dict[str, Any]:
    """The columns that a window decides, by name."""
    return {
        "video": window.video,
        "path": window.path,
        "clip": window.clip,
        "window": window.number,
        "key": window.key,
        "start_frame": window.start_frame,
        "end_frame": window.end_frame,
        "start_s": window.start_s,
        "end_s": window.end_s,
        "fps": window.source.metadata.fps,
    }


def caption_rows(
    window: Mapping[str, Any],
    recipe: Recipe,
    captions: Sequence[Caption],
    error: str | None = None,
    warnings: Sequence[str] = (),
    **more: Any,
) -> list[CaptionRow]:
    """The rows of a window: one a stage, and one for its error.

    Parameters
    ----------
    window
        See `window_columns`.
    recipe, captions, error, warnings
        How it was captioned, and what came of it.
    more
        Further columns, as ``run``.
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
    """Rows as a table with the columns of `CaptionRow`, in that order.

    Whole numbers are pandas' ``Int64``, which has room for a missing one.
    """
    return typed(pd.DataFrame(list(rows), columns=list(COLUMNS)))


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """A table with each known column in its type; missing texts are None."""
    for name, kind in KINDS.items():
        if name not in table:
            continue
        if kind in _DTYPES:
            table[name] = pd.to_numeric(table[name]).astype(_DTYPES[kind])
        else:
            table[name] = table[name].astype(object).where(table[name].notna(), None)
    return table
