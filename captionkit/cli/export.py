"""``captionkit export``: write a run's captions to a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from captionkit.cli.common import UsageError, add_store, existing_store
from captionkit.export import FORMATS
from captionkit.run import open_run


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("export", help="write a run's captions to a file")
    parser.add_argument("number", type=int, metavar="RUN", help="run's number, see captionkit runs")
    parser.add_argument(
        "--out", type=Path, metavar="PATH", help="file or folder; by default ./run-RUN.FORMAT"
    )
    listed = "; ".join(f"{name}: {each.description}" for name, each in FORMATS.items())
    parser.add_argument("--format", help=f"by default the suffix of --out; {listed}")
    parser.add_argument("--stage", type=int, choices=(1, 2), help="only this stage")
    parser.add_argument("--checks", action="store_true", help="add the findings of the checks")
    parser.add_argument(
        "--prefer-human", action="store_true", help="prefer edits and ratings to generated text"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    add_store(parser)
    parser.set_defaults(run=_export)


def _export(options: argparse.Namespace, console: Console) -> int:
    try:
        run = open_run(options.number, existing_store(options))
    except KeyError as error:
        raise UsageError(error.args[0]) from error
    if options.out is None and options.format is None:
        raise UsageError(f"give --out or --format, one of {', '.join(FORMATS)}")
    written = run.export(
        options.out or Path(f"run-{run.id}.{options.format}"),
        options.format,
        stage=options.stage,
        checks=options.checks,
        prefer_human=options.prefer_human,
        overwrite=options.overwrite,
    )
    console.print(f"run {run.id} is in {escape(str(written))}")
    return 0
