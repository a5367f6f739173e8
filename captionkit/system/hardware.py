"""GPUs, processor and memory of this machine, found without importing torch."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

# Compute capability of Ada and Hopper, the first with fp8 matrix units.
FP8_CAPABILITY = 8.9
# Compute capability of Ampere, the first with bfloat16; vLLM keeps weights alone in fp8 there.
BF16_CAPABILITY = 8.0
_MIB = 1 << 20
_QUERY = "index,uuid,name,compute_cap,memory.total,memory.free,driver_version,mig.mode.current"
# Flags in /proc/cpuinfo of processors that compute in bfloat16: x86 and Arm.
_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
# What speed on a CPU depends on, by the names of /proc/cpuinfo.
_ABILITIES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "bf16")


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU as its driver describes it; memory in MiB.

    Parameters
    ----------
    name
        Name, with the slice of a MIG device.
    capability
        Compute capability, 0.0 if the driver does not say.
    memory_mib, free_mib
        All and free memory. A GPU that shares the machine's memory has the machine's.
    index, uuid
        Number and identifier in nvidia-smi.
    driver
        Version of the driver.
    shared
        Whether the driver does not say the memory, because the GPU shares the machine's.
    mig
        Whether the GPU is divided into MIG devices, of which a process uses one.
    """

    name: str
    capability: float
    memory_mib: int
    free_mib: int = -1
    index: int = 0
    uuid: str = ""
    driver: str = ""
    shared: bool = False
    mig: bool = False

    def __post_init__(self) -> None:
        if self.free_mib < 0:
            object.__setattr__(self, "free_mib", self.memory_mib)


@dataclass(frozen=True)
class Processor:
    """The processor and the memory that an engine without a GPU has; memory in MiB.

    Parameters
    ----------
    name
        Name of the processor.
    memory_mib, free_mib
        All and free memory, within the limit of the container.
    bf16
        Whether it computes in bfloat16; without, PyTorch converts each number twice.
    abilities
        Its instructions for arithmetic, by the names of /proc/cpuinfo.
    """

    name: str
    memory_mib: int
    free_mib: int
    bf16: bool = True
    abilities: tuple[str, ...] = ()

    @property
    def precision(self) -> str:
        """Sentence on the precision of an engine here."""
        if self.bf16:
            return "bfloat16: the processor computes in it"
        return (
            "float32: the processor has no bfloat16 of its own (/proc/cpuinfo has none of avx512_bf16, "
            "amx_bf16, bf16), where that is several times slower"
        )


def find_gpus(*, hidden: bool = False) -> list[Gpu]:
    """Return the NVIDIA GPUs that this process may use, in CUDA's order; none if there is no driver.

    A GPU that is divided into MIG devices counts as its first one, as CUDA has it.

    Parameters
    ----------
    hidden
        Return whole GPUs, and also those that ``CUDA_VISIBLE_DEVICES`` hides.
    """
    table = _nvidia_smi(f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits")
    gpus = [gpu for line in table.splitlines() if (gpu := _gpu(line))]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden or not gpus:
        return gpus
    divided = any(gpu.mig for gpu in gpus) or "MIG" in (visible or "")
    return _choose(gpus, _slices(gpus) if divided else [], visible)


def _nvidia_smi(*words: str) -> str:
    """Return what nvidia-smi prints; an empty text if it is missing or fails."""
    try:
        done = subprocess.run(
            ["nvidia-smi", *words], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def _gpu(line: str) -> Gpu | None:
    """Read a line of nvidia-smi's table; None for a message in its place."""
    parts = [part.strip() for part in line.split(",")]
    # GPUs without MIG say [N/A] or [Not Supported]; if nothing is said, the driver comes last.
    mig = "" if re.fullmatch(r"[\d.]+", parts[-1]) else parts.pop()
    if len(parts) < 7 or not parts[0].isdigit():
        return None
    index, uuid, *name, capability, total, free, driver = parts
    memory, left = _number(total), _number(free)
    shared = memory is None
    if memory is None:
        host = find_processor()
        memory, left = float(host.memory_mib), float(host.free_mib)
    return Gpu(
        ", ".join(name),
        _number(capability) or 0.0,
        int(memory),
        int(memory if left is None else left),
        int(index),
        uuid,
        driver,
        shared,
        mig == "Enabled",
    )


def _number(text: str) -> float | None:
    """Return a number, or None for ``[N/A]`` and the like."""
    try:
        return float(text)
    except ValueError:
        return None


def _choose(gpus: Sequence[Gpu], slices: Sequence[Gpu], visible: str | None) -> list[Gpu]:
    """Return the GPUs of ``CUDA_VISIBLE_DEVICES`` in its order; CUDA stops at the first unknown one.

    None stands for all GPUs.
    """
    entries = [str(gpu.index) for gpu in gpus] if visible is None else visible.split(",")
    chosen: list[Gpu] = []
    for entry in (each.strip() for each in entries):
        if entry.startswith("MIG"):
            found = [part for part in slices if part.uuid.startswith(entry)]
        elif entry.isdigit():
            found = [gpu for gpu in gpus if gpu.index == int(entry)]
        else:
            found = [gpu for gpu in gpus if entry and gpu.uuid.startswith(entry)]
        if found and found[0].mig:
            found = [part for part in slices if part.index == found[0].index]
            if not found and visible is None:
                continue
        if not found or found[0] in chosen:
            break
        chosen.append(found[0])
    return chosen


def _slices(gpus: Sequence[Gpu]) -> list[Gpu]:
    """Return all MIG devices; their memory is in the names of their profiles (``3g.40gb``)."""
    found = []
    parent: Gpu | None = None
    for line in _nvidia_smi("-L").splitlines():
        if head := re.match(r"GPU (\d+):", line):
            parent = next((gpu for gpu in gpus if gpu.index == int(head[1])), None)
        part = re.search(r"MIG (\S*?(\d+)gb\S*).*UUID:\s*(MIG-[^)\s]+)", line)
        if parent is not None and part:
            # A slice of 10 GB has 9.5 to 9.75 GiB.
            mib = int(int(part[2]) * 1024 * 0.95)
            name = f"{parent.name} MIG {part[1]}"
            found.append(Gpu(name, parent.capability, mib, mib, parent.index, part[3], parent.driver))
    return found


def driver_problem() -> str:
    """Return what nvidia-smi says where it finds no GPU; empty if it is missing or finds one."""
    if find_gpus(hidden=True):
        return ""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20)
    except subprocess.TimeoutExpired:
        return "nvidia-smi does not answer"
    except OSError:
        return ""
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    if lines and lines[0].startswith("GPU "):
        return f"the driver is too old to describe {lines[0]}"
    return lines[0] if lines else f"nvidia-smi ends with {done.returncode} and says nothing"


def driver_cuda() -> tuple[int, int] | None:
    """Return the newest CUDA version that the driver runs; None if there is no driver."""
    found = re.search(r"CUDA(?: \w+)? Version\s*:\s*(\d+)\.(\d+)", _nvidia_smi())
    return (int(found[1]), int(found[2])) if found else None


def torch_cuda() -> tuple[int, int] | None:
    """Return the CUDA version that the installed torch is built for; None of a build without CUDA."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"^cuda\b[^=]*=\s*['\"](\d+)\.(\d+)", text, re.M)
    return (int(found[1]), int(found[2])) if found else None


def find_processor() -> Processor:
    """Return the processor, and the memory that this process may use."""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        cpuinfo = ""
    total, free = memory()
    name = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.M)
    return Processor(
        name[1].strip() if name else platform.machine(),
        total // _MIB,
        free // _MIB,
        has_bf16(cpuinfo),
        abilities(cpuinfo),
    )


def has_bf16(cpuinfo: str) -> bool:
    """Return whether a processor computes in bfloat16, by the text of its /proc/cpuinfo.

    A system without that file, or without flags in it, counts as one that does: vLLM then decides.
    """
    flags = _flags(cpuinfo)
    return flags is None or not _BF16_FLAGS.isdisjoint(flags)


def abilities(cpuinfo: str) -> tuple[str, ...]:
    """Return the instructions for arithmetic that a processor has, by its /proc/cpuinfo."""
    flags = _flags(cpuinfo) or []
    return tuple(name for name in _ABILITIES if name in flags)


def _flags(cpuinfo: str) -> list[str] | None:
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.M)
    return found and found[1].split()


def memory(root: Path = Path("/")) -> tuple[int, int]:
    """Return all and free memory in bytes, within the limit of the container (cgroup v1 or v2).

    Parameters
    ----------
    root
        Root of the file system with ``proc`` and ``sys``.
    """
    host = psutil.virtual_memory()
    total, free = int(host.total), int(host.available)
    for limit, used in _limits(root):
        total, free = min(total, limit), min(free, max(0, limit - used))
    return total, free


def _limits(root: Path) -> list[tuple[int, int]]:
    """Return (limit, use) in bytes of each control group around this process that has a limit."""
    base = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if controllers == "":
            top, names = base, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top = base / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # In a container, the path of the host may be hidden and the group be the top itself.
        folder = top / path.lstrip("/")
        for each in dict.fromkeys((folder, *folder.parents)):
            if each.is_relative_to(top) and (limit := _read(each / names[0])) is not None:
                used = (_read(each / names[1]) or 0) - _pages(each / "memory.stat", names[2])
                found.append((limit, max(0, used)))
    return found


def _read(path: Path) -> int | None:
    """Return the number in a file; None if there is none (``max``)."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _pages(path: Path, name: str) -> int:
    """Return the bytes of files kept in memory that the kernel gives up when asked."""
    try:
        found = re.search(rf"^{name} (\d+)$", path.read_text(), re.M)
    except OSError:
        return 0
    return int(found[1]) if found else 0


def require_fp8(card: Gpu | Processor | None = None) -> None:
    """Refuse fp8 unless a GPU has it, or keeps its weights in it.

    GPUs of capability 8.9 and more compute in fp8. On 8.0 to 8.8 (Ampere) vLLM keeps weights in fp8 and
    computes in 16 bits (Marlin).

    Parameters
    ----------
    card
        What the engine runs on; None takes the GPU in use.

    Raises
    ------
    ValueError
        The card has no fp8; the message says what is needed and what was found.
    """
    card = card or next(iter(find_gpus()), None)
    found = "no NVIDIA GPU"
    if isinstance(card, Gpu):
        if card.capability >= BF16_CAPABILITY:
            return
        found = f"{card.name} ({card.capability})"
    raise ValueError(
        f"fp8 needs an NVIDIA GPU of compute capability {FP8_CAPABILITY} or more (Ada, Hopper, "
        f"Blackwell), or {BF16_CAPABILITY} for weights alone (Ampere); found: {found}. Leave fp8 off "
        "here."
    )
