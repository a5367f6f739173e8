"""Sizes of the engine's caches of windows, by the memory of the machine.

A new text on a known window is fast while two caches hold the window: vLLM's processed video, in the
machine's memory, and its encoded video, in the device's. Both are sized alike, for as many windows as
fit.
"""

from __future__ import annotations

GIB = 2**30
# 20 frames of 448 x 252, the reference's window.
WINDOW_TOKENS = 1440
# A video token covers two frames of 28 x 28 pixels, which are kept as bytes: vLLM normalizes later.
PROCESSED_BYTES = 2 * 28 * 28 * 3
_PROCESSED_SHARE = 1 / 8
_MOST_GIB = 4.0
# Of a GPU that a session has for itself: a new prompt then knows the windows of a whole collection.
_MOST_GIB_ALONE = 32.0
_GPU_SHARE = 0.07
_LEAST_TOKENS = 32_768


def processed_gib(host_bytes: int, *, on_gpu: bool, engines: int = 1) -> float:
    """Return the GiB of processed videos that an engine keeps in the machine's memory.

    Parameters
    ----------
    host_bytes
        Memory of the machine, or the limit of its container.
    on_gpu
        Whether the model itself is elsewhere.
    engines
        Engines on the machine; several take 4 GiB each at most, since windows at scale come once.
    """
    most = _MOST_GIB_ALONE if on_gpu and engines == 1 else _MOST_GIB
    return round(min(most, host_bytes * _PROCESSED_SHARE / engines / GIB), 2)


def encoder_tokens(encoded_bytes: int, card_bytes: int, processed: float, *, on_gpu: bool) -> int:
    """Return the encoded video tokens that an engine with enough memory keeps on its card.

    Parameters
    ----------
    encoded_bytes
        Bytes of an encoded token.
    card_bytes
        Memory of the GPU, or of the machine for an engine on a CPU.
    processed
        GiB of processed videos: more encoded ones would be of no use.
    on_gpu
        Whether the card is a GPU.
    """
    share = _GPU_SHARE if on_gpu else _PROCESSED_SHARE
    most = int(processed * GIB / PROCESSED_BYTES)
    return max(_LEAST_TOKENS, min(most, int(card_bytes * share / encoded_bytes)))
