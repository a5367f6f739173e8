"""A model of a size that people use, with random weights: drawn once, then kept in the cache of files.

It has the shape of a Qwen2.5-VL of about 0.5 B parameters, and the demo model's tokenizer. What it
writes means nothing: the benchmark forces the lengths.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from captionkit.bench.work import kept
from captionkit.engine.torch_companions import reconcile
from captionkit.models.variants import get_variant
from captionkit.models.weights import ensure_weights

# The language model of Qwen2.5-0.5B, and half of the vision tower of Qwen2.5-VL.
_TEXT = {
    "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "max_window_layers": 24,
    "num_attention_heads": 14, "num_key_value_heads": 2, "layer_types": ["full_attention"] * 24,
}  # fmt: skip
_VISION = {
    "depth": 16, "hidden_size": 768, "intermediate_size": 2048, "num_heads": 12,
    "out_hidden_size": 896, "fullatt_block_indexes": [3, 7, 11, 15],
}  # fmt: skip
_NAME = "qwen2.5-vl-0.5b-random-1"


def real_size_model(folder: Path) -> Path:
    """Return the folder of the model, about 1 GB; drawn with a fixed seed, see `kept`."""
    return kept(_NAME, _draw, folder)


def _draw(folder: Path) -> None:
    reconcile()
    import torch
    from transformers import AutoConfig, Qwen2_5_VLForConditionalGeneration

    demo = ensure_weights(get_variant("demo"), "")
    folder.mkdir()
    for name in (
        "chat_template.jinja",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ):
        shutil.copy(demo / name, folder)
    content: dict[str, Any] = json.loads((demo / "config.json").read_text(encoding="utf-8"))
    content["text_config"] |= _TEXT
    content["vision_config"] |= _VISION
    (folder / "config.json").write_text(json.dumps(content), encoding="utf-8")
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(folder)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    finally:
        torch.set_default_dtype(before)
