"""Peak memory of processes, or of a GPU, while a block runs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import psutil

from captionkit.system import hardware

_SAMPLE_S = 0.05
# nvidia-smi is a program that takes a moment, and an engine takes its GPU's memory when it starts.
GPU_SAMPLE_S = 2.0


class PeakMemory:
    """The most that ``measure`` returns while a block runs and at its end, in bytes."""

    def __init__(self, measure: Callable[[], int], every_s: float = _SAMPLE_S) -> None:
        self.most = 0
        self._measure = measure
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        ended = False
        while not ended:
            ended = self._ended.wait(self._every_s)
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


def used_gpu() -> int:
    """Memory in use on the GPU in use, the first one, in bytes; 0 if the driver does not answer."""
    return sum((gpu.memory_mib - gpu.free_mib) << 20 for gpu in hardware.find_gpus()[:1])
