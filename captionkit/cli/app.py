"""The command line: ``captionkit caption``, ``runs``, ``export``, ``import`` and the others below.

Every error that a user can cause is one line with the file or option and the remedy. Exit codes: 0 for
success, 1 if something failed (finished work is on disk), 2 for bad usage, 130 if interrupted. Warnings
and the traceback of an unexpected error are printed as safely as all else.
"""

from __future__ import annotations

import logging
import traceback

from rich.console import Console
from rich.markup import escape

from captionkit.cli import (
    bench,
    caption,
    doctor,
    download,
    export,
    imports,
    runs,
    search,
    serve,
    verify,
)
from captionkit.cli.common import Parser, Printed, UsageError
from captionkit.engine import EngineError
from captionkit.export import ExportError
from captionkit.models.weights import WeightsError
from captionkit.scale.parts import ScaleError
from captionkit.store import StoreError
from captionkit.system.terminal import SafeConsole

# Register each command here; a new command is one file and one entry.
_COMMANDS = (caption, search, runs, verify, export, imports, download, serve, bench, doctor)


def main(argv: list[str] | None = None) -> int:
    """Run a command and return the exit code."""
    options = _parser().parse_args(argv)
    console = SafeConsole(stderr=True, highlight=False, soft_wrap=True)
    # Does nothing if the program that calls this one has handlers already.
    logging.basicConfig(handlers=[Printed()])
    logging.captureWarnings(True)
    try:
        return int(options.run(options, console))
    except UsageError as error:
        _print_error(console, error)
        return 2
    except (EngineError, WeightsError, ExportError, StoreError, ScaleError) as error:
        _print_error(console, error)
        return 1
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        console.print("interrupted; finished captions are kept, and the same command resumes")
        return 130
    except Exception:
        # A traceback quotes file names and captions, which Python itself would print as they are.
        console.print(traceback.format_exc(), markup=False)
        return 1
    finally:
        logging.captureWarnings(False)


def _print_error(console: Console, error: Exception) -> None:
    console.print(f"[red]captionkit: {escape(str(error))}[/red]")


def _parser() -> Parser:
    parser = Parser(
        prog="captionkit", description="Caption video windows with a vision-language model."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_parser(commands)
    return parser
