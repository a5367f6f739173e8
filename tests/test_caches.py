"""The engine's caches fit the machine, and both hold the same windows."""

from __future__ import annotations

import pytest

from captionkit.engine.caches import GIB, WINDOW_TOKENS, cache_sizes


@pytest.mark.parametrize(
    ("width", "machine_gib", "gpu_gib"),
    [
        (256, 4, None),
        (256, 24, None),
        (256, 512, None),
        (3584, 64, 24),
        (3584, 2000, 80),
        (16384, 64, 24),
    ],
)
def test_neither_cache_takes_more_than_its_share(width, machine_gib, gpu_gib):
    gpu = None if gpu_gib is None else gpu_gib * GIB
    sizes = cache_sizes(width, machine_gib * GIB, gpu)
    assert 0 < sizes.processed_gib <= machine_gib / 8 + 0.01
    encoded = sizes.encoder_tokens * width * 2
    # vLLM leaves 15% of a GPU free.
    assert encoded <= (machine_gib * GIB / 8 if gpu is None else 0.1 * gpu)
    assert sizes.windows >= 16


def test_with_enough_memory_both_caches_hold_the_same_number_of_windows():
    sizes = cache_sizes(3584, 512 * GIB, 80 * GIB)
    processed = sizes.processed_gib * GIB / (2 * 28 * 28 * 3)
    assert sizes.encoder_tokens == pytest.approx(min(processed, 0.07 * 80 * GIB / 7168), rel=0.01)
    assert sizes.windows == min(int(processed), sizes.encoder_tokens) // WINDOW_TOKENS
