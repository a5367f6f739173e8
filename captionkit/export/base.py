"""The interface of an export format, and its input."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
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
        """One row for each window and stage."""

    @property
    def progress(self) -> object:
        """Counts of the run's windows."""

    def thumbnail(self, key: str) -> bytes | None:
        """Return a small JPEG of a window."""


@dataclass(frozen=True)
class Export:
    """A run and the rows to write.

    Parameters
    ----------
    run
        The run.
    table
        Selected captions, with a person's edits if requested; paths are relative to the home folder.
    checks
        Whether to add the findings of `review.checks`.
    """

    run: Exportable
    table: pd.DataFrame
    checks: bool


@dataclass(frozen=True)
class Format:
    """A way to write a run.

    ``write`` returns a file's bytes, or for a folder the bytes of each file by its name.
    """

    description: str
    write: Callable[[Export], bytes | dict[str, bytes]]


def without_home(path: str) -> str:
    """Replace the home folder, which names its user, by ``~``; `with_home` reverses this."""
    home = str(Path.home())
    return "~" + path[len(home) :] if path.startswith(home + os.sep) else path


def with_home(path: str) -> str:
    """Replace a leading ``~`` by this user's home folder."""
    return str(Path.home()) + path[1:] if path.startswith("~" + os.sep) else path
