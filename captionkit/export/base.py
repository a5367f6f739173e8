"""What an export format is, and what it is given."""

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
        """One row a window and stage."""

    @property
    def progress(self) -> object:
        """How far it is."""

    def thumbnail(self, key: str) -> bytes | None:
        """A small JPEG of a window."""


@dataclass(frozen=True)
class Export:
    """A run and its rows as they are to be written.

    Parameters
    ----------
    run
        The run.
    table
        Its captions, chosen and edited as was asked; paths are relative to the home folder.
    checks
        Whether what `review.checks` finds is to be added.
    """

    run: Exportable
    table: pd.DataFrame
    checks: bool


@dataclass(frozen=True)
class Format:
    """A way to write a run.

    ``write`` returns the file's bytes, or for a folder the bytes of each file by its name in it.
    """

    description: str
    write: Callable[[Export], bytes | dict[str, bytes]]


def without_home(path: str) -> str:
    """A path that does not say whose machine it was; `with_home` gives it back."""
    home = str(Path.home())
    return "~" + path[len(home) :] if path.startswith(home + os.sep) else path


def with_home(path: str) -> str:
    """A path from a file, as this user has it."""
    return str(Path.home()) + path[1:] if path.startswith("~" + os.sep) else path
