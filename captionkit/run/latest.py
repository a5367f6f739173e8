"""Captions of a store as tables: the rows of one run, and each window's latest."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

import pandas as pd

from captionkit.captions import COLUMNS, all_fit, captions_table, fits
from captionkit.recipe import Recipe
from captionkit.store import Store, StoreError

logger = logging.getLogger(__name__)

_KEY = COLUMNS.index("key")
_FACTS = COLUMNS.index("model")
_CAPTION = COLUMNS.index("warnings") - COLUMNS.index("stage")


def caption_row(values: Sequence[Any], model: str | None, recipe: str | None) -> tuple[Any, ...]:
    """Return a row of `store.results.Results.rows` in the order of `captions.COLUMNS`."""
    run, repeat, _, *rest = values
    window, caption = rest[:_FACTS], rest[_FACTS : _FACTS + _CAPTION]
    warnings, *human = rest[_FACTS + _CAPTION :]
    reported = None if warnings == "[]" else _reported(warnings)
    return (*window, model, recipe, *caption, reported, run, repeat, *human)


def _reported(warnings: Any) -> str | None:
    try:
        return "; ".join(json.loads(warnings)) or None
    except (ValueError, TypeError, RecursionError):
        return f"the warnings cannot be read: {warnings!r:.60}"


def sound_table(rows: Sequence[Sequence[Any]], store: Store) -> pd.DataFrame:
    """Return rows as a table, without those with values of other types than their columns."""
    sound = rows if all_fit(rows) else [row for row in rows if fits(row)]
    if len(sound) < len(rows):
        logger.warning(
            "%d rows are left out: the store %s holds values of other types for them",
            len(rows) - len(sound),
            store.path,
        )
    return captions_table(sound)


def latest_captions(store: Store, keys: Sequence[str]) -> pd.DataFrame:
    """Return the captions of windows in each one's newest run with a result, in the windows' order."""
    order = {key: index for index, key in enumerate(keys)}
    recipes: dict[int, tuple[str, str] | tuple[None, None]] = {}
    rows = []
    for values in store.results.latest():
        if values[0] not in recipes:
            recipes[values[0]] = _recipe(store, values[0])
        rows.append(caption_row(values, *recipes[values[0]]))
    known = [row for row in rows if row[_KEY] in order]
    return sound_table(sorted(known, key=lambda row: order[row[_KEY]]), store)


def _recipe(store: Store, run: int) -> tuple[str, str] | tuple[None, None]:
    try:
        recipe: Recipe = store.facts(run).recipe
    except (StoreError, KeyError):
        # A damaged run of a stranger's store must not hide the captions of others.
        return None, None
    return recipe.model, recipe.to_json()
