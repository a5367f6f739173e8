"""The command line, one file for each command."""

from captionkit.cli.app import main

__all__ = ["main"]
