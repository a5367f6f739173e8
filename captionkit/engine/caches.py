"""Sizes of the engine's caches of windows, by the memory of the machine.

A new text on a known window is fast while two caches hold the window: vLLM's processed video, in the
machine's memory, and its encoded video, in the device's. Both are sized alike, for as many windows as
fit.
"""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30
# 20 frames of 448 x 252, the reference's window.
WINDOW_TOKENS = 1440
# A video token covers two frames of 28 x 28 pixels, which are kept as bytes: vLLM normalizes later.
_PROCESSED_BYTES = 2 * 28 * 28 * 3
_PROCESSED_SHARE = 1 / 8
_MOST_PROCESSED_GIB = {"cpu": 4.0, "gpu": 32.0}
# Half of the 15% of a GPU that vLLM leaves free: vLLM does not count this cache.
_GPU_SHARE = 0.07
_LEAST_TOKENS = 32_768


@dataclass(frozen=True)
class CacheSizes:
    """GiB of processed videos, and tokens of encoded videos."""

    processed_gib: float
    encoder_tokens: int

    @property
    def windows(self) -> int:
        """Number of the reference's windows (20 frames of 448 x 252) that both hold."""
        processed = int(self.processed_gib * GIB / (WINDOW_TOKENS * _PROCESSED_BYTES))
        return min(processed, self.encoder_tokens // WINDOW_TOKENS)


def cache_sizes(width: int, machine_bytes: int, gpu_bytes: int | None) -> CacheSizes:
    """Return the sizes for a model on a machine.

    Parameters
    ----------
    width
        Width of an encoded token, in numbers of 16 bits.
    machine_bytes, gpu_bytes
        All memory of the machine, and of its GPU (None if there is none).
    """
    most = _MOST_PROCESSED_GIB["cpu" if gpu_bytes is None else "gpu"]
    processed = round(min(most, machine_bytes * _PROCESSED_SHARE / GIB), 2)
    tokens = int(processed * GIB / _PROCESSED_BYTES)
    room = machine_bytes * _PROCESSED_SHARE if gpu_bytes is None else gpu_bytes * _GPU_SHARE
    return CacheSizes(processed, max(_LEAST_TOKENS, min(tokens, int(room / (2 * width)))))
