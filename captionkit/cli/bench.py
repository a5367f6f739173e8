"""``captionkit bench``: speed compared with the reference's loop and plain vLLM."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

from captionkit.bench.report import new_report
from captionkit.bench.speed import bench
from captionkit.cli.common import UsageError, output
from captionkit.system.lifetime import ends_as_interrupted


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("bench", help="compare speed with the reference's loop and vLLM")
    parser.add_argument("--quick", action="store_true", help="fewer windows, under five minutes")
    parser.add_argument(
        "--real",
        action="store_true",
        help="a model of 0.5 B parameters with random weights, 12 windows at most",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here")
    parser.set_defaults(run=_bench)


def _bench(options: argparse.Namespace, console: Console) -> int:
    if options.json and not options.json.parent.is_dir():
        raise UsageError(f"there is no folder {options.json.parent} for --json")
    report = new_report()
    try:
        with ends_as_interrupted():
            bench(report, console, quick=options.quick, real=options.real, kept=options.json)
    except KeyboardInterrupt:
        console.print("interrupted; this is what was measured")
        return 130
    finally:
        # Also what an error left of half an hour.
        report.print(output())
    return 0
