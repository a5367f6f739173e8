"""Find faults of captions by rule; a fault that `Run.verify` found joins them.

A new check is one function in its own file and one line in `CHECKS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from captionkit.review.checks.echoes import echoes
from captionkit.review.checks.form import count_words, empty, truncated, unfinished
from captionkit.review.checks.invalid import invalid
from captionkit.review.checks.language import another_language
from captionkit.review.checks.refuses import refuses
from captionkit.review.checks.repeats import repeats
from captionkit.review.checks.text import CheckedText
from captionkit.review.checks.thinks import thinks

__all__ = ["CHECKS", "FAULTS", "UNSUPPORTED", "CheckedText", "check", "check_table", "faults"]

CHECKS: dict[str, Callable[[CheckedText], bool | int]] = {
    "words": count_words,
    "truncated": truncated,
    "repeats": repeats,
    "empty": empty,
    "echoes": echoes,
    "refuses": refuses,
    "unfinished": unfinished,
    "invalid": invalid,
    "language": another_language,
    "thinks": thinks,
}
#: The check that asks a model: whether a claim of the caption was found false, see `Run.verify`.
UNSUPPORTED = "unsupported"
# Exclude ``words``, which is a number and not a fault.
FAULTS = (*(name for name in CHECKS if name != "words"), UNSUPPORTED)


def check(text: str, **facts: Any) -> dict[str, Any]:
    """Return the findings of one caption by the names of `CHECKS`; ``facts`` go to `CheckedText`."""
    caption = CheckedText(text, **facts)
    return {name: rule(caption) for name, rule in CHECKS.items()}


def check_table(
    captions: pd.DataFrame,
    language: str = "en",
    schema: str | None = None,
    unsupported: pd.Series | None = None,
) -> pd.DataFrame:
    """Return the findings of each row of a table like `Run.captions`, or NA for a row without text.

    ``unsupported`` are the findings of `Run.verify` by the table's index; NA for a row that it lacks.
    """
    rows = [
        check(text, finish_reason=reason, prompt=prompt or "", language=language, schema=schema)
        if isinstance(text, str)
        else dict.fromkeys(CHECKS)
        for text, reason, prompt in zip(
            captions["text"], captions["finish_reason"], captions["prompt"], strict=True
        )
    ]
    table = pd.DataFrame(rows, columns=list(CHECKS), index=captions.index)
    asked = pd.Series(dtype="boolean") if unsupported is None else unsupported
    table[UNSUPPORTED] = asked.reindex(captions.index)
    return table.astype({"words": "Int64", **dict.fromkeys(FAULTS, "boolean")})


def faults(
    captions: pd.DataFrame, schema: str | None = None, unsupported: pd.Series | None = None
) -> dict[Any, list[str]]:
    """Return the faults of each row of a table like `Run.captions`, by its index; see `check_table`."""
    found = check_table(captions, schema=schema, unsupported=unsupported)[list(FAULTS)].fillna(False)
    return {index: [name for name in FAULTS if row[name]] for index, row in found.iterrows()}
