"""What a search goes by and may take, and the session that it needs."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd

from captionkit.engine import Backend
from captionkit.recipe import Recipe
from captionkit.run.asking import Askable
from captionkit.run.run import Run
from captionkit.run.task import RunTask
from captionkit.search.metric import RowScore
from captionkit.search.plan import LEAST_WINDOWS


class Searchable(Protocol):
    """Session of a search: a `session.Session`."""

    recipe: Recipe

    @property
    def windows(self) -> Any:
        """All windows as a table."""

    def make_recipe(self, prompt: str | None = None, **settings: Any) -> Recipe:
        """Return the session's recipe with changes."""

    def open_backend(self, recipe: Recipe, stop: threading.Event | None = None) -> Backend:
        """Start the backend of a recipe."""

    def start(
        self,
        prompt: str | None = None,
        stage2: str | bool | None = None,
        windows: pd.DataFrame | None = None,
        *,
        recipe: Recipe | None = None,
    ) -> RunTask:
        """Start to caption some windows."""


@dataclass(frozen=True)
class Aim:
    """What a search goes by, and how much it may take; see `session.Session.search`."""

    metric: str | RowScore = "truth"
    beside: str | RowScore | None = None
    windows: int | pd.DataFrame = 60
    budget_s: float | None = None
    budget_windows: int | None = None
    held_out: int | None = None
    reference: Run | None = None
    by: str | Askable | None = None
    fault_penalty: float = 0.0
    word_penalty: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        counts = {"windows": self.windows, "budget_windows": self.budget_windows}
        for name, count in counts.items():
            if isinstance(count, int) and count < LEAST_WINDOWS:
                raise ValueError(
                    f"{name} is {count}: one window tells no settings apart; give {LEAST_WINDOWS} or "
                    "more, and better 30"
                )
        if self.budget_s is not None and not self.budget_s > 0:
            raise ValueError(f"budget_s is {self.budget_s}; give more than 0 seconds")
        if self.held_out is not None and self.held_out < 0:
            raise ValueError(f"held_out is {self.held_out}; give 0 or more windows")
