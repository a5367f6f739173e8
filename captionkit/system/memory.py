"""Peak memory of processes, or of GPUs, while a block runs."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Sequence

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


class UsedGpus:
    """Memory in use on the GPUs of an engine, by anyone; a call measures it.

    Parameters
    ----------
    devices
        The GPUs, by index or by the UUID of a MIG device; none for the first ones that are visible.
    count
        Number of GPUs without ``devices``.
    """

    def __init__(self, devices: Sequence[str] = (), count: int = 1) -> None:
        #: The most in use on each GPU so far, in bytes; none if the driver does not answer.
        self.most: tuple[int, ...] = ()
        self._devices = set(devices)
        self._count = count

    def __call__(self) -> int:
        """Return the memory in use on the fullest GPU, in bytes; 0 if the driver does not answer."""
        gpus = hardware.find_gpus()
        if self._devices:
            gpus = [gpu for gpu in gpus if {gpu.uuid, str(gpu.index)} & self._devices]
        else:
            gpus = gpus[: self._count]
        used = tuple((gpu.memory_mib - gpu.free_mib) << 20 for gpu in gpus)
        self.most = tuple(map(max, itertools.zip_longest(self.most, used, fillvalue=0)))
        return max(used, default=0)
