"""Peak memory of processes while a block runs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import psutil

_SAMPLE_S = 0.05


class PeakMemory:
    """The most that ``measure`` returns while a block runs and at its end, in bytes."""

    def __init__(self, measure: Callable[[], int]) -> None:
        self.most = 0
        self._measure = measure
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        ended = False
        while not ended:
            ended = self._ended.wait(_SAMPLE_S)
            self.most = max(self.most, self._measure())

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()


def resident_children() -> int:
    """Resident memory of all child processes, in bytes."""
    total = 0
    for child in psutil.Process(os.getpid()).children(recursive=True):
        try:
            total += child.memory_info().rss
        except psutil.Error:
            continue
    return total
