"""How fast the demo model learns: optimisers, their learning rate, the number format."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import nn

from captionkit.demo.muon import Muon

_WARM_UP = 0.1


def has_bfloat16() -> bool:
    """Whether this processor computes in bfloat16 itself.

    Emulated, bfloat16 is slower than float32. With AVX-512 BF16 and one thread, a step takes half the
    time.
    """
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "avx512_bf16" in cpuinfo.read_text()


def learning_rate(progress: float) -> float:
    """Learning rate at a share of a lesson, as a share of its peak: up, then down to zero.

    Depends on progress alone, so that a resumed lesson may also be made longer.
    """
    if progress < _WARM_UP:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * progress / _WARM_UP)) / 2
    return (1 + math.cos(math.pi * (progress - _WARM_UP) / (1 - _WARM_UP))) / 2


def optimisers_of(modules: nn.Module, peak: float) -> list[torch.optim.Optimizer]:
    """Make Muon for the matrices inside the blocks and AdamW for all else."""
    blocks: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in modules.named_parameters():
        inside = ("blocks." in name or "layers." in name) and parameter.ndim == 2
        (blocks if inside else rest).append(parameter)
    return [
        Muon(blocks, lr=peak * 10, weight_decay=0.02),
        torch.optim.AdamW(rest, lr=peak, weight_decay=0.02),
    ]
