"""Options, errors and safe printing, shared by several commands."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from captionkit.store import DEFAULT_PATH


class UsageError(Exception):
    """Bad usage that argparse cannot see; exit code 2."""


class Parser(argparse.ArgumentParser):
    """A parser without abbreviated options, for the program and its commands."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "allow_abbrev": False})


def add_model_dir(parser: argparse.ArgumentParser) -> None:
    """Add the option for the folder of weights."""
    parser.add_argument(
        "--model-dir",
        default="models/qwen",
        metavar="DIR",
        help="folder of downloaded weights",
    )


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add the option for the store of runs."""
    parser.add_argument(
        "--store", type=Path, default=DEFAULT_PATH, metavar="FILE", help="store of the runs"
    )


def existing_store(options: argparse.Namespace) -> Path:
    """Return the store of the option, which must exist.

    Raises
    ------
    UsageError
        If the store does not exist.
    """
    store: Path = options.store
    if not store.is_file():
        raise UsageError(f"there is no store {store}; run in the session's folder, or give --store")
    return store


def printable(text: str) -> str:
    """Replace control characters, so that captions and file names cannot steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
