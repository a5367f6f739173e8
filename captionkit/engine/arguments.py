"""Arguments of vLLM, in an engine of our own and as a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil

from captionkit.engine.caches import CacheSizes, cache_sizes
from captionkit.engine.protocol import EngineKey
from captionkit.models.families import read_family

_MOST_RUNNING = 256
_LONGEST_PROMPT = 32_768
_KV_TOKENS = 131_072
# Tokens that vLLM gathers before it emits text; a message costs a small model as much as a step.
_STREAM_INTERVAL = 8


def engine_arguments(key: EngineKey) -> tuple[dict[str, Any], CacheSizes]:
    """Return arguments of vLLM's ``AsyncEngineArgs``, and the caches that they and `tune` ask for."""
    from vllm.platforms import current_platform

    on_cpu = current_platform.is_cpu()
    model = _configuration(Path(key.model))
    text = model.get_text_config()
    limit = min(_LONGEST_PROMPT, int(text.max_position_embeddings))
    gpu_bytes = None if on_cpu else int(current_platform.get_device_total_memory())
    caches = cache_sizes(_encoded_width(model), psutil.virtual_memory().total, gpu_bytes)
    family = read_family(Path(key.model))
    arguments = {
        "model": key.model,
        "quantization": "fp8" if key.fp8 else None,
        "dtype": "auto",
        "max_model_len": limit,
        "max_num_seqs": _MOST_RUNNING,
        "max_num_batched_tokens": 8192,
        "limit_mm_per_prompt": family.limits(),
        "mm_processor_kwargs": family.processor_kwargs(key.processor_pixels),
        "mm_processor_cache_gb": 0 if key.disable_mmcache else caches.processed_gib,
        "stream_interval": _STREAM_INTERVAL,
        # Forbid white space: given the choice, small models write it until they are cut off.
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        "enable_prefix_caching": True,
        "enforce_eager": on_cpu,
        "scheduling_policy": "priority",
        "skip_mm_profiling": on_cpu,
        "trust_remote_code": False,
        "gpu_memory_utilization": 0.85,
    }
    if on_cpu:
        arguments["kv_cache_memory_bytes"] = _kv_bytes(text, max(limit, _KV_TOKENS))
    return arguments, caches


def tune(config: Any, caches: CacheSizes) -> None:
    """Set the size of the encoder's cache on a built configuration of vLLM.

    Reason: vLLM has no argument for it, and takes ``max_num_batched_tokens``: a few videos, while a
    session asks again about hundreds.
    Upstream: https://github.com/vllm-project/vllm/pull/34051
    Goes when: the size can be configured.
    """
    config.scheduler_config.encoder_cache_size = caches.encoder_tokens


def _configuration(model: Path) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(model, local_files_only=True)


def _encoded_width(model: Any) -> int:
    """Return the numbers in an encoded token; Qwen3-VL keeps several layers of its tower."""
    layers = getattr(model.vision_config, "deepstack_visual_indexes", None) or ()
    return int(model.get_text_config().hidden_size) * (1 + len(layers))


def _kv_bytes(text: Any, tokens: int) -> int:
    """Return the bytes of keys and values for so many tokens in 16 bits, at most 4 GiB."""
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    a_token = 2 * text.num_hidden_layers * text.num_key_value_heads * width * 2
    return int(min(tokens * a_token, 4 * 2**30))
