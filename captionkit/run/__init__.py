"""Runs: a recipe on some windows, under way or earlier, and what is made of several of them."""

from captionkit.run.history import open_run, runs
from captionkit.run.matrix import Matrix
from captionkit.run.run import Progress, Run
from captionkit.run.sweep import Sweep
from captionkit.run.task import RunEnded, RunTask

__all__ = [
    "Matrix",
    "Progress",
    "Run",
    "RunEnded",
    "RunTask",
    "Sweep",
    "open_run",
    "runs",
]
