"""The interface of an export format, and its input."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from captionkit.display import Spans
from captionkit.export.names import NAMING, film_path, recipe_without_home, without_home
from captionkit.recipe import Recipe
from captionkit.store import Store

#: Windows that are in memory at once.
AT_ONCE = 2000


class Exportable(Protocol):
    """A `run.Run`."""

    id: int
    recipe: Recipe
    store: Store

    def tables(self, windows: int, *, by_window: bool = False) -> Iterator[pd.DataFrame]:
        """Yield the captions of some windows at a time."""

    @property
    def progress(self) -> object:
        """Counts of the run's windows."""

    def thumbnail(self, key: str) -> bytes | None:
        """Return a small JPEG of a window."""

    def unsupported(self, captions: pd.DataFrame) -> Mapping[Any, Spans]:
        """Return the places of false claims in captions, by the table's index."""


@dataclass(frozen=True)
class Export:
    """A run, and what to write of it.

    Parameters
    ----------
    run
        The run.
    folder
        Folder of the written files.
    stage
        Only this stage, or None.
    checks
        Whether to add the findings of `review.checks`.
    prefer_human
        Whether a person's edits and ratings come first.
    """

    run: Exportable
    folder: Path
    stage: int | None = None
    checks: bool = False
    prefer_human: bool = False

    @property
    def recipe(self) -> Recipe:
        """The run's recipe, without the home folder."""
        return recipe_without_home(self.run.recipe)

    def tables(self, *, by_window: bool = False) -> Iterator[pd.DataFrame]:
        """Yield the selected captions of `AT_ONCE` windows at a time; no name shows the home folder.

        ``by_window`` puts the repeats of a window together; otherwise each repeat has all windows.
        """
        for table in self.run.tables(AT_ONCE, by_window=by_window):
            yield self._named(self._selected(table)).reset_index(drop=True)

    def _selected(self, table: pd.DataFrame) -> pd.DataFrame:
        if self.stage is not None:
            table = table[(table["stage"] == self.stage) | table["error"].notna()]
        if self.prefer_human:
            # Sort stably: among equal ratings the later stage wins, and no rating ranks lowest.
            ranked = table.assign(_rank=table["rating"].fillna(0)).sort_values("_rank", kind="stable")
            best = ranked.drop_duplicates(["repeat", "video", "window"], keep="last")
            table = table.loc[best.index.sort_values()]
            table = table.assign(
                text=table["edited_text"].where(table["edited_text"].notna(), table["text"])
            )
        return table

    def _named(self, table: pd.DataFrame) -> pd.DataFrame:
        films = {path: film_path(path, self.folder) for path in table["path"].dropna().unique()}
        short = functools.cache(without_home)
        names = {name: table[name].map(short, na_action="ignore") for name in NAMING}
        return table.assign(path=table["path"].map(films, na_action="ignore"), **names)


@dataclass(frozen=True)
class Format:
    """A way to write a run.

    ``write`` writes the file of this path; of a format with ``many`` files, files in this empty folder.
    """

    description: str
    write: Callable[[Export, Path], None]
    many: bool = False
