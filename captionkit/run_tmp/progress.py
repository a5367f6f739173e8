"""A progress bar for a run: in a terminal by rich, in a notebook as one line of HTML that stays.

Imports runs; called by sessions.
"""

from __future__ import annotations

import html
import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from captionkit.runs.run import Run

# Servers limit what a notebook may print; ten updates a second are the most that is seen anyway.
_EVERY_S = 0.2


def follow(run: Run) -> Run:
    """Wait for a run with a progress bar where somebody can see one."""
    if _in_notebook():
        return _in_html(run)
    if sys.stderr.isatty():
        return _in_terminal(run)
    return run.wait()


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"


def _wait_a_little(run: Run) -> bool:
    try:
        run.wait(_EVERY_S)
    except TimeoutError:
        return False
    return True


def _in_terminal(run: Run) -> Run:
    columns = (TextColumn("run {task.fields[run]}"), BarColumn(), TextColumn("{task.fields[said]}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("captioning", total=run.progress.total, run=run.id, said="")
        done = False
        while not done:
            done = _wait_a_little(run)
            now = run.progress
            bar.update(task, completed=now.done + now.failed, said=str(now))
    return run


def _in_html(run: Run) -> Run:
    from IPython.display import HTML, display  # a kernel has it; nothing else needs it

    shown: Any = display(HTML(_html(run)), display_id=True)
    done = False
    try:
        while not done:
            done = _wait_a_little(run)
            shown.update(HTML(_html(run)))
    except BaseException:
        shown.update(HTML(_html(run)))
        raise
    return run


def _html(run: Run) -> str:
    now = run.progress
    state = "" if run.status == "running" else f" ({run.status})"
    said = html.escape(f"run {run.id}: {now}{state}")
    return (
        f'<progress max="{max(1, now.total)}" value="{now.done + now.failed}" '
        f'style="width:16em;vertical-align:middle"></progress> {said}'
    )
