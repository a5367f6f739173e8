"""What ``captionkit doctor`` finds about GPUs, driver and processor, and what a model takes there."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from captionkit.engine.caches import GIB
from captionkit.engine.errors import TooLittleMemoryError
from captionkit.engine.memory import plan_memory
from captionkit.engine.process import runs_on_cpu
from captionkit.engine.shapes import read_shape
from captionkit.models.variants import Variant
from captionkit.models.weights import find_config
from captionkit.recipe import Recipe
from captionkit.system import hardware
from captionkit.system.hardware import BF16_CAPABILITY, FP8_CAPABILITY, Gpu, Processor

# The least that vLLM's builds of version 0.21 and later run on, by its installation guide.
_LEAST_CAPABILITY = 7.5
# A GPU with less of its memory free has another user.
_FREE_SHARE = 0.9
_FP8_NEEDS = f"needs a GPU of capability {FP8_CAPABILITY} or more (Ada, Hopper, Blackwell)"


@dataclass(frozen=True)
class Finding:
    """One line of the report; ``advice`` is empty if there is nothing to do."""

    topic: str
    found: str
    advice: str = ""
    blocks: bool = False


def examine_device() -> list[Finding]:
    """Return findings about the processor, the GPUs, and what vLLM needs beside them."""
    gpus = hardware.find_gpus()
    return [
        _processor(),
        *(_gpu(gpu, used=gpu is gpus[0], alone=len(gpus) == 1) for gpu in gpus),
        *_not_visible(gpus),
        *([_driver(gpus[0]), _compiler(), _headers()] if gpus else []),
        _fp8(gpus),
    ]


def _processor() -> Finding:
    here = hardware.find_processor()
    found = (
        f"{here.name}, {os.cpu_count()} cores, {here.memory_mib:,} MiB of memory, "
        f"{here.free_mib:,} free; {here.precision}"
    )
    if here.bf16 or not runs_on_cpu():
        return Finding("processor", found)
    advice = (
        "nothing: engines here take float32 by themselves, with twice the memory of bfloat16; a "
        "processor with AVX-512 BF16 or AMX, or a GPU, is faster"
    )
    return Finding("processor", found, advice)


def _gpu(gpu: Gpu, *, used: bool, alone: bool) -> Finding:
    capability = f"capability {gpu.capability}" if gpu.capability else "capability not told"
    memory = f"{gpu.memory_mib:,} MiB, {gpu.free_mib:,} free"
    if gpu.shared:
        memory = f"memory not told: shares the machine's, {memory}"
    found = f"{gpu.name}, {capability}, {memory}{', in use' if used and not alone else ''}"
    advice, blocks = [], False
    if not gpu.capability:
        advice.append("update the driver, which does not tell the capability")
    elif gpu.capability < _LEAST_CAPABILITY:
        advice.append(f"too old for vLLM, which needs capability {_LEAST_CAPABILITY} or more")
        blocks = used and not runs_on_cpu()
    elif gpu.capability < BF16_CAPABILITY:
        advice.append("nothing: without bfloat16, models run in float16")
    if gpu.shared:
        advice.append("set memory_share to leave memory to other programs")
    elif gpu.free_mib < _FREE_SHARE * gpu.memory_mib:
        advice.append("end what else uses it (nvidia-smi shows it), or lower memory_share")
    return Finding(f"GPU {gpu.index}", found, "; ".join(advice), blocks=blocks)


def _not_visible(gpus: list[Gpu]) -> list[Finding]:
    """Return what keeps GPUs of this machine from being used."""
    every = hardware.find_gpus(hidden=True)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not every:
        if problem := hardware.driver_problem():
            advice = "start the machine again, or install a new NVIDIA driver"
            return [Finding("GPU", f"none: {problem}", advice, blocks=not runs_on_cpu())]
        return [Finding("GPU", "none (no NVIDIA driver found)")]
    found = []
    if visible is not None:
        entries = [each.strip() for each in visible.split(",")]
        names = ", ".join(f"{gpu.index} ({gpu.name})" for gpu in every)
        if not gpus:
            advice = "unset it, or give a number or an identifier of nvidia-smi -L, to use a GPU"
            said = f"{visible!r} hides all GPUs: {names}"
            return [Finding("CUDA_VISIBLE_DEVICES", said, advice, blocks=not runs_on_cpu())]
        if len(gpus) < len(entries):
            said = f"{visible!r}: CUDA finds no GPU {entries[len(gpus)]!r} and stops there; has {names}"
            advice = "take that entry out, or give a number or an identifier of nvidia-smi -L"
            found.append(Finding("CUDA_VISIBLE_DEVICES", said, advice))
        elif len(gpus) < len(every):
            found.append(Finding("CUDA_VISIBLE_DEVICES", f"{visible!r} of {names}"))
    empty = [gpu for gpu in every if gpu.mig and gpu.index not in {each.index for each in gpus}]
    if empty and visible is None:
        said = ", ".join(f"GPU {gpu.index} ({gpu.name})" for gpu in empty)
        advice = "create one (nvidia-smi mig -cgi PROFILE -C), or switch MIG off (nvidia-smi -mig 0)"
        found.append(Finding("MIG", f"{said} is in MIG mode and has no MIG device", advice))
    return found


def _driver(gpu: Gpu) -> Finding:
    """Compare the driver with the CUDA that torch is built for.

    Within one major version, a program runs on drivers of older minor versions:
    https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
    """
    runs, built = hardware.driver_cuda(), hardware.torch_cuda()
    found = f"{gpu.driver or 'version not told'}, CUDA up to {_dotted(runs)}"
    if built is None:
        return Finding("driver", f"{found}; this torch is built without CUDA")
    found = f"{found}; torch is built for CUDA {_dotted(built)}"
    if runs is None:
        return Finding("driver", found, "update the driver, which does not tell its CUDA version")
    if runs >= built:
        return Finding("driver", found)
    advice = f"update the driver to one for CUDA {_dotted(built)} or newer"
    if runs[0] == built[0]:
        return Finding("driver", found, f"{advice} if a kernel is missing; most run as it is")
    package = f"cuda-compat-{built[0]}-{built[1]}"
    return Finding("driver", found, f"{advice}, or on a data-center GPU install {package}", blocks=True)


def _dotted(version: tuple[int, int] | None) -> str:
    return "unknown" if version is None else f"{version[0]}.{version[1]}"


def _compiler() -> Finding:
    """Look for a C compiler in Triton's order: it compiles for the GPU when a model starts."""
    given = os.environ.get("CC")
    found = shutil.which(given) if given else shutil.which("clang") or shutil.which("gcc")
    if found:
        return Finding("C compiler", found)
    what = f"CC is {given!r}, which is not there" if given else "none"
    advice = (
        f"{'unset CC, or ' if given else ''}install gcc (apt install gcc): Triton needs it on a GPU"
    )
    return Finding("C compiler", what, advice, blocks=not runs_on_cpu())


def _headers() -> Finding:
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if header.exists():
        return Finding("Python headers", str(header.parent))
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-dev"
    advice = f"apt install {package}: Triton needs them on a GPU"
    return Finding("Python headers", f"{header} is missing", advice, blocks=not runs_on_cpu())


def _fp8(gpus: list[Gpu]) -> Finding:
    """Say whether the GPU in use, the first, has fp8."""
    if not gpus:
        return Finding("fp8", "no", _FP8_NEEDS)
    used = gpus[0]
    said = f"{used.name}, capability {used.capability}"
    if used.capability >= FP8_CAPABILITY:
        return Finding("fp8", f"yes ({said})")
    other = next((gpu for gpu in gpus if gpu.capability >= FP8_CAPABILITY), None)
    advice = f"; CUDA_VISIBLE_DEVICES={other.index} takes {other.name}" if other else ""
    if used.capability >= BF16_CAPABILITY:
        saves = "saves memory, not time: vLLM computes in 16 bits (Marlin)"
        return Finding("fp8", f"weights only ({said})", f"{saves}{advice}")
    return Finding("fp8", f"no ({said})", f"{_FP8_NEEDS}{advice}")


def examine_model(
    variant: Variant,
    model_dir: str | Path,
    *,
    fp8: bool = False,
    max_model_len: int | None = None,
    memory_share: float | None = None,
    tensor_parallel: int = 1,
) -> list[Finding]:
    """Return what an engine of a model takes of each GPU, or of the processor.

    Parameters
    ----------
    variant
        The model; one that is not downloaded is judged by its published configuration.
    model_dir
        Folder of downloaded weights.
    fp8, max_model_len, memory_share, tensor_parallel
        As for `plan_memory`.
    """
    on_cpu = runs_on_cpu()
    cards: list[Gpu | Processor] = [*hardware.find_gpus()]
    used = hardware.find_processor() if on_cpu else cards[0]
    config, stored = find_config(variant, model_dir)
    if config is None:
        advice = f"captionkit download {variant.name} --model-dir {model_dir}"
        return [Finding(variant.name, "its size is known once it is downloaded", advice)]
    try:
        read_shape(config)
    except (ValueError, TypeError) as error:
        return [Finding(variant.name, f"what it takes is known once it loads: {error}")]
    findings = []
    for card in [*cards, *([used] if on_cpu else [])]:
        topic = f"{variant.name} on {card.name}"
        try:
            plan = plan_memory(
                config,
                stored,
                card,
                Recipe(),
                fp8=fp8,
                max_model_len=max_model_len,
                memory_share=memory_share,
                tensor_parallel=tensor_parallel,
                host_bytes=hardware.memory()[0],
            )
        except TooLittleMemoryError as error:
            said, _, todo = str(error).partition(" To do: ")
            findings.append(Finding(topic, said, todo, blocks=card is used))
        except ValueError as error:
            findings.append(Finding(topic, "cannot start", str(error), blocks=card is used))
        else:
            findings.append(Finding(topic, "\n".join(plan.describe())))
            if card is used:
                findings.append(
                    Finding(
                        "window cache",
                        f"{plan.cached_windows} windows of 20 frames at 448 x 252 stay cached "
                        f"({plan.processed_gib:g} GiB of memory, {plan.encoder_bytes / GIB:.1f} GiB "
                        "of the card)",
                    )
                )
    return findings
