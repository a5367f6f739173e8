"""Whether vLLM's core lives: it answers between its steps, and computes during one."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import psutil

BEAT_S = 2.0
# Share of one processor that counts as computing. Measured: a worker whose core was stopped uses 0.001.
_COMPUTES = 0.02
# A large model on a slow processor may take minutes for a step of 8192 tokens; a core that spins for
# longer than this, on a GPU that hangs for instance, does not come back.
_LONGEST_STEP_S = 1800.0


class Liveness:
    """The core of an engine, in this process or in one of its children.

    Parameters
    ----------
    ask
        Puts a question to the core that it answers after the step under way.
    """

    def __init__(self, ask: Callable[[], Future[Any]]) -> None:
        own = psutil.Process()
        self._family = [own, *own.children(recursive=True)]
        self._ask = ask
        self._answer = ask()
        self._beats = 0

    def beat(self) -> bool:
        """Wait for `BEAT_S`; return whether the core answered or computed meanwhile."""
        before = self._processor_s()
        time.sleep(BEAT_S)
        if self._answer.done():
            self._answer, self._beats = self._ask(), 0
            return True
        # Beats, unlike a clock, stand still while the machine sleeps.
        self._beats += 1
        computed = self._processor_s() - before > _COMPUTES * BEAT_S
        return computed and self._beats * BEAT_S < _LONGEST_STEP_S

    def _processor_s(self) -> float:
        total = 0.0
        for process in self._family:
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            total += times.user + times.system
        return total
