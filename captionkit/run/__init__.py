"""Runs, each a recipe on some windows; work under way, earlier runs, matrices and sweeps."""

from captionkit.run.dataset import export_dataset
from captionkit.run.history import ab, agreement, compare, open_run, runs
from captionkit.run.judgement import Judgement, judge
from captionkit.run.matrix import Matrix
from captionkit.run.reroll import reroll_recipe
from captionkit.run.run import Progress, Run
from captionkit.run.sweep import Sweep
from captionkit.run.task import RunEnded, RunTask
from captionkit.run.tried import prompts_tried

__all__ = [
    "Judgement",
    "Matrix",
    "Progress",
    "Run",
    "RunEnded",
    "RunTask",
    "Sweep",
    "ab",
    "agreement",
    "compare",
    "export_dataset",
    "judge",
    "open_run",
    "prompts_tried",
    "reroll_recipe",
    "runs",
]
