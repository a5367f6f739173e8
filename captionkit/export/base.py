"""The interface of an export format, and its input."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from captionkit.captions import with_edits
from captionkit.export.names import NAMING, film_path, recipe_without_home, without_home
from captionkit.recipe import Recipe
from captionkit.review import faults
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

    def verdicts(self, captions: pd.DataFrame) -> pd.DataFrame:
        """Return what `verify` found in captions, by the table's index; see `Run.verdicts`."""

    def is_unsupported(self, captions: pd.DataFrame) -> pd.Series:
        """Return whether captions have a false claim, by the table's index."""


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
        Whether to add the findings of `Run.checks`.
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

    def faults(self, captions: pd.DataFrame) -> dict[Any, list[str]]:
        """Return the faults of selected captions, by the table's index."""
        return faults(captions, self.run.recipe.schema, self.run.is_unsupported(captions))

    def _selected(self, table: pd.DataFrame) -> pd.DataFrame:
        if self.stage is not None:
            table = table[(table["stage"] == self.stage) | table["error"].notna()]
        if self.prefer_human:
            # Sort stably: among equal ratings the later stage wins, and no rating ranks lowest.
            ranked = table.assign(_rank=table["rating"].fillna(0)).sort_values("_rank", kind="stable")
            best = ranked.drop_duplicates(["repeat", "video", "window"], keep="last")
            table = with_edits(table.loc[best.index.sort_values()])
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
