"""The CPU's kernels give what vLLM's own steps give, each within its own rounding."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor
from vllm import ir
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor.layers import utils
from vllm.model_executor.layers.attention.mm_encoder_attention import MMEncoderAttention
from vllm.model_executor.layers.rotary_embedding.common import ApplyRotaryEmb
from vllm.model_executor.layers.rotary_embedding.mrope import MRotaryEmbedding
from vllm.v1.sample import sampler

from captionkit.engine.cpu import kernels

B = torch.bfloat16
# Largest relative error of one conversion to bfloat16: vLLM's kernels for AVX2 cut digits off.
ROUNDING = 2**-7


def build() -> dict:
    return {
        "rotary": ApplyRotaryEmb(),
        "attention": MMEncoderAttention(2, 64, 64**-0.5),
        "by time": MRotaryEmbedding(64, 64, 512, 10000.0, True, B, [8, 12, 12], False),
        "interleaved": MRotaryEmbedding(64, 64, 512, 10000.0, True, B, [8, 12, 12], True),
    }


@pytest.fixture(scope="module")
def layers() -> tuple[dict, dict]:
    """vLLM's layers, and those that it builds once the kernels are registered."""
    with set_current_vllm_config(VllmConfig()):
        theirs = build()
        kernels.register()
        ours = build()
    assert all(type(ours[name]) is not type(theirs[name]) for name in ours)
    if "CAPTIONKIT_TEST_AVX2" in os.environ:
        assert "vllm/_C_AVX2" in Path("/proc/self/maps").read_text()
    return theirs, ours


@pytest.fixture(autouse=True)
def _same_numbers(layers):
    torch.manual_seed(0)


def assert_rounded(value: Tensor, exact: Tensor, roundings: int, terms: Tensor | None = None) -> None:
    """The value is the exact one but for some roundings to bfloat16.

    ``terms`` is the size of what was added up, where the sum may be far smaller.
    """
    size = exact.abs() if terms is None else terms
    worst = ((value.double() - exact).abs() - roundings * ROUNDING * size).max().item()
    assert worst <= 1e-6, f"off by {worst} more than {roundings} roundings"


def test_attention_of_frames_of_one_size_and_of_mixed_sizes(layers):
    attention = layers[1]["attention"]
    for lengths in ([240] * 17, [1100, 1100], [64, 64, 32, 64]):
        ends = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
        q, k, v = (torch.randn(1, sum(lengths), 2, 64, dtype=B) for _ in range(3))
        exact = [
            torch.nn.functional.scaled_dot_product_attention(
                *(each[:, a:b].transpose(1, 2).double() for each in (q, k, v))
            ).transpose(1, 2)
            for a, b in itertools.pairwise(ends)
        ]
        ours = attention.forward_cpu(q, k, v, cu_seqlens=ends)
        assert ours.shape == q.shape
        # Scores, of size 4 at most, and weights are rounded before values are added up.
        torch.testing.assert_close(ours.double(), torch.cat(exact, 1), rtol=2**-5, atol=2**-6)


class Layer(torch.nn.Module):
    def __init__(self, prefix: str) -> None:
        super().__init__()
        self.prefix = prefix
        self.weight = torch.nn.Parameter(torch.randn(64, 128, dtype=B), requires_grad=False)


def test_the_towers_matrix_product_is_the_one_that_threads_may_share():
    tower, text = Layer("visual.blocks.0.attn.qkv"), Layer("language_model.layers.0.qkv_proj")
    for layer in (tower, text):
        x, weight = torch.randn(40, 128, dtype=B), layer.weight.detach().double()
        utils.dispatch_cpu_unquantized_gemm(layer, remove_weight=True)
        terms = x.double().abs() @ weight.abs().T
        assert_rounded(layer.cpu_linear(x, layer.weight, None), x.double() @ weight.T, 1, terms)
    assert tower.cpu_linear is torch.nn.functional.linear
    assert text.cpu_linear is not torch.nn.functional.linear


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Exact rotary embedding of (…, tokens, heads, width), and the size of its terms."""
    one, two = x.double().chunk(2, -1)
    cos, sin = cos.double().unsqueeze(-2), sin.double().unsqueeze(-2)
    exact = torch.cat((one * cos - two * sin, two * cos + one * sin), -1)
    terms = (one * cos).abs() + (two * sin).abs(), (two * cos).abs() + (one * sin).abs()
    return exact, torch.cat(terms, -1)


def test_rotary_embedding_with_and_without_a_batch_and_of_part_of_a_tensor(layers):
    cos, sin = torch.randn(50, 32, dtype=B), torch.randn(50, 32, dtype=B)
    for x in (
        torch.randn(50, 4, 64, dtype=B),
        torch.randn(2, 50, 2, 64, dtype=B),
        torch.randn(50, 4, 96, dtype=B)[..., :64],
    ):
        before = x.clone()
        exact, terms = turned(x, cos, sin)
        for side in layers:
            # Each product and the sum may be rounded.
            assert_rounded(side["rotary"].forward_native(x, cos, sin), exact, 2, terms)
        assert torch.equal(x, before)


@pytest.mark.parametrize("kind", ["by time", "interleaved"])
def test_rotary_embedding_by_positions_of_time_height_and_width(layers, kind):
    theirs, ours = (side[kind] for side in layers)
    positions = torch.randint(0, 400, (3, 50))
    # A buffer that is filled anew, as vLLM's is, one of another length, and text alone.
    for each in (positions, positions, positions[:, :7], positions[0]):
        each.copy_(torch.randint(0, 400, each.shape))
        q, k, v = torch.randn(each.shape[-1], 512, dtype=B).split([256, 128, 128], -1)
        exact = theirs.forward_native(each, q.double(), k.double())
        terms, kept = (pair_size(q), pair_size(k)), v.clone()
        for given in ((q.clone(), k.clone()), (q.clone(), k.clone()), (q, k)):
            made = ours.forward_native(each, *given)
            for part, its, size, start in zip(made, exact, terms, given, strict=True):
                # Angles, products and the sum may be rounded.
                assert_rounded(part, its, 3, size)
                assert part is start
        assert torch.equal(v, kept)


def pair_size(x: Tensor) -> Tensor:
    """The size of the terms of a rotation: at most that of both numbers of a pair."""
    one, two = x.double().abs().unflatten(-1, (-1, 64)).chunk(2, -1)
    return torch.cat((one + two, one + two), -1).reshape(x.shape)


def test_repetition_penalties_bit_for_bit():
    rows, words = 5, 300
    logits = torch.randn(rows, words)
    prompts = torch.randint(0, words, (rows, 40))
    prompts[:, 7:] = words
    prompts[2, :30] = 4
    said = [[], [3], [4, 4, 4], list(range(90)), [-1, 5]]
    none, by = torch.zeros(rows), torch.tensor([1.0, 1.05, 1.3, 0.8, 2.0])
    for presence, frequency in ((none, none), (by, none), (none, by)):
        ours, theirs = (
            penalize(logits.clone(), prompts, presence, frequency, by, said)
            for penalize in (sampler.apply_all_penalties, kernels._penalize_as_vllm)
        )
        assert torch.equal(ours, theirs)
        assert not torch.equal(ours, logits)
    assert sampler.apply_all_penalties is not kernels._penalize_as_vllm


def normed(x: Tensor, weight: Tensor) -> Tensor:
    return x * (x.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt() * weight.double()


@pytest.mark.parametrize("shape", [(40, 256), (40, 1, 128)])
def test_norms_with_and_without_a_residual(shape):
    x, rest = torch.randn(shape, dtype=B), torch.randn(shape, dtype=B)
    weight = torch.rand(shape[-1], dtype=B)
    one, two = ir.ops.rms_norm.impls, ir.ops.fused_add_rms_norm.impls
    for name in ("native", "captionkit_cpu"):
        # The norm and its product with the weight may be rounded; before it, the sum.
        assert_rounded(one[name].impl_fn(x, weight, 1e-6), normed(x.double(), weight), 2)
        made, total = two[name].impl_fn(x.clone(), rest.clone(), weight, 1e-6)
        exact = x.double() + rest.double()
        assert_rounded(total, exact, 1)
        assert_rounded(made, normed(exact, weight), 3)


def test_a_norm_that_the_kernel_cannot_compute_is_left_to_vllm():
    norm = ir.ops.rms_norm.impls["captionkit_cpu"]
    weight = torch.rand(8, dtype=B)
    assert norm.supports_args(torch.randn(4, 8, dtype=B), weight, 1e-6)
    assert not norm.supports_args(torch.randn(4, 8, dtype=B).t(), weight, 1e-6)
    assert not norm.supports_args(torch.randn(4, 8, dtype=B), None, 1e-6)
