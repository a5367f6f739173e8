"""Options, errors and safe printing, shared by several commands."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from captionkit.engine.memory import check_limits
from captionkit.store import DEFAULT_PATH
from captionkit.system.terminal import SafeConsole, printable


class UsageError(Exception):
    """Bad usage that argparse cannot see; exit code 2."""


class Parser(argparse.ArgumentParser):
    """A parser without abbreviated options, for the program and its commands."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        """Print bad usage and exit; the message quotes arguments, which may be file names."""
        super().error(printable(message))


def output() -> Console:
    """Return the console of results, on standard output."""
    return SafeConsole(highlight=False)


class Printed(logging.Handler):
    """Prints warnings of the package, as a command's other messages, on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        SafeConsole(stderr=True, highlight=False, soft_wrap=True).print(
            self.format(record), markup=False
        )


def add_model_dir(parser: argparse.ArgumentParser) -> None:
    """Add the option for the folder of weights."""
    parser.add_argument(
        "--model-dir",
        default="models/qwen",
        metavar="DIR",
        help="folder of downloaded weights",
    )


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Add the options for the memory of an engine."""
    parser.add_argument(
        "--max-model-len",
        type=int,
        metavar="TOKENS",
        help="longest window with prompt and caption; by default what the card has room for",
    )
    parser.add_argument(
        "--memory-share",
        type=float,
        metavar="SHARE",
        help="share of the card's memory that the engine may take, 0.1 to 1; by default 0.95",
    )


def refuse_limits(options: argparse.Namespace) -> None:
    """Refuse limits of memory that fit no model.

    Raises
    ------
    UsageError
        As `check_limits`.
    """
    try:
        check_limits(options.max_model_len, options.memory_share)
    except ValueError as error:
        raise UsageError(str(error)) from error


def add_tensor_parallel(parser: argparse.ArgumentParser) -> None:
    """Add the option for GPUs that share a model."""
    parser.add_argument(
        "--tensor-parallel",
        type=int,
        default=1,
        metavar="GPUS",
        help="GPUs that share the model in an engine, if it is too large for one",
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
