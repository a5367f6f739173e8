"""The engine's caches fit the machine, and both hold the same windows."""

from __future__ import annotations

import pytest

from captionkit.engine.caches import GIB, PROCESSED_BYTES, encoder_tokens, processed_gib


@pytest.mark.parametrize("machine_gib", [4, 24, 512, 2000])
@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize("engines", [1, 2, 8])
def test_processed_videos_take_an_eighth_of_the_machine_shared_by_its_engines(
    machine_gib, on_gpu, engines
):
    each = processed_gib(machine_gib * GIB, on_gpu=on_gpu, engines=engines)
    assert 0 < each * engines <= machine_gib / 8 + 0.01 * engines
    assert each <= (32 if on_gpu and engines == 1 else 4)


def test_with_enough_memory_both_caches_hold_the_same_number_of_windows():
    processed = processed_gib(512 * GIB, on_gpu=True)
    tokens = encoder_tokens(4096, 512 * GIB, processed, on_gpu=True)
    assert tokens == int(processed * GIB / PROCESSED_BYTES)
    # A smaller card holds fewer encoded videos: 7% of it.
    few = encoder_tokens(7168, 80 * GIB, processed, on_gpu=True)
    assert few == pytest.approx(0.07 * 80 * GIB / 7168, rel=0.01)
