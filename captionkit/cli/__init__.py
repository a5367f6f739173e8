"""The command line, one file a command."""

from captionkit.cli.app import main

__all__ = ["main"]
