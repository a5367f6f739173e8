"""Where two runs say different things, by facts rather than by words."""

from __future__ import annotations

import pandas as pd

from captionkit.display import overlap
from captionkit.review.claims import content_words, missing_words, split_claims

COLUMNS = (
    "video", "window", "key", "difference", "only_a", "only_b", "a", "b", "start_s", "end_s",
)  # fmt: skip


def lacking(text: str, other: str, schema: str | None = None) -> tuple[list[str], int]:
    """Return the claims of a text of which another one lacks a word, and the number of all claims."""
    claims = split_claims(text, schema)
    return [each.text for each in claims if missing_words(each.said, other)], len(claims)


def _unlike(text: str, other: str, schema: str | None) -> list[str]:
    """Return the claims of a text that no single claim of another one holds.

    All their words may be there, said of other things: the colours of two cars changed places. Values
    of one schema are compared with their names.
    """
    mine, others = split_claims(text, schema), split_claims(other, schema)
    if schema is not None:
        said = {each.text.lower() for each in others}
        return [each.text for each in mine if each.text.lower() not in said]
    bags = [content_words(each.said) for each in others]
    return [each.text for each in mine if not any(content_words(each.said) <= bag for bag in bags)]


def difference(one: str, two: str, schemas: tuple[str | None, str | None] = (None, None)) -> float:
    """Return how different two captions are, 0 to 1: the share of claims that the other one lacks.

    Where neither lacks a word, claims whose words the other one says of other things count half. Texts
    without a claim are compared by their words.
    """
    return _compared(one, two, schemas)[2]


def _compared(
    one: str, two: str, schemas: tuple[str | None, str | None]
) -> tuple[list[str], list[str], float]:
    """Return the claims that only one of two captions has, and their `difference`."""
    only_a, of_a = lacking(one, two, schemas[0])
    only_b, of_b = lacking(two, one, schemas[1])
    total, weight = of_a + of_b, 1.0
    if not only_a and not only_b and schemas[0] == schemas[1]:
        only_a, only_b = _unlike(one, two, schemas[0]), _unlike(two, one, schemas[0])
        weight = 0.5
    apart = weight * (len(only_a) + len(only_b)) / total if total else 1 - overlap(one, two)
    return only_a, only_b, apart


def disagreements(
    pairs: pd.DataFrame, schemas: tuple[str | None, str | None] = (None, None)
) -> pd.DataFrame:
    """Return the windows on which two runs differ, the most different first.

    Parameters
    ----------
    pairs
        `Comparison.table` of the runs.
    schemas
        Schemas of both runs, or None.

    Returns
    -------
    pandas.DataFrame
        One row a window: video, window, key, difference (0 to 1, see `difference`), only_a and only_b
        (claims that the other one lacks, joined by spaces), a and b (the captions), start_s, end_s.
    """
    rows = []
    for row in pairs[~pairs["same"]].itertuples():
        only_a, only_b, apart = _compared(row.before, row.after, schemas)
        about = (row.video, row.window, row.key, apart, " ".join(only_a), " ".join(only_b))
        rows.append((*about, row.before, row.after, row.start_s, row.end_s))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.sort_values("difference", ascending=False, kind="stable", ignore_index=True)
