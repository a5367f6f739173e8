"""Claims of another text that a caption leaves out, by the words that it lacks."""

from __future__ import annotations

import math

import pandas as pd

from captionkit.display import TextTable
from captionkit.review.claims import missing_words, split_claims

COLUMNS = ("video", "window", "key", "source", "claim", "missing", "p_true", "verdict")


def omissions(
    said: pd.DataFrame,
    captions: pd.DataFrame,
    schema: str | None,
    source: str,
    verified: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return claims of one table of captions that another one of the same windows lacks.

    Parameters
    ----------
    said, captions
        The captions with the claims, and those that may lack them; one row for each window.
    schema
        Schema of ``said``, or None.
    source
        Name of ``said``.
    verified
        Claims of ``said`` with p_true and verdict, as `run.Verification.claims`.
    """
    known = {}
    if verified is not None:
        known = {(row.key, row.claim): (row.p_true, row.verdict) for row in verified.itertuples()}
    texts = dict(zip(captions["key"], captions["text"], strict=True))
    rows = []
    for row in said.itertuples():
        if (text := texts.get(row.key)) is None:
            continue
        for claim in split_claims(row.text, schema):
            if missing := missing_words(claim.said, text):
                found = known.get((row.key, claim.text), (math.nan, pd.NA))
                about = (row.video, row.window, row.key, source, claim.text)
                rows.append((*about, ", ".join(missing), *found))
    table = TextTable(rows, columns=list(COLUMNS))
    return table.astype({"window": "Int64", "p_true": "float64", "verdict": "boolean"})
