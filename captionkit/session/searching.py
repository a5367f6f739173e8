"""The search of a session for the best recipe."""

from __future__ import annotations

import abc
import threading
from collections.abc import Sequence
from typing import Any

import pandas as pd

from captionkit.engine import Backend
from captionkit.recipe import Recipe
from captionkit.run.asking import Askable
from captionkit.run.run import Run
from captionkit.run.task import RunTask
from captionkit.search import Aim, Found, search_watched
from captionkit.search.metric import RowScore
from captionkit.session.summaries import SessionSummaries


class SessionSearch(SessionSummaries):
    """What a session does to find a recipe; a part of `Session`."""

    @abc.abstractmethod
    def open_backend(self, recipe: Recipe, stop: threading.Event | None = None) -> Backend:
        """Start the backend of a recipe."""

    @abc.abstractmethod
    def start(
        self,
        prompt: str | None = None,
        stage2: str | bool | None = None,
        windows: pd.DataFrame | None = None,
        *,
        recipe: Recipe | None = None,
    ) -> RunTask:
        """Start to caption some windows."""

    def search(
        self,
        prompts: Sequence[str] | None = None,
        *,
        metric: str | RowScore = "truth",
        beside: str | RowScore | None = None,
        windows: int | pd.DataFrame = 60,
        budget_s: float | None = None,
        budget_windows: int | None = None,
        held_out: int | None = None,
        reference: Run | None = None,
        by: str | Askable | None = None,
        fault_penalty: float = 0.0,
        word_penalty: float = 0.0,
        seed: int = 0,
        **axes: Any,
    ) -> Found:
        """Find the best recipe for a budget, by successive halving over windows.

        All settings caption a few windows, spread over the films; the better half captions twice as
        many, and so on. A paired test on common windows says which settings can be told apart. Each
        setting is a run of the store: the same call goes on after an interrupt, and repeats nothing.

        Parameters
        ----------
        prompts, axes
            What varies: fields of `Recipe` with lists of values (``stage2=[None, True]``,
            ``sampling_fps=[1, 2, 4]``); one value holds for all settings. The first setting is what
            sentences compare with.
        metric
            One of `captionkit.metrics`, or a function from a row of captions to a number, more being
            better.
        beside
            Shown beside the metric; None takes one that sees other things.
        windows
            Number of windows that decide, or rows of `windows`.
        budget_s
            Seconds of captioning, without the start of the first engine; the search ends then.
        budget_windows
            Captioned windows of all settings together, held-out ones included.
        held_out
            Windows that decide nothing and score the leader at the end; None takes a quarter.
        reference
            Run of people's captions, see `import_captions`, for the metric ``truth``.
        by
            Who is asked for the metrics ``verified`` and ``judge``: a session, a model's name or an
            address; None takes this session.
        fault_penalty, word_penalty
            Subtracted from the metric for each fault and each word of a caption.
        seed
            Choice of the windows.

        Raises
        ------
        ValueError
            If nothing varies, no two settings can run, a budget is too small for two, or the metric
            cannot be used.
        """
        if prompts is not None:
            axes = {"prompt": prompts, **axes}
        aim = Aim(
            metric=metric, beside=beside, windows=windows, budget_s=budget_s,
            budget_windows=budget_windows, held_out=held_out, reference=reference, by=by,
            fault_penalty=fault_penalty, word_penalty=word_penalty, seed=seed,
        )  # fmt: skip
        return search_watched(self, axes, aim)
