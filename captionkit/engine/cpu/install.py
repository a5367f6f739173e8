"""The one door to the patches of vLLM on a CPU: `install`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from vllm.model_executor.models import registry
from vllm.v1.engine.core import EngineCore

from captionkit.engine.cpu import inproc_core, kernels
from captionkit.engine.cpu.encode_ahead import EncodeAhead
from captionkit.engine.cpu.scheduler import CaptionScheduler


def install(on_started: Callable[[str], None]) -> dict[str, Any]:
    """Patch vLLM in this process for captions on a CPU; called once, before vLLM is configured.

    Parameters
    ----------
    on_started
        Called with a request's id before a step that works on it for the first time; from the core's
        thread and the encoder's.

    Returns
    -------
    dict
        Arguments of vLLM's ``AsyncEngineArgs`` that belong to the patches.
    """

    def attach(core: EngineCore) -> None:
        runner = core.model_executor.driver_worker.worker.model_runner
        core.scheduler.attach(EncodeAhead(runner, on_started), on_started)
        silence_thread_warnings()

    use_one_process()
    inspect_models_here()
    kernels.register()
    inproc_core.register(attach)
    return {
        "distributed_executor_backend": "uni",
        "ir_op_priority": kernels.PRIORITY,
        "scheduler_cls": CaptionScheduler,
    }


def use_one_process() -> None:
    """Keep vLLM's executor in this process.

    Reason: with multiprocessing on, the CPU platform silently replaces the executor ``uni`` by ``mp``,
    which starts one more process.
    Upstream: https://github.com/vllm-project/vllm/blob/v0.32.0/vllm/platforms/cpu.py
    Goes when: the CPU platform keeps an executor that was asked for.
    """
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"


def inspect_models_here() -> None:
    """Have vLLM inspect a model's class in this process.

    Reason: vLLM starts a new Python for that, to keep CUDA out of its parent. Without CUDA that costs
    six seconds for nothing, and the new process lacks what `torch_companions.reconcile` does.
    Upstream: https://github.com/vllm-project/vllm/issues/19317
    Goes when: vLLM has an option for it, or needs no process on a CPU.
    """
    registry._run_in_subprocess = lambda inspect: inspect()


def silence_thread_warnings() -> None:
    """Silence the warning that threads cannot be changed.

    Reason: the CPU worker replaces ``torch.set_num_threads`` by a warning, and vLLM's front calls that
    with each request. Called after the worker is made, since vLLM configures its loggers before.
    Upstream: https://github.com/vllm-project/vllm/blob/v0.32.0/vllm/v1/worker/cpu_worker.py
    Goes when: the warning comes once.
    """
    logging.getLogger("vllm.v1.worker.cpu_worker").setLevel(logging.ERROR)
