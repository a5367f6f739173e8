"""What is exported."""

from __future__ import annotations

from typing import Protocol

import pandas as pd

from captionkit.recipe import Recipe
from captionkit.store import Store


class Exportable(Protocol):
    """A `run.Run`."""

    id: int
    recipe: Recipe
    store: Store

    @property
    def captions(self) -> pd.DataFrame:
        """One row a window and stage."""

    @property
    def progress(self) -> object:
        """How far it is."""

    def thumbnails(self, video: str, window: int) -> bytes | None:
        """A small JPEG of a window."""
