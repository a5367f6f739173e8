"""What a search measures of a setting, and what it says of a chosen one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from captionkit.recipe import Recipe
from captionkit.run.run import Run
from captionkit.search.paired import Paired
from captionkit.search.plan import Setting


@dataclass(frozen=True)
class Measured:
    """A setting with what was measured of it.

    Parameters
    ----------
    setting
        The setting.
    run
        Its run, with all its windows; None if nothing could run.
    scores, beside
        Numbers of the metric, and of the one that is shown beside it, by window key.
    tokens, seconds
        Means a window, prompt and video included. Seconds are those in the engine, from the window's
        turn to the end of its last stage, as if the film were new: the first token's time is that of
        windows with the same frames that were new.
    words
        Mean of the final captions.
    failed
        Windows without a caption.
    error
        Why the setting could not run.
    """

    setting: Setting
    run: Run | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    beside: Mapping[str, float] = field(default_factory=dict)
    tokens: float = math.nan
    seconds: float = math.nan
    words: float = math.nan
    failed: int = 0
    error: str | None = None

    @property
    def name(self) -> str:
        """Name of the setting."""
        return self.setting.name

    @property
    def recipe(self) -> Recipe:
        """Recipe of the setting."""
        return self.setting.recipe


@dataclass(frozen=True)
class Choice:
    """A chosen setting: ``name``, ``recipe``, ``run``, and why in ``sentence``.

    ``score`` is on the windows that decide, ``tokens`` and ``seconds`` a window.
    """

    name: str
    recipe: Recipe
    run: Run | None = field(repr=False)
    score: float
    tokens: float
    seconds: float
    sentence: str

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True)
class HeldOut:
    """The leader on windows that decided nothing.

    Parameters
    ----------
    name
        Its name.
    windows
        Number of these windows.
    deciding, score
        Means of the leader on the windows that decided, and on these.
    first
        Name of the search's first setting, None if that leads.
    gain
        How much the leader is better than the first setting on these windows.
    """

    name: str
    windows: int
    deciding: float
    score: float
    first: str | None = None
    gain: Paired | None = None

    def __str__(self) -> str:
        text = (
            f"On {self.windows} windows that decided nothing, {self.name} has {self.score:.2f}; on "
            f"those that decided, {self.deciding:.2f}"
        )
        if self.gain is None:
            return f"{text}."
        return f"{text}. Against {self.first} it gains {self.gain.mean:.2f} there ({self.gain})."


def rank(each: Measured) -> tuple[float, float]:
    """Return what the better setting has more of: score, and of equal scores, cheapness."""
    return round(mean(each.scores), 9), -each.tokens


def mean(scores: Mapping[str, float]) -> float:
    """Return the mean of some scores, NaN without one."""
    return float(np.mean(list(scores.values()))) if scores else math.nan


def cost_of(table: pd.DataFrame) -> dict[str, Any]:
    """Return the costs of a run's captions, means a window.

    ``tokens``; ``words`` of the final caption; ``fresh_s`` (seconds to the first token of windows that
    were new to the engine, NaN without one); ``known_s`` (of the others) and ``rest_s`` (all after the
    first token of stage 1).
    """
    told = table.dropna(subset="text")
    if told.empty:
        return dict.fromkeys(("tokens", "words", "fresh_s", "known_s", "rest_s"), math.nan)
    of_window = told.assign(tokens=told["prompt_tokens"] + told["output_tokens"]).groupby("key")
    first = told[told["stage"] == 1]
    begin = (first["first_token_s"] - first["queue_s"]).astype(float)
    new = (first["cached_tokens"] * 2 < first["prompt_tokens"]).astype(bool)
    total = (told["seconds"] - told["queue_s"]).groupby(told["key"]).sum()
    words = told.drop_duplicates("key", keep="last")["text"].str.split().str.len()
    return {
        "tokens": float(of_window["tokens"].sum().mean()),
        "words": float(words.mean()),
        "fresh_s": float(begin[new].mean()),
        "known_s": float(begin[~new].mean()),
        "rest_s": float(total.mean() - begin.mean()),
    }
