"""Tiny models with random weights, one a family: configuration, processor and tokenizer on disk.

The tokenizer is the demo model's, with the special tokens of each family; the weights are drawn by
transformers under the names that published checkpoints have.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import DATA

from captionkit.engine.torch_companions import reconcile

reconcile()

# ruff: noqa: E402
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

DEMO = DATA / "demo-model"
CONTEXT = 32_768
# Multiple of 64, above the demo's 2,048 tokens and the special tokens of any family.
VOCABULARY = 2_176

# One turn of a user, in the way of most families.
TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message['role'] }}
{% for part in message['content'] -%}
{%- if part['type'] == 'video' %}{{ VIDEO }}
{%- elif part['type'] == 'image' %}{{ IMAGE }}
{%- else %}{{ part['text'] }}{% endif -%}
{%- endfor %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
{{ THINK }}{% endif -%}
"""
# As Qwen3.5 and GLM-4.5V: the answer opens with thinking, unless it is switched off.
THINKING = "'<think>\\n\\n</think>\\n\\n' if enable_thinking is false else '<think>\\n'"


def template(video: str, image: str, *, thinks: bool = False) -> str:
    text = TEMPLATE.replace("VIDEO", json.dumps(video)).replace("IMAGE", json.dumps(image))
    return text.replace("THINK", THINKING if thinks else "''")


def tokenizer(*special: str, **named: str) -> PreTrainedTokenizerFast:
    """Return the demo's tokenizer with more special tokens; ``named`` become attributes."""
    made = PreTrainedTokenizerFast(
        tokenizer_file=str(DEMO / "tokenizer.json"),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens={**named},
        model_max_length=CONTEXT,
    )
    made.add_special_tokens({"extra_special_tokens": [*special, *named.values()]}, False)
    return made


QWEN_MARKS = {
    "image_token_id": 2046,
    "video_token_id": 2047,
    "vision_start_token_id": 2043,
    "vision_end_token_id": 2044,
}
QWEN_TEMPLATE = (
    "<|vision_start|><|video_pad|><|vision_end|>",
    "<|vision_start|><|image_pad|><|vision_end|>",
)


def text_of(**more: Any) -> dict[str, Any]:
    """Return the configuration of a tiny language model."""
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": None,
        "eos_token_id": 2042,
        "pad_token_id": 2040,
        **more,
    }


MROPE = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 6, 6]}


def save(folder: Path, model: Any, processor: Any, chat: str) -> Path:
    processor.chat_template = chat
    processor.save_pretrained(folder)
    model.to(torch.float32).save_pretrained(folder)
    weights = folder / "model.safetensors"
    # vLLM reads the names and shapes of published checkpoints alone.
    tensors = load_file(weights)
    if "siglip" in str(model.config.vision_config.model_type):
        tensors = {
            name.replace("vision_tower.", "vision_tower.vision_model."): t
            for name, t in tensors.items()
        }
    if model.config.model_type == "qwen3_vl_moe":
        tensors = {
            name: t.transpose(1, 2).contiguous() if ".mlp.experts." in name else t
            for name, t in tensors.items()
        }
    save_file(tensors, weights, {"format": "pt"})
    return folder


def qwen_processor(cls: str, video: str, patch: int, size: dict[str, int]) -> Any:
    t = transformers
    images = t.Qwen2VLImageProcessor(
        patch_size=patch, size={"shortest_edge": 56 * 56, "longest_edge": 1 << 20}
    )
    videos = getattr(t, video)(patch_size=patch, size=size, cap_pixels_per_frame=False)
    words = tokenizer(
        image_token="<|image_pad|>",
        video_token="<|video_pad|>",
        vision_bos_token="<|vision_start|>",
        vision_eos_token="<|vision_end|>",
    )
    return getattr(t, cls)(images, words, videos)


def qwen2_vl(folder: Path) -> Path:
    t = transformers
    config = t.Qwen2VLConfig(
        text_config=text_of(rope_parameters=MROPE, tie_word_embeddings=True),
        vision_config={
            "depth": 1,
            "embed_dim": 64,
            "hidden_size": 64,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": 14,
        },
        **QWEN_MARKS,
    )
    processor = qwen_processor(
        "Qwen2VLProcessor",
        "Qwen2VLVideoProcessor",
        14,
        {"shortest_edge": 3136, "longest_edge": 1 << 20},
    )
    return save(folder, t.Qwen2VLForConditionalGeneration(config), processor, template(*QWEN_TEMPLATE))


def qwen2_5_vl(folder: Path) -> Path:
    t = transformers
    config = t.Qwen2_5_VLConfig(
        text_config=text_of(rope_parameters=MROPE, tie_word_embeddings=True),
        vision_config={
            "depth": 1,
            "hidden_size": 64,
            "intermediate_size": 64,
            "num_heads": 2,
            "patch_size": 14,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [0],
            "window_size": 112,
            "tokens_per_second": 2,
        },
        **QWEN_MARKS,
    )
    processor = qwen_processor(
        "Qwen2_5_VLProcessor",
        "Qwen2VLVideoProcessor",
        14,
        {"shortest_edge": 3136, "longest_edge": 1 << 20},
    )
    return save(
        folder, t.Qwen2_5_VLForConditionalGeneration(config), processor, template(*QWEN_TEMPLATE)
    )


QWEN3_VISION = {
    "depth": 2,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_heads": 2,
    "patch_size": 16,
    "out_hidden_size": 64,
    "num_position_embeddings": 256,
}
EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "norm_topk_prob": True,
}


def qwen3(
    name: str, thinks: bool, text: dict[str, Any], vision: dict[str, Any]
) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        t = transformers
        config = getattr(t, f"{name}Config")(
            text_config=text_of(**text), vision_config={**QWEN3_VISION, **vision}, **QWEN_MARKS
        )
        processor = qwen_processor(
            "Qwen3VLProcessor",
            "Qwen3VLVideoProcessor",
            16,
            {"shortest_edge": 4096, "longest_edge": 1 << 24},
        )
        model = getattr(t, f"{name}ForConditionalGeneration")(config)
        return save(folder, model, processor, template(*QWEN_TEMPLATE, thinks=thinks))

    return make


QWEN3_TEXT = {"rope_parameters": {**MROPE, "mrope_interleaved": True}, "tie_word_embeddings": False}
QWEN3_5_TEXT = {
    "rope_parameters": {
        **MROPE,
        "mrope_interleaved": True,
        "mrope_section": [2, 1, 1],
        "partial_rotary_factor": 0.25,
    },
    "layer_types": ["linear_attention", "full_attention"],
    "linear_key_head_dim": 64,
    "linear_value_head_dim": 64,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
}


def internvl(folder: Path) -> Path:
    t = transformers
    side = 56
    config = t.InternVLConfig(
        vision_config={
            "hidden_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "image_size": [side, side],
            "patch_size": [14, 14],
        },
        text_config={"model_type": "qwen2", **text_of(tie_word_embeddings=False)},
        image_token_id=0,
        image_seq_length=4,
        downsample_ratio=0.5,
    )
    words = tokenizer(
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    config.image_token_id = words.convert_tokens_to_ids("<IMG_CONTEXT>")
    size = {"height": side, "width": side}
    processor = t.InternVLProcessor(
        t.GotOcr2ImageProcessor(size=size),
        words,
        t.InternVLVideoProcessor(size=size),
        image_seq_length=4,
    )
    return save(
        folder,
        t.InternVLForConditionalGeneration(config),
        processor,
        template("<video>\n", "<IMG_CONTEXT>\n"),
    )


def llava_onevision(folder: Path) -> Path:
    t = transformers
    side = 84
    words = tokenizer(image_token="<image>", video_token="<video>")
    config = t.LlavaOnevisionConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "image_size": side,
            "patch_size": 14,
            "vision_use_head": False,
        },
        text_config={"model_type": "qwen2", **text_of(tie_word_embeddings=False)},
        image_token_index=words.convert_tokens_to_ids("<image>"),
        video_token_index=words.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=[[side, side], [side, 2 * side]],
        vision_feature_layer=-1,
    )
    size = {"height": side, "width": side}
    processor = t.LlavaOnevisionProcessor(
        t.LlavaOnevisionImageProcessor(
            size=size, image_grid_pinpoints=[[side, side], [side, 2 * side]]
        ),
        words,
        t.LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=36,
        vision_feature_select_strategy="full",
    )
    return save(
        folder,
        t.LlavaOnevisionForConditionalGeneration(config),
        processor,
        template("<video>\n", "<image>\n"),
    )


GLM_TOKENS = {
    "image_start_token_id": "<|begin_of_image|>",
    "image_end_token_id": "<|end_of_image|>",
    "video_start_token_id": "<|begin_of_video|>",
    "video_end_token_id": "<|end_of_video|>",
    "image_token_id": "<|image|>",
    "video_token_id": "<|video|>",
}
GLM_EXPERTS = {
    "tie_word_embeddings": False,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
    "n_shared_experts": 1,
    "use_qk_norm": False,
}
GLM_TEMPLATE = (
    "<|begin_of_video|><|video|><|end_of_video|>",
    "<|begin_of_image|><|image|><|end_of_image|>",
)


def glm4v(name: str, text: dict[str, Any], videos: str = "Glm4v") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        t = transformers
        words = tokenizer(*GLM_TOKENS.values())
        ids = {key: words.convert_tokens_to_ids(token) for key, token in GLM_TOKENS.items()}
        config = getattr(t, f"{name}Config")(
            vision_config={
                "depth": 1,
                "hidden_size": 64,
                "num_heads": 2,
                "intermediate_size": 64,
                "out_hidden_size": 64,
                "patch_size": 14,
                "image_size": 336,
            },
            text_config=text_of(
                rope_parameters={**MROPE, "mrope_section": [4, 6, 6], "partial_rotary_factor": 1.0},
                **text,
            ),
            **ids,
        )
        sizes = {"shortest_edge": 12544, "longest_edge": 1 << 21}
        processor = getattr(t, f"{videos}Processor")(
            getattr(t, f"{videos}ImageProcessor")(size=sizes),
            words,
            getattr(t, f"{videos}VideoProcessor")(size=sizes),
        )
        model = getattr(t, f"{name}ForConditionalGeneration")(config)
        return save(folder, model, processor, template(*GLM_TEMPLATE, thinks=True))

    return make


def gemma4(name: str, vision: dict[str, Any], **more: Any) -> Callable[[Path], Path]:
    return lambda folder: gemma4_into(folder, name, vision, more)


def gemma4_into(folder: Path, name: str, vision: dict[str, Any], more: dict[str, Any]) -> Path:
    t = transformers
    words = tokenizer(
        image_token="<|image|>",
        boi_token="<|image>",
        eoi_token="<image|>",
        audio_token="<|audio|>",
        boa_token="<|audio>",
        eoa_token="<audio|>",
    )
    words.add_special_tokens({"extra_special_tokens": ["<|video|>"]}, False)
    ids = {
        name: words.convert_tokens_to_ids(getattr(words, name))
        for name in ("image_token", "boi_token", "eoi_token", "boa_token", "audio_token")
    }
    config = getattr(t, f"{name}Config")(
        text_config=text_of(
            layer_types=["sliding_attention", "full_attention"],
            hidden_size_per_layer_input=0,
            sliding_window=512,
            vocab_size_per_layer_input=VOCABULARY,
            per_layer_config={},
        ),
        vision_config=vision,
        video_token_id=words.convert_tokens_to_ids("<|video|>"),
        eoa_token_index=words.convert_tokens_to_ids("<audio|>"),
        **{f"{name}_id": each for name, each in ids.items()},
        **more,
    )
    parts = ("AudioFeatureExtractor", "ImageProcessor", "VideoProcessor")
    sounds, images, videos = (getattr(t, name + part)() for part in parts)
    processor = getattr(t, f"{name}Processor")(sounds, images, words, videos)
    model = getattr(t, f"{name}ForConditionalGeneration")(config)
    return save(folder, model, processor, template("\n\n<|video|>\n\n", "\n\n<|image|>\n\n"))


def minicpmv(version: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        t = transformers
        words = tokenizer(
            image_token="<|image_pad|>",
            video_token="<|video_pad|>",
            image_start_token="<image>",
            image_end_token="</image>",
            slice_start_token="<slice>",
            slice_end_token="</slice>",
            image_id_start_token="<image_id>",
            image_id_end_token="</image_id>",
        )
        name = f"MiniCPMV{version}"
        config = getattr(t, f"{name}Config")(
            text_config={"model_type": "qwen3_5_text", **text_of(**QWEN3_5_TEXT)},
            vision_config={
                "hidden_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "intermediate_size": 64,
                "patch_size": 14,
                "image_size": 448,
            },
            insert_layer_id=0,
            image_token_id=2046,
            video_token_id=2047,
        )
        processor = getattr(t, f"{name}Processor")(
            t.MiniCPMV4_6ImageProcessor(), t.MiniCPMV4_6VideoProcessor(), words
        )
        model = getattr(t, f"{name}ForConditionalGeneration")(config)
        return save(
            folder, model, processor, template("<|video_pad|>\n", "<|image_pad|>\n", thinks=True)
        )

    return make


def smolvlm(folder: Path) -> Path:
    t = transformers
    side = 56
    words = tokenizer(
        *(f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)),
        image_token="<image>",
        fake_image_token="<fake_token_around_image>",
        global_image_token="<global-img>",
        end_of_utterance_token="<end_of_utterance>",
        video_token="<video>",
    )
    config = t.SmolVLMConfig(
        vision_config={
            "hidden_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "image_size": side,
            "patch_size": 14,
        },
        text_config={"model_type": "llama", **text_of()},
        image_token_id=words.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=2040,
    )
    size = {"size": {"longest_edge": 4 * side}, "max_image_size": {"longest_edge": side}}
    processor = t.SmolVLMProcessor(
        t.SmolVLMImageProcessor(**size), words, t.SmolVLMVideoProcessor(**size), image_seq_len=4
    )
    return save(
        folder, t.SmolVLMForConditionalGeneration(config), processor, template("<video>", "<image>")
    )


def gemma3(folder: Path) -> Path:
    t = transformers
    side = 56
    words = tokenizer(
        "\n",
        "\n\n",
        "\n\n\n",
        "\n\n\n\n",
        image_token="<image_soft_token>",
        boi_token="<start_of_image>",
        eoi_token="<end_of_image>",
    )
    config = t.Gemma3Config(
        text_config=text_of(
            sliding_window=512,
            layer_types=["sliding_attention", "full_attention"],
            query_pre_attn_scalar=32,
        ),
        vision_config={
            "hidden_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "image_size": side,
            "patch_size": 14,
            "vision_use_head": False,
        },
        mm_tokens_per_image=4,
        image_token_index=words.convert_tokens_to_ids("<image_soft_token>"),
        boi_token_index=words.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=words.convert_tokens_to_ids("<end_of_image>"),
    )
    processor = t.Gemma3Processor(
        t.Gemma3ImageProcessor(size={"height": side, "width": side}), words, image_seq_length=4
    )
    return save(
        folder, t.Gemma3ForConditionalGeneration(config), processor, template("", "<start_of_image>")
    )


MAKERS: dict[str, Callable[[Path], Path]] = {
    "qwen2_vl": qwen2_vl,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3("Qwen3VL", False, QWEN3_TEXT, {"deepstack_visual_indexes": [0]}),
    "qwen3_vl_moe": qwen3(
        "Qwen3VLMoe",
        False,
        {**QWEN3_TEXT, **EXPERTS, "decoder_sparse_step": 1},
        {"deepstack_visual_indexes": [0]},
    ),
    "qwen3_5": qwen3("Qwen3_5", True, QWEN3_5_TEXT, {}),
    "qwen3_5_moe": qwen3(
        "Qwen3_5Moe", True, {**QWEN3_5_TEXT, **EXPERTS, "shared_expert_intermediate_size": 32}, {}
    ),
    "internvl": internvl,
    "llava_onevision": llava_onevision,
    "glm4v": glm4v("Glm4v", {"tie_word_embeddings": False}),
    "glm4v_moe": glm4v("Glm4vMoe", GLM_EXPERTS),
    "glm4v_moe-4.6": glm4v("Glm4vMoe", GLM_EXPERTS, "Glm46V"),
    "gemma4": gemma4(
        "Gemma4",
        {
            "hidden_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "intermediate_size": 64,
            "patch_size": 16,
            "pooling_kernel_size": 3,
            "default_output_length": 280,
        },
        audio_config={"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2},
    ),
    "gemma4_unified": gemma4(
        "Gemma4Unified",
        {"mm_embed_dim": 64, "mm_posemb_size": 1120, "output_proj_dims": 64, "num_soft_tokens": 280},
        audio_config=None,
    ),
    "minicpmv4_6": minicpmv("4_6"),
    "minicpmv4_7": minicpmv("4_7"),
    "smolvlm": smolvlm,
    "gemma3": gemma3,
}


def make(name: str, folder: Path) -> Path:
    """Write the tiny model of a family into a folder."""
    torch.manual_seed(7)
    folder.mkdir(parents=True, exist_ok=True)
    MAKERS[name](folder)
    facts = json.loads((folder / "config.json").read_text())
    assert facts["model_type"], name
    return folder
