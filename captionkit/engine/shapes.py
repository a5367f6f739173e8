"""What memory follows from in a model's ``config.json``: layers, widths, tower, stored precision.

Read from the plain dictionary, so that nothing heavy is imported and a model need not be downloaded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Keys under which configurations keep their language model; the first kinds have it at the top.
_TEXT_KEYS = ("text_config", "llm_config", "language_config")
# Numbers of GPUs that may share a model.
_SIZES = (1, 2, 4, 8)
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class Shape:
    """Sizes of a vision-language model.

    Parameters
    ----------
    hidden, intermediate, vocabulary
        Widths of the language model. Of a mixture of experts, ``intermediate`` counts the experts that
        one token passes.
    heads, kv_heads, kv_width
        Attention heads, heads of keys and values, and numbers that one token keeps in one layer: keys
        and values of all heads.
    full_layers, window_layers, window
        Layers that keep every token, and layers that keep the last ``window`` tokens.
    state_numbers
        Numbers that a sequence keeps in layers of linear attention, however long it is.
    positions
        Most tokens of a sequence.
    tower_width, tower_intermediate, patch_numbers
        Widths of the vision tower, and numbers of one patch of pixels.
    patches_a_token, frames_a_token
        Patches that become one video token, and frames that the token covers.
    grid
        Pixels of a token's side; None if frames have one fixed size.
    frame_tokens
        Tokens of a frame of fixed size; None if a frame's size decides.
    encoded_width
        Numbers of an encoded video token; Qwen3-VL keeps several layers of its tower.
    parameters, embedding_parameters, tower_parameters
        Numbers of all weights, of the tables of tokens, and of the tower.
    stored_bytes
        Bytes of an unquantized weight on disk.
    quantization
        Method of the checkpoint (``awq``, ``gptq``, ``fp8``, ``compressed-tensors``, …), or None.
    """

    hidden: int
    intermediate: int
    vocabulary: int
    heads: int
    kv_heads: int
    kv_width: int
    full_layers: int
    window_layers: int
    window: int
    state_numbers: int
    positions: int
    tower_width: int
    tower_intermediate: int
    patch_numbers: int
    patches_a_token: int
    frames_a_token: int
    grid: int | None
    frame_tokens: int | None
    encoded_width: int
    parameters: int
    embedding_parameters: int
    tower_parameters: int
    stored_bytes: int
    quantization: str | None


def read_shape(config: Mapping[str, Any]) -> Shape:
    """Read the sizes of a model from its configuration.

    Parameters
    ----------
    config
        Content of ``config.json``, or ``to_dict()`` of a configuration of transformers.

    Raises
    ------
    ValueError
        If the configuration does not describe a vision-language model; names what is missing.
    """
    text = {**config}
    for key in _TEXT_KEYS:
        text.update(config.get(key) or {})
    tower = config.get("vision_config") or {}
    missing = [n for n in ("hidden_size", "num_hidden_layers", "num_attention_heads") if n not in text]
    if missing or not tower:
        lacks = ", ".join(missing) or "vision_config"
        raise ValueError(f"the model's config.json lacks {lacks}, so its memory cannot be computed")
    hidden, layers = int(text["hidden_size"]), int(text["num_hidden_layers"])
    heads = int(text["num_attention_heads"])
    kv_heads = int(text.get("num_key_value_heads") or heads)
    head = int(text.get("head_dim") or hidden // heads)
    kinds = text.get("layer_types") or _kinds(text, layers)
    linear = kinds.count("linear_attention")
    windows = sum(kind in ("sliding_attention", "chunked_attention") for kind in kinds)
    kv_width = 2 * kv_heads * head
    if text.get("kv_lora_rank"):
        kv_width = int(text["kv_lora_rank"]) + int(text.get("qk_rope_head_dim") or 0)
    intermediate = int(text.get("intermediate_size") or 0)
    active, an_mlp = intermediate, 3 * hidden * intermediate
    experts = int(text.get("num_experts") or text.get("n_routed_experts") or 0)
    if experts:
        one = int(text.get("moe_intermediate_size") or intermediate)
        shared = int(text.get("shared_expert_intermediate_size") or 0)
        shared += one * int(text.get("n_shared_experts") or 0)
        active = one * int(text.get("num_experts_per_tok") or 1) + shared
        an_mlp = hidden * (experts * (3 * one + 1) + 3 * shared)
    gate = 2 if text.get("attn_output_gate") else 1
    attention = hidden * head * ((1 + gate) * heads + 2 * kv_heads)
    keys, values = _linear_widths(text)
    linear_attention = hidden * (2 * keys + 3 * values)
    vocabulary = int(text.get("vocab_size") or 0)
    tied = bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", False)))
    embeddings = vocabulary * hidden * (1 if tied else 2)
    seen = _tower(tower, config, hidden)
    language = layers * an_mlp + (layers - linear) * attention + linear * linear_attention
    quantization = config.get("quantization_config") or text.get("quantization_config") or {}
    dtype = str(config.get("dtype") or config.get("torch_dtype") or text.get("dtype") or "bfloat16")
    return Shape(
        hidden=hidden,
        intermediate=active,
        vocabulary=vocabulary,
        heads=heads,
        kv_heads=kv_heads,
        kv_width=kv_width,
        full_layers=layers - linear - windows,
        window_layers=windows,
        window=int(text.get("sliding_window") or text.get("attention_chunk_size") or 0),
        state_numbers=linear * _state(text),
        positions=int(text.get("max_position_embeddings") or 32_768),
        parameters=language + embeddings + seen["tower_parameters"],
        embedding_parameters=embeddings,
        stored_bytes=_BYTES.get(dtype.removeprefix("torch."), 2),
        quantization=quantization.get("quant_method"),
        **seen,
    )


def _kinds(text: Mapping[str, Any], layers: int) -> list[str]:
    """Return the kind of each layer, of a configuration that does not list them."""
    every = int(text.get("full_attention_interval") or 1)
    return ["linear_attention" if (n + 1) % every else "full_attention" for n in range(layers)]


def _linear_widths(text: Mapping[str, Any]) -> tuple[int, int]:
    """Return the widths of keys and of values in a layer of linear attention."""
    keys = int(text.get("linear_num_key_heads") or 0) * int(text.get("linear_key_head_dim") or 0)
    values = int(text.get("linear_num_value_heads") or 0) * int(text.get("linear_value_head_dim") or 0)
    return keys, values


def _state(text: Mapping[str, Any]) -> int:
    """Return the numbers of 16 bits that a layer of linear attention keeps of a sequence.

    Its matrix of keys by values for each value head is in 32 bits, its last inputs in 16.
    """
    keys, values = _linear_widths(text)
    matrix = values * int(text.get("linear_key_head_dim") or 0)
    last = (2 * keys + values) * (int(text.get("linear_conv_kernel_dim") or 1) - 1)
    return 2 * matrix + last


def _tower(tower: Mapping[str, Any], config: Mapping[str, Any], hidden: int) -> dict[str, Any]:
    """Return the fields of `Shape` that the vision tower decides."""
    # Qwen2-VL calls the tower's width embed_dim, and the width of its output hidden_size.
    width = int(tower.get("embed_dim") or tower.get("hidden_size") or 1024)
    inner = int(tower.get("intermediate_size") or width * float(tower.get("mlp_ratio") or 4))
    depth = int(tower.get("depth") or tower.get("num_hidden_layers") or 24)
    patch, merge = _side(tower.get("patch_size") or 14), tower.get("spatial_merge_size")
    frames = int(tower.get("temporal_patch_size") or (2 if merge else 1))
    gated = "qwen2_5" in str(tower.get("model_type", config.get("model_type", "")))
    numbers = 3 * patch**2 * frames
    grid = frame_tokens = None
    if merge:
        grid = patch * int(merge)
    else:
        frame_tokens = math.ceil(_side(tower.get("image_size") or 448) / patch / 2) ** 2
    kept = 1 + len(tower.get("deepstack_visual_indexes") or ())
    joined = width * int(merge or 2) ** 2
    blocks = depth * width * (4 * width + (3 if gated else 2) * inner)
    return {
        "tower_width": width,
        "tower_intermediate": inner,
        "patch_numbers": numbers,
        "patches_a_token": int(merge or 2) ** 2,
        "frames_a_token": frames,
        "grid": grid,
        "frame_tokens": frame_tokens,
        "encoded_width": hidden * kept,
        "tower_parameters": blocks + numbers * width + kept * joined * (joined + hidden),
    }


def _side(size: int | list[int]) -> int:
    """Return one side of a square that is given as a number or as a list."""
    return int(size if isinstance(size, (int, float)) else size[0])


def parallel_sizes(shape: Shape) -> tuple[int, ...]:
    """Return the numbers of GPUs that can share a model: they divide its heads."""

    def divides(size: int) -> bool:
        return not shape.heads % size and not max(shape.kv_heads, size) % min(shape.kv_heads, size)

    return tuple(size for size in _SIZES if divides(size))


def check_divides(shape: Shape, gpus: int) -> None:
    """Refuse a number of GPUs that cannot share a model.

    Raises
    ------
    ValueError
        If the model's heads are not divisible; the message has the numbers that fit.
    """
    if gpus not in parallel_sizes(shape):
        fitting = ", ".join(map(str, parallel_sizes(shape)))
        raise ValueError(
            f"tensor_parallel is {gpus}, which does not divide this model's {shape.heads} heads with "
            f"{shape.kv_heads} of keys and values; give one of {fitting}"
        )
