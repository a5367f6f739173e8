"""How near captions come to a reference, such as captions that people wrote."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pandas as pd

from captionkit.display import overlap
from captionkit.review.checks.text import words_of

# Columns that tell captions apart.
_NAMES = ("prompt", "fp8", "batch_size", "video", "window", "key", "stage", "repeat", "text")
#: Columns of `scores` that measure.
MEASURES = ("overlap", "precision", "recall", "facts")


def scores(captions: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Compare captions with a reference, window by window; one row for each caption with one.

    Parameters
    ----------
    captions
        Table with the columns key and text, such as `Run.captions`.
    reference
        Table of the same columns, one row for each window.

    Returns
    -------
    pandas.DataFrame
        The columns of ``captions`` that name a caption, ``reference``, and `MEASURES`, all 0 to 1:
        ``overlap`` is the word overlap; ``precision`` the share of the caption's words that the
        reference has, ``recall`` the reverse, each word as often as it stands there; ``facts`` the
        share of the reference's values that a caption in JSON states under the same name, NaN for other
        texts.

    Raises
    ------
    ValueError
        If no caption has a reference.
    """
    known = reference.dropna(subset="text").drop_duplicates("key").set_index("key")["text"]
    table = captions[captions["text"].notna() & captions["key"].isin(list(known.index))]
    if table.empty:
        raise ValueError("no captioned window has a reference; import one for the same windows")
    named = [name for name in _NAMES if name in table]
    table = table[named].assign(reference=list(table["key"].map(known))).reset_index(drop=True)
    pairs = zip(table["text"], table["reference"], strict=True)
    measured = pd.DataFrame([_measures(*pair) for pair in pairs], columns=list(MEASURES))
    return table.join(measured)


def _measures(text: str, wanted: str) -> tuple[float, float, float, float]:
    said, known = Counter(words_of(text)), Counter(words_of(wanted))
    common = (said & known).total()
    precision = common / said.total() if said else 0.0
    recall = common / known.total() if known else 1.0
    return overlap(text, wanted), precision, recall, _facts(text, wanted)


def _facts(text: str, wanted: str) -> float:
    """Return the share of the values of one JSON object that another one has, too."""
    try:
        facts = Counter(_values(json.loads(wanted)))
    except (ValueError, RecursionError):
        return math.nan
    if not facts:
        return math.nan
    try:
        stated = Counter(_values(json.loads(text)))
    except (ValueError, RecursionError):
        return 0.0
    return (facts & stated).total() / facts.total()


def _values(content: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the values of nested objects and lists with their names, without the order of a list."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _values(value, f"{name}.{key}")
    elif isinstance(content, list):
        for value in content:
            yield from _values(value, f"{name}[]")
    elif name and content is not None:
        yield name, str(content).strip().lower()
