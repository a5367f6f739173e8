"""``captionkit runs``: list the runs of a store."""

from __future__ import annotations

import argparse
import math
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from captionkit.cli.common import add_store, existing_store, output
from captionkit.run import runs


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("runs", help="list the runs of a store")
    add_store(parser)
    parser.set_defaults(run=_runs)


def _runs(options: argparse.Namespace, console: Console) -> int:
    table = Table(highlight=False)
    for heading in ("run", "created (UTC)", "model", "prompt", "stage 2", "captioned", "windows/s"):
        table.add_column(heading, overflow="ellipsis" if heading == "run" else "fold")
    for number, row in runs(existing_store(options)).iterrows():
        failed = f", {row['failed']} failed" if row["failed"] else ""
        rate = row["windows_per_s"]
        cells = (
            row["created"][:16].replace("T", " "),
            *((row["model"], row["prompt"]) if row["model"] else ("", row["note"])),
            row["stage2"] if isinstance(row["stage2"], str) else "",
            f"{row['done']} of {row['windows']}{failed}",
            "" if math.isnan(rate) else f"{rate:.1f}",
        )
        table.add_row(str(number), *(escape(cell) for cell in cells))
    output().print(table)
    return 0
