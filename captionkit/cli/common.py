"""What several commands share: options, errors, and text that is safe to print."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from captionkit.store import DEFAULT_PATH


class UsageError(Exception):
    """Bad usage that argparse cannot see; exit code 2."""


class Parser(argparse.ArgumentParser):
    """A parser that takes options by their whole names alone, and so do its commands'."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "allow_abbrev": False})


def add_model_dir(parser: argparse.ArgumentParser) -> None:
    """Add the option for where weights are kept."""
    parser.add_argument(
        "--model-dir",
        default="models/qwen",
        metavar="DIR",
        help="where downloaded weights are kept",
    )


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add the option for where runs are kept."""
    parser.add_argument(
        "--store", type=Path, default=DEFAULT_PATH, metavar="FILE", help="where the runs are kept"
    )


def existing_store(options: argparse.Namespace) -> Path:
    """The store of the option, which has to be there.

    Raises
    ------
    UsageError
        There is none.
    """
    store: Path = options.store
    if not store.is_file():
        raise UsageError(f"there is no store {store}; run this where the session ran, or give --store")
    return store


def printable(text: str) -> str:
    """Text without control characters: captions and file names are not to steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
