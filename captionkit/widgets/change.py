"""Change: what the listeners of a board get. Work: a run under way on a board."""

from __future__ import annotations

from dataclasses import dataclass

from captionkit.run import RunTask


@dataclass(frozen=True)
class Change:
    """Windows that changed, and what happened to the list of windows.

    ``ended`` says that runs ended, ``grown`` that more videos were opened, ``recut`` that all windows
    are others, and ``form`` that the tuner's form says something else.
    """

    indexes: frozenset[int]
    ended: bool = False
    grown: bool = False
    recut: bool = False
    form: bool = False


@dataclass(frozen=True)
class Work:
    """A run under way: since when, for how many windows, and which view asked for it."""

    task: RunTask
    started: float
    waiting: int
    view: str
