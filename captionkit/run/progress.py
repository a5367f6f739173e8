"""Progress bar for work under way: drawn by rich in a terminal, as one line of HTML in a notebook."""

from __future__ import annotations

import html
import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from captionkit.run.run import Run
from captionkit.run.task import RunTask

# Update five times a second: servers limit the output of a notebook, and readers need no more.
_EVERY_S = 0.2


def follow(task: RunTask) -> Run:
    """Wait for a task; show a progress bar in a notebook or a terminal."""
    try:
        if _in_notebook():
            return _in_html(task)
        if sys.stderr.isatty():
            return _in_terminal(task)
        return task.wait()
    except KeyboardInterrupt:
        # Cancel here as well: an interrupt may come while the bar is drawn.
        task.cancel()
        raise


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"


def _wait_a_little(task: RunTask) -> bool:
    try:
        task.wait(_EVERY_S)
    except TimeoutError:
        return False
    return True


def _in_terminal(task: RunTask) -> Run:
    columns = (TextColumn("run {task.fields[run]}"), BarColumn(), TextColumn("{task.fields[state]}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bar:
        total = task.progress.total
        row = bar.add_task("captioning", total=total, run=task.run.id, state="")
        done = False
        while not done:
            done = _wait_a_little(task)
            now = task.progress
            bar.update(row, completed=now.done + now.failed, state=str(now))
    return task.run


def _in_html(task: RunTask) -> Run:
    from IPython.display import HTML, display  # installed with a kernel only

    shown: Any = display(HTML(_html(task)), display_id=True)
    done = False
    try:
        while not done:
            done = _wait_a_little(task)
            shown.update(HTML(_html(task)))
    except BaseException:
        shown.update(HTML(_html(task)))
        raise
    return task.run


def _html(task: RunTask) -> str:
    now = task.progress
    state = "" if task.running else f" ({task.status})"
    text = html.escape(f"run {task.run.id}: {now}{state}")
    return (
        f'<progress max="{max(1, now.total)}" value="{now.done + now.failed}" '
        f'style="width:16em;vertical-align:middle"></progress> {text}'
    )
