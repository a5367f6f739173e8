"""The time of the bench: how many windows fit, and what the quick one leaves out."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator

from rich.console import Console

# Of the five minutes, the start of Python and the end of the engines take some.
_QUICK_S, _MOST_S = 270, 285
# What the full bench aims at; it takes as long as it takes.
_FULL_S = 1800
# What each case costs once, in runs of all its windows of two stages at the reference.
_WINDOW_RUNS = {"prompt edit": 1.5, "two stages": 2.0, "one stage": 1.1, "ceiling": 1.1}
# What all cases of the full bench cost, with their repeats; a large model has fewer of them.
_FULL_RUNS, _REAL_RUNS = 24.0, 15.0


class _TimeUp(KeyboardInterrupt):
    """Raised when the time of the quick bench is over; ends all work as Ctrl-C does."""


class Clock:
    """The time since the bench began, and what of it is left; the full bench has no end."""

    def __init__(self, console: Console, *, quick: bool, real: bool = False) -> None:
        self._console = console
        self._began = time.monotonic()
        self._end = self._began + _QUICK_S if quick else math.inf
        self._aim, self._runs = (
            (_QUICK_S, sum(_WINDOW_RUNS.values()))
            if quick
            else (_FULL_S, _REAL_RUNS if real else _FULL_RUNS)
        )
        # Seconds of one window of two stages by itself at the reference.
        self._window_s = 0.0

    def say(self, text: str) -> None:
        """Print what begins now, with the time."""
        spent = int(time.monotonic() - self._began)
        self._console.print(f"[dim]{spent // 60}:{spent % 60:02} {text}[/dim]")

    def fitting(self, window: Callable[[], object], fewest: int, most: int) -> int:
        """Time a first window, and return how many windows all cases have time for."""
        # Run it twice: the first window of an engine also pays for what is made once.
        for _ in range(2):
            started = time.monotonic()
            window()
            self._window_s = time.monotonic() - started
        left = self._began + self._aim - time.monotonic()
        count = max(fewest, min(most, int(left / (self._window_s * self._runs))))
        self.say(
            f"a window of two stages takes {self._window_s:.1f} s at the reference: {count} of {most} "
            f"windows, for about {self._aim // 60} minutes (the goals are meant for all of them)"
        )
        return count

    def has_time(self, case: str, windows: int) -> bool:
        """Return whether there is time for a case, by the first window; say so if there is not."""
        expected = _WINDOW_RUNS[case] * windows * self._window_s
        fits = time.monotonic() + expected < self._end
        if not fits:
            self._console.print(
                f"{case} is left out: of about {expected:.0f} s, there is no time for it"
            )
        return fits


@contextlib.contextmanager
def five_minutes(console: Console, *, quick: bool) -> Iterator[None]:
    """End a block when the time of the quick bench is over, and say so; else let it run."""

    def end(*_: object) -> None:
        raise _TimeUp

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(_MOST_S if quick else 0)
    try:
        yield
    except _TimeUp:
        console.print(
            "the five minutes are over; this is what was measured. vLLM keeps what it compiled at its "
            "first start, and the films are kept: a second run has more time"
        )
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
