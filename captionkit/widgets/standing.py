"""How far the opening and the runs of a board are: in one line, and as a bar beside the buttons."""

from __future__ import annotations

import time

from captionkit.display import escape
from captionkit.engine import Engine
from captionkit.pipeline import engine_key
from captionkit.run import RunTask
from captionkit.widgets.board import Board
from captionkit.widgets.parts import duration

_MARKS = {"done": "●", "failed": "✕", "interrupted": "◌", "running": "◑"}


def status(board: Board) -> str:
    """One line on how far the opening and the runs are."""
    opening = [str(board.session.opening)] if board.opening else []
    runs = [_told(board, task) for task in board.active]
    if not runs and board.task is not None:
        runs = [f"Run {board.task.run.id} {board.task.run.status}: {board.task.progress}"]
    return "; ".join(opening + runs)


def bar(board: Board) -> str:
    """HTML of a progress bar for each run under way; of the last run's result where there is none."""
    active = board.active
    if active:
        return "".join(_bar(board, task) for task in active)
    if (asking := board.asking) is not None:
        return _progress(asking.total, asking.done or None, "Questions answered", str(asking))
    text = "; ".join(each for each in (status(board), board.verified) if each)
    mark = "" if board.run is None else _MARKS.get(board.run.status, "")
    return f'<div class="ck-progress">{mark} {escape(text)}</div>' if text else ""


def _bar(board: Board, task: RunTask) -> str:
    now = task.progress
    ended = now.done + now.failed
    done = ended if ended or task.captioning else None
    return _progress(now.total, done, "Windows captioned", _told(board, task))


def _progress(total: int, done: int | None, label: str, text: str) -> str:
    # Without a value the bar moves to and fro: how long it takes is not known.
    value = "" if done is None else f'value="{done}"'
    return (
        f'<div class="ck-progress"><progress max="{max(1, total)}" {value} '
        f'aria-label="{label}"></progress> {escape(text)}</div>'
    )


def _told(board: Board, task: RunTask) -> str:
    now = task.progress
    text = f"Run {task.run.id}: "
    if not (task.captioning or now.done or now.failed or board.session.endpoint):
        return text + _start(board, task)
    left = now.total - now.done - now.failed
    seconds = left / now.windows_per_s if now.windows_per_s else 0.0
    return f"{text}{now}" + (f", {duration(seconds)} left" if left and seconds else "")


def _start(board: Board, task: RunTask) -> str:
    if board.session.backend is not None or Engine.live() is not None:
        return "begins…"
    session = board.session
    key = engine_key(task.run.recipe, session.model_dir, **session.engine_options)
    expected = board.rates.starts.get(key.anywhere)
    usual = f" of about {expected:.0f} s" if expected else ""
    return f"the engine starts… {time.monotonic() - task.started:.0f} s{usual}"
