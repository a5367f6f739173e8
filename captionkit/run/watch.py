"""Progress bar of work to wait for: drawn by rich in a terminal, as one line of HTML in a notebook."""

from __future__ import annotations

import html
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from captionkit.system.terminal import SafeConsole

# Update five times a second: servers limit the output of a notebook, and readers need no more.
_EVERY_S = 0.2
# Wait in pieces where no bar is drawn: an interrupt must come through.
_LONG_S = 60.0


@dataclass(frozen=True)
class Watched:
    """Work to wait for.

    Parameters
    ----------
    name
        Before the bar in a terminal.
    wait
        Waits for the end, at most some seconds; returns whether the work has ended.
    state
        Returns what is done, what there is in all, and both in words.
    stop
        Stops the work; called if the wait is interrupted.
    """

    name: str
    wait: Callable[[float], bool]
    state: Callable[[], tuple[int, int, str]]
    stop: Callable[[], object]


def watch(work: Watched, *, after_s: float = 0.0) -> None:
    """Wait for some work; show a progress bar in a notebook or a terminal.

    Work that ends within ``after_s`` seconds shows nothing. An interrupt (Ctrl-C, a notebook's stop
    button) stops the work.
    """
    try:
        if after_s and work.wait(after_s):
            return
        if _in_notebook():
            _in_html(work)
        elif sys.stderr.isatty():
            _in_terminal(work)
        else:
            while not work.wait(_LONG_S):
                pass
    except KeyboardInterrupt:
        work.stop()
        raise


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"


def _in_terminal(work: Watched) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"))
    with Progress(*columns, TimeElapsedColumn(), console=SafeConsole(stderr=True)) as bar:
        row = bar.add_task(escape(work.name), total=work.state()[1], state="")
        ended = False
        while not ended:
            ended = work.wait(_EVERY_S)
            done, total, text = work.state()
            bar.update(row, completed=done, total=total, state=escape(text))


def _in_html(work: Watched) -> None:
    from IPython.display import HTML, display  # installed with a kernel only

    shown: Any = display(HTML(_html(work)), display_id=True)
    ended = False
    try:
        while not ended:
            ended = work.wait(_EVERY_S)
            shown.update(HTML(_html(work)))
    except BaseException:
        shown.update(HTML(_html(work)))
        raise


def _html(work: Watched) -> str:
    done, total, text = work.state()
    return (
        f'<progress max="{max(1, total)}" value="{done}" '
        f'style="width:16em;vertical-align:middle"></progress> {html.escape(f"{work.name}: {text}")}'
    )
