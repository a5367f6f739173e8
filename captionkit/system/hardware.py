"""GPUs of this machine, found without importing torch."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

# Compute capability of Ada and Hopper, the first with fp8 matrix units.
FP8_CAPABILITY = 8.9


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU as its driver describes it; memory in MiB."""

    name: str
    capability: float
    memory_mib: int


def find_gpus() -> list[Gpu]:
    """Return the NVIDIA GPUs of this machine; none if there is no driver."""
    query = "name,compute_cap,memory.total"
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    gpus = []
    for line in done.stdout.splitlines():
        name, capability, memory = (part.strip() for part in line.rsplit(",", 2))
        gpus.append(Gpu(name, float(capability), int(float(memory))))
    return gpus


def require_fp8() -> None:
    """Refuse fp8 unless a GPU has it.

    Raises
    ------
    ValueError
        No GPU has fp8; the message says what is needed and what was found.
    """
    gpus = find_gpus()
    if any(gpu.capability >= FP8_CAPABILITY for gpu in gpus):
        return
    found = ", ".join(f"{gpu.name} ({gpu.capability})" for gpu in gpus) or "no NVIDIA GPU"
    raise ValueError(
        f"fp8 needs an NVIDIA GPU of compute capability {FP8_CAPABILITY} or more (Ada, Hopper, "
        f"Blackwell); found: {found}. Leave fp8 off here."
    )
