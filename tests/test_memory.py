"""What vLLM is asked for follows from the model and the card: models x cards, all computed."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest

import captionkit
from captionkit.engine import EngineError
from captionkit.engine.caches import GIB
from captionkit.engine.errors import TooLittleMemoryError
from captionkit.engine.memory import plan_memory
from captionkit.engine.shapes import read_shape
from captionkit.recipe import Recipe
from captionkit.system.hardware import Gpu, Processor

KNOWN = json.loads((Path(captionkit.__file__).parent / "models" / "known_configs.json").read_text())
# As nvidia-smi prints them: capability, MiB.
CARDS = {
    "T4": Gpu("T4", 7.5, 15_360, 14_900),
    "A10": Gpu("A10", 8.6, 23_028, 22_500),
    "L4": Gpu("L4", 8.9, 23_034, 22_560),
    "3090": Gpu("RTX 3090", 8.6, 24_576, 24_100),
    "4090": Gpu("RTX 4090", 8.9, 24_564, 23_900),
    "A100-40": Gpu("A100-40GB", 8.0, 40_960, 40_300),
    "A100-80": Gpu("A100-80GB", 8.0, 81_920, 81_000),
    "H100": Gpu("H100 80GB HBM3", 9.0, 81_559, 81_000),
}
ON_24 = ("A10", "L4", "3090", "4090")
Q25_7B, Q3_8B = "Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen3-VL-8B-Instruct"
CPU = Processor("EPYC", 64 * 1024, 60 * 1024)

# Repository → (GiB of its files, bytes of keys and values a token, GPUs of 80 GB that bf16 needs).
FACTS = {
    "Qwen/Qwen2-VL-7B-Instruct": (15.44, 57_344, 1),
    "Qwen/Qwen2.5-VL-3B-Instruct": (6.99, 36_864, 1),
    Q25_7B: (15.45, 57_344, 1),
    "Qwen/Qwen2.5-VL-32B-Instruct": (62.3, 262_144, 1),
    "Qwen/Qwen2.5-VL-72B-Instruct": (136.7, 327_680, 2),
    "Qwen/Qwen3-VL-2B-Instruct": (3.96, 114_688, 1),
    "Qwen/Qwen3-VL-4B-Instruct": (8.27, 147_456, 1),
    Q3_8B: (16.33, 147_456, 1),
    "Qwen/Qwen3-VL-32B-Instruct": (62.1, 262_144, 1),
    "Qwen/Qwen3-VL-30B-A3B-Instruct": (57.9, 98_304, 1),
    "OpenGVLab/InternVL3_5-8B-HF": (15.9, 147_456, 1),
}
SMALL = [name for name, (size, *_) in FACTS.items() if size < 17]


def plan(name: str, card: Gpu | Processor, recipe: Recipe | None = None, **options):
    return plan_memory(KNOWN[name], None, card, recipe or Recipe(model=name), **options)


@pytest.mark.parametrize("name", FACTS)
def test_a_models_size_follows_from_its_configuration(name):
    size, a_token, _ = FACTS[name]
    shape = read_shape(KNOWN[name])
    assert 2 * shape.parameters / GIB == pytest.approx(size, rel=0.005)
    assert 2 * shape.full_layers * shape.kv_width == a_token


@pytest.mark.parametrize("card", ON_24)
@pytest.mark.parametrize("name", SMALL)
def test_models_up_to_8b_start_on_24_gb_in_16_bits(name, card):
    made = plan(name, CARDS[card])
    assert made.quantization is None
    assert made.max_model_len >= 4096
    # The window of a default recipe is there, and several of them at once.
    assert made.window_tokens < made.max_model_len
    if "InternVL" not in name:
        assert made.windows_at_once >= 4


@pytest.mark.parametrize("card", ["A100-40", "A100-80", "H100"])
@pytest.mark.parametrize("name", SMALL)
def test_on_40_and_80_gb_windows_of_32768_tokens_fit(name, card):
    assert plan(name, CARDS[card]).max_model_len == 32_768


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("name", FACTS)
def test_what_a_plan_takes_is_there(name, card):
    gpu = CARDS[card]
    try:
        made = plan(name, gpu)
    except TooLittleMemoryError:
        return
    taken = made.weights_bytes + made.activation_bytes + made.kv_bytes + made.encoder_bytes
    assert taken + made.other_bytes <= made.budget_bytes <= gpu.free_mib << 20
    # What vLLM counts itself is less, and free when it looks: CUDA's context is not.
    assert made.gpu_memory_utilization * 0.98 * (gpu.memory_mib << 20) <= (gpu.free_mib - 512) << 20
    assert made.kv_tokens >= made.max_model_len
    # One longest window stays encoded, and vLLM measures its tower with the like of it.
    assert made.encoder_tokens >= made.video_tokens == made.max_model_len - 512
    frames, width, height = made.profile_video
    shape = read_shape(KNOWN[name])
    tokens = frames * (shape.frame_tokens or 0)
    if shape.grid:
        tokens = frames // 2 * (width // shape.grid) * (height // shape.grid)
    assert tokens == pytest.approx(made.video_tokens, rel=0.05)


@pytest.mark.parametrize("name", FACTS)
def test_large_models_are_refused_on_24_gb_and_start_on_as_many_gpus_as_they_need(name):
    *_, gpus = FACTS[name]
    made = plan(name, CARDS["A100-80"], tensor_parallel=gpus)
    assert made.tensor_parallel == gpus
    if gpus > 1:
        with pytest.raises(TooLittleMemoryError, match="tensor_parallel=2"):
            plan(name, CARDS["A100-80"])
    if name not in SMALL:
        with pytest.raises(TooLittleMemoryError, match=r"does not fit into L4: the engine needs \d+"):
            plan(name, CARDS["L4"])


def test_a_refusal_has_the_numbers_and_what_would_help():
    with pytest.raises(EngineError) as caught:
        plan("Qwen/Qwen2.5-VL-32B-Instruct", CARDS["L4"])
    said = str(caught.value)
    for part in ("weights 62.3 GiB", "may take", "22.5 GiB", "are missing", "tensor_parallel=4", "AWQ"):
        assert part in said
    # fp8 would not help there, and a shorter window neither.
    assert "set fp8" not in said
    assert "window_size" not in said
    with pytest.raises(TooLittleMemoryError, match="set fp8"):
        plan("Qwen/Qwen3-VL-32B-Instruct", CARDS["A100-40"])


def test_memory_that_others_use_counts():
    busy = replace(CARDS["A100-80"], free_mib=12_000)
    with pytest.raises(TooLittleMemoryError, match=r"end what else uses .* \(nvidia-smi shows it\)"):
        plan(Q25_7B, busy)
    shared = replace(CARDS["A100-80"], free_mib=30_000)
    assert plan(Q25_7B, shared).gpu_memory_utilization < 30_000 / 81_920


@pytest.mark.parametrize(("card", "words"), [("L4", None), ("H100", None), ("A10", "fp8 weights only")])
def test_fp8_halves_the_weights_and_ampere_is_told_that_it_keeps_weights_alone(card, words):
    plain, eight = (plan(Q25_7B, CARDS[card], Recipe(fp8=on)) for on in (False, True))
    assert eight.quantization == "fp8_per_tensor"
    assert 0.5 < eight.weights_bytes / plain.weights_bytes < 0.6
    assert eight.max_model_len > plain.max_model_len or eight.kv_tokens > plain.kv_tokens
    assert (words in " ".join(eight.describe())) if words else eight.notes == ()


@pytest.mark.parametrize(("card", "found"), [(CARDS["T4"], "T4 .7.5"), (CPU, "no NVIDIA GPU")])
def test_fp8_is_refused_on_a_card_without_it(card, found):
    with pytest.raises(ValueError, match=f"fp8 needs an NVIDIA GPU .* found: {found}"):
        plan("Qwen/Qwen2.5-VL-3B-Instruct", card, Recipe(fp8=True))


@pytest.mark.parametrize("method", ["awq", "gptq", "fp8", "compressed-tensors"])
def test_a_quantized_checkpoint_is_loaded_as_it_is(method):
    config = {**KNOWN[Q25_7B], "quantization_config": {"quant_method": method}}
    made = plan_memory(config, 7 * GIB, CARDS["A10"], Recipe())
    assert made.quantization is None
    assert made.weights_bytes == 7 * GIB
    assert method in " ".join(made.describe())
    with pytest.raises(ValueError, match=f"quantized already \\({method}\\)"):
        plan_memory(config, 7 * GIB, CARDS["A10"], Recipe(fp8=True))


def hybrid_config() -> dict:
    """Qwen3.5: every fourth layer has full attention."""
    config = copy.deepcopy(KNOWN[Q3_8B])
    linear = {
        "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 128, "linear_value_head_dim": 128,
    }  # fmt: skip
    config["text_config"] |= {"full_attention_interval": 4, **linear}
    return config


def test_linear_attention_takes_bfloat16_on_every_processor_and_the_plan_says_where_that_is_slow():
    large = replace(CPU, memory_mib=64_000, free_mib=60_000)
    for bf16, notes in ((True, 0), (False, 1)):
        made = plan_memory(hybrid_config(), None, replace(large, bf16=bf16))
        assert (made.dtype, len(made.notes)) == ("bfloat16", notes)
    assert "linear attention in nothing else, several times slower" in made.notes[0]


def test_layers_of_linear_attention_keep_no_token():
    config = hybrid_config()
    hybrid, plain = read_shape(config), read_shape(KNOWN[Q3_8B])
    assert (hybrid.full_layers, plain.full_layers) == (9, 36)
    # A matrix of 128 x 128 in 32 bits for each of 32 heads, and 3 inputs of 8192 numbers, in 27 layers.
    assert hybrid.state_numbers == 27 * (2 * 32 * 128 * 128 + 3 * 8192)
    config["text_config"]["layer_types"] = ["linear_attention"] * 27 + ["full_attention"] * 9
    assert read_shape(config).full_layers == 9
    assert (
        plan_memory(config, None, CARDS["A100-40"]).kv_tokens
        > 3 * plan(Q3_8B, CARDS["A100-40"]).kv_tokens
    )


def test_layers_of_a_sliding_window_keep_the_window():
    config = copy.deepcopy(KNOWN[Q3_8B])
    config["text_config"] |= {"layer_types": ["sliding_attention"] * 30 + ["full_attention"] * 6}
    config["text_config"]["sliding_window"] = 1024
    shape = read_shape(config)
    assert (shape.full_layers, shape.window_layers, shape.window) == (6, 30, 1024)
    assert (
        plan_memory(config, None, CARDS["A100-40"]).kv_tokens > plan(Q3_8B, CARDS["A100-40"]).kv_tokens
    )


def test_prompts_sampling_and_pixels_change_no_engine():
    plain = plan(Q25_7B, CARDS["L4"])
    for changed in (Recipe(prompt="Say it."), Recipe(sampling_fps=4), Recipe(pixel_budget=200_000)):
        other = plan(Q25_7B, CARDS["L4"], changed)
        assert replace(other, window_tokens=plain.window_tokens) == plain


def test_a_longer_window_asks_for_a_longer_sequence_where_the_card_has_room():
    long = Recipe(window_size=4096, sampling_fps=8)
    assert plan(Q25_7B, CARDS["A100-80"], long).max_model_len == 65_536
    with pytest.raises(TooLittleMemoryError, match="lower window_size, sampling_fps, pixel_budget"):
        plan(Q25_7B, CARDS["L4"], long)


def test_users_set_the_longest_sequence_and_the_share():
    made = plan(Q25_7B, CARDS["L4"], max_model_len=3000, memory_share=0.85)
    assert made.max_model_len == 3000
    assert made.budget_bytes <= 0.85 * (23_034 << 20)
    with pytest.raises(TooLittleMemoryError, match="lower max_model_len"):
        plan(Q3_8B, CARDS["L4"], max_model_len=32_768)
    for wrong, words in (
        ({"max_model_len": 100}, "give 1024 or more"),
        ({"max_model_len": 1_000_000}, "holds 128000 tokens"),
        ({"memory_share": 1.5}, "give 0.1 to 1"),
        ({"tensor_parallel": 3}, "give one of 1, 2, 4"),
    ):
        with pytest.raises(ValueError, match=words):
            plan(Q25_7B, CARDS["A100-80"], **wrong)


def test_gpus_that_share_a_model_divide_its_heads():
    assert plan(Q25_7B, CARDS["H100"]).tensor_parallel_sizes == (1, 2, 4)
    assert plan(Q3_8B, CARDS["H100"]).tensor_parallel_sizes == (1, 2, 4, 8)
    two, one = plan(Q3_8B, CARDS["H100"], tensor_parallel=2), plan(Q3_8B, CARDS["H100"])
    tower = 2 * read_shape(KNOWN[Q3_8B]).tower_parameters
    assert two.weights_bytes == pytest.approx((one.weights_bytes - tower) / 2 + tower, rel=0.001)


def test_a_turing_card_computes_in_float16():
    made = plan("Qwen/Qwen2.5-VL-3B-Instruct", CARDS["T4"])
    assert made.dtype == "float16"
    assert "no bfloat16" in " ".join(made.notes)


def test_a_processor_without_bfloat16_computes_in_float32_with_twice_the_bytes():
    slow = replace(CPU, bf16=False)
    here, there = (plan("Qwen/Qwen3-VL-2B-Instruct", each) for each in (CPU, slow))
    assert (here.dtype, there.dtype) == ("auto", "float32")
    assert there.weights_bytes == 2 * here.weights_bytes
    assert there.kv_bytes * here.kv_tokens == pytest.approx(
        2 * here.kv_bytes * there.kv_tokens, rel=0.01
    )
    assert "float32" in " ".join(there.describe())


def test_a_model_too_large_for_the_machine_is_refused_on_a_cpu_too():
    small = Processor("laptop", 16_000, 9000, bf16=False)
    with pytest.raises(TooLittleMemoryError, match="does not fit into laptop") as caught:
        plan(Q25_7B, small)
    assert "nvidia-smi" not in str(caught.value)
    assert "GPUs" not in str(caught.value)


def test_engines_of_one_machine_share_its_memory():
    alone, one_of_eight = (
        plan(Q25_7B, CARDS["H100"], engines=engines, host_bytes=2000 * GIB) for engines in (1, 8)
    )
    assert (alone.processed_gib, one_of_eight.processed_gib) == (32, 4)
    assert plan(Q25_7B, CARDS["H100"], engines=8, host_bytes=64 * GIB).processed_gib == 1


def test_a_configuration_without_sizes_is_named():
    with pytest.raises(ValueError, match="lacks hidden_size, num_hidden_layers"):
        plan_memory({"model_type": "qwen2_vl", "vision_config": {}}, None, CPU)
