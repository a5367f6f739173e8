"""``captionkit download``: download a model's weights."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console
from rich.markup import escape

from captionkit.cli.common import UsageError, add_model_dir
from captionkit.models.variants import get_variant
from captionkit.models.weights import ensure_weights


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("download", help="download a model's weights")
    parser.add_argument("model", metavar="MODEL", help="a name such as qwen, or a repository id")
    add_model_dir(parser)
    parser.set_defaults(run=_download)


def _download(options: argparse.Namespace, console: Console) -> int:
    try:
        variant = get_variant(options.model)
    except ValueError as error:
        raise UsageError(str(error)) from error
    folder = ensure_weights(variant, options.model_dir, asked=True)
    console.print(f"{escape(options.model)} is in {escape(str(folder))}")
    return 0
