"""``captionkit import``: take captions of another tool, or of people, as a run."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console
from rich.markup import escape

from captionkit.cli.common import UsageError, add_store
from captionkit.export.rows import COLUMNS
from captionkit.recipe import SETTINGS, Recipe
from captionkit.run.as_code import option
from captionkit.session import Session

# Settings that decide where windows are cut.
_OF_WINDOWS = ("window_size", "remainder_threshold", "window_seconds")


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("import", help="take captions of another tool as a run")
    parser.add_argument(
        "captions", metavar="CAPTIONS", help="a file of captions (a .tar, too) or a folder"
    )
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="a video file, folder or pattern")
    parser.add_argument("--name", help="name of the run; by default the one of the file")
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="WHAT=NAME",
        help=f"a table's column, as text=my_caption; WHAT is one of {', '.join(COLUMNS)}",
    )
    parser.add_argument(
        "--encoding", default="utf-8", help="encoding of files without a byte-order mark"
    )
    parser.add_argument("--spans", metavar="FILE", help="take windows from this table")
    for name in _OF_WINDOWS:
        setting = SETTINGS[name]
        parser.add_argument(option(name), dest=name, type=setting.kind, help=setting.help)
    add_store(parser)
    parser.set_defaults(run=_import)


def _import(options: argparse.Namespace, console: Console) -> int:
    columns = dict(each.split("=", 1) for each in options.column if "=" in each)
    if len(columns) < len(options.column):
        raise UsageError(f"--column {options.column[-1]} is not WHAT=NAME, such as text=my_caption")
    given = {name: getattr(options, name) for name in _OF_WINDOWS}
    try:
        recipe = Recipe(**{name: value for name, value in given.items() if value is not None})
        session = Session(options.videos, recipe=recipe, spans=options.spans, store=options.store)
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from error
    try:
        run = session.import_captions(
            options.captions, options.name, columns=columns, encoding=options.encoding
        )
        for row in run.unmatched.itertuples():
            console.print(f"left out: {escape(row.where)}: {escape(row.reason)}")
        console.print(f"run {run.id}, {escape(run.recipe.prompt)}: {run.progress}")
    finally:
        session.close()
    return 0
