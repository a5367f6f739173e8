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
from captionkit.review.likeness import cider, meteor

# Columns that tell captions apart.
_NAMES = ("prompt", "fp8", "batch_size", "video", "window", "key", "stage", "repeat", "text")
#: Columns of `scores` that measure; ``meteor`` only with the extra ``scores``.
MEASURES = ("overlap", "precision", "recall", "cider", "meteor", "facts")


def mean_scores(measured: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return the means of `MEASURES` in a table of `scores`, one row for each group."""
    named = [name for name in MEASURES if name in measured]
    return measured.groupby(by, sort=False)[named].mean()


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
        reference has, ``recall`` the reverse, each word as often as it stands there; ``cider`` and
        ``meteor`` as in `review.likeness`, the second only with the extra ``scores``; ``facts`` the
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
    pairs = list(zip(table["text"], table["reference"], strict=True))
    said, wanted = ([words_of(text) for text in table[name]] for name in ("text", "reference"))
    shares = [_shares(*words) for words in zip(said, wanted, strict=True)]
    measured = {
        "overlap": [overlap(*pair) for pair in pairs],
        "precision": [precision for precision, _ in shares],
        "recall": [recall for _, recall in shares],
        "cider": cider(said, wanted, [words_of(text) for text in known]),
        "meteor": meteor(said, wanted),
        "facts": [_facts(*pair) for pair in pairs],
    }
    return table.assign(**{name: each for name, each in measured.items() if each is not None})


def _shares(said: list[str], known: list[str]) -> tuple[float, float]:
    """Return the shares of the words on each side that the other side has, too."""
    common = (Counter(said) & Counter(known)).total()
    return common / len(said) if said else 0.0, common / len(known) if known else 1.0


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
