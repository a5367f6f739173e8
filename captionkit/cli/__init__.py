"""The command line, one file a command."""

from captionkit.cli.main import main

__all__ = ["main"]
