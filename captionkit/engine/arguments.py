"""Arguments of vLLM, in an engine of our own and as a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captionkit.engine.memory import plan_memory
from captionkit.engine.plan import MemoryPlan
from captionkit.engine.protocol import EngineKey
from captionkit.engine.several import fullest
from captionkit.engine.shapes import read_shape
from captionkit.models.families import read_family
from captionkit.system import hardware

if TYPE_CHECKING:
    from captionkit.recipe import Recipe

# Tokens that vLLM gathers before it emits text; a message costs a small model as much as a step.
_STREAM_INTERVAL = 8
# Tokens of a block of the cache on a CPU: what a block holds with other tokens is computed anew. vLLM's
# 128 cost a question about a known window four times the tokens of its text, and it took 1.4 as long.
_CPU_BLOCK = 32


def check_memory(key: EngineKey, recipe: Recipe, card: hardware.Gpu | hardware.Processor) -> None:
    """Refuse an engine that cannot start on a card, before anything is loaded.

    A configuration that leaves sizes out is not judged here: the worker reads it with transformers.

    Parameters
    ----------
    key, recipe
        The engine, and the windows that must fit.
    card
        The card; its free memory counts.

    Raises
    ------
    TooLittleMemoryError, ValueError
        As `plan_memory`.
    """
    config = json.loads((Path(key.model) / "config.json").read_text(encoding="utf-8"))
    try:
        read_shape(config)
    except (ValueError, TypeError):
        return
    _plan(key, config, card, recipe)


def engine_arguments(key: EngineKey) -> tuple[dict[str, Any], MemoryPlan]:
    """Return arguments of vLLM's ``AsyncEngineArgs``, and the plan that they and `tune` follow.

    Raises
    ------
    TooLittleMemoryError, ValueError
        As `plan_memory`.
    """
    from transformers import AutoConfig
    from vllm.platforms import current_platform

    on_cpu = current_platform.is_cpu()
    config = AutoConfig.from_pretrained(key.model, local_files_only=True).to_dict()
    plan = _plan(key, config, hardware.find_processor() if on_cpu else _gpu(key, current_platform))
    family = read_family(Path(key.model))
    frames, width, height = plan.profile_video
    video: Any = 1
    if not on_cpu:
        video = {"count": 1, "num_frames": frames, "width": width, "height": height}
    arguments = {
        "model": key.model,
        "quantization": plan.quantization,
        "dtype": plan.dtype,
        "max_model_len": plan.max_model_len,
        "max_num_seqs": plan.max_num_seqs,
        "max_num_batched_tokens": plan.max_num_batched_tokens,
        "limit_mm_per_prompt": family.limits(video),
        "mm_processor_kwargs": family.processor_kwargs(key.processor_pixels),
        "mm_processor_cache_gb": 0 if key.disable_mmcache else plan.processed_gib,
        "stream_interval": _STREAM_INTERVAL,
        # Forbid white space: given the choice, small models write it until they are cut off.
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        "enable_prefix_caching": True,
        "enforce_eager": on_cpu,
        "scheduling_policy": "priority",
        "skip_mm_profiling": on_cpu,
        "trust_remote_code": False,
    }
    if key.tensor_parallel > 1:
        arguments |= {
            "tensor_parallel_size": key.tensor_parallel,
            # Each GPU encodes whole videos: a tower is too small to be worth dividing.
            "mm_encoder_tp_mode": "data",
            "distributed_executor_backend": "mp",
        }
    if on_cpu:
        arguments |= {"kv_cache_memory_bytes": plan.kv_bytes, "block_size": _CPU_BLOCK}
    else:
        arguments["gpu_memory_utilization"] = plan.gpu_memory_utilization
    return arguments, plan


def tune(config: Any, plan: MemoryPlan) -> None:
    """Set the encoder's cache and the videos of a step on a built configuration of vLLM.

    Reason: vLLM has no argument for either, and takes ``max_num_batched_tokens``: a few videos, while a
    session asks again about hundreds, and less than a long window, which would wait forever.
    Upstream: https://github.com/vllm-project/vllm/pull/34051
    Goes when: the sizes can be configured.
    """
    config.scheduler_config.encoder_cache_size = plan.encoder_tokens
    config.scheduler_config.max_num_encoder_input_tokens = max(
        plan.max_num_batched_tokens, plan.video_tokens
    )


def _plan(
    key: EngineKey,
    config: dict[str, Any],
    card: hardware.Gpu | hardware.Processor,
    recipe: Recipe | None = None,
) -> MemoryPlan:
    weights = sum(file.stat().st_size for file in Path(key.model).glob("*.safetensors"))
    return plan_memory(
        config,
        weights or None,
        card,
        recipe,
        fp8=key.fp8,
        max_model_len=key.max_model_len,
        memory_share=key.memory_share,
        tensor_parallel=key.tensor_parallel,
        engines=key.engines,
        host_bytes=hardware.memory()[0],
    )


def _gpu(key: EngineKey, vllm_platform: Any) -> hardware.Gpu:
    """Return the GPU in use; of vLLM's own knowledge where nvidia-smi is missing."""
    gpus = hardware.find_gpus()[: key.tensor_parallel]
    if gpus:
        return fullest(gpus)
    capability = vllm_platform.get_device_capability()
    total = int(vllm_platform.get_device_total_memory()) >> 20
    return hardware.Gpu(vllm_platform.get_device_name(), float(capability.as_version_str()), total)
