"""How fast the demo model learns: optimisers, their rate over a lesson, and the numbers computed in.

Imports torch and Muon; called by `demo.train`.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import nn

from captionkit.demo.muon import Muon

_WARM_UP = 0.1


def has_bfloat16() -> bool:
    """Whether this processor computes in bfloat16 itself; where it only emulates it, it is slower.

    With it a step takes half the time (AVX-512 with BF16, one thread).
    """
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "avx512_bf16" in cpuinfo.read_text()


def learning_rate(progress: float) -> float:
    """The learning rate after a part of a lesson, as a part of its peak: up, then down to nothing.

    A function of progress alone, so that a lesson that is resumed may also be made longer.
    """
    if progress < _WARM_UP:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * progress / _WARM_UP)) / 2
    return (1 + math.cos(math.pi * (progress - _WARM_UP) / (1 - _WARM_UP))) / 2


def optimisers_of(modules: nn.Module, peak: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for all else."""
    blocks: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in modules.named_parameters():
        inside = ("blocks." in name or "layers." in name) and parameter.ndim == 2
        (blocks if inside else rest).append(parameter)
    return [
        Muon(blocks, lr=peak * 10, weight_decay=0.02),
        torch.optim.AdamW(rest, lr=peak, weight_decay=0.02),
    ]
