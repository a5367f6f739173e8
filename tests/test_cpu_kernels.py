"""The CPU's kernels give what vLLM's own steps give."""

from __future__ import annotations

import functools

import pytest
from common import checked

# Once for all checks: what is registered with vLLM stays, and vLLM builds its layers by it.
CODE = """
from captionkit.engine.torch_companions import reconcile
reconcile()
import torch
from vllm import ir
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor.layers import utils
from vllm.model_executor.layers.attention.mm_encoder_attention import MMEncoderAttention
from vllm.model_executor.layers.fusion.mm_input_norm import FusedMMInputNorm
from vllm.model_executor.layers.rotary_embedding.common import ApplyRotaryEmb
from vllm.model_executor.layers.rotary_embedding.mrope import MRotaryEmbedding
from vllm.v1.sample import sampler
from captionkit.engine import cpu_kernels
B = torch.bfloat16
def close(ours, theirs):
    # One step of bfloat16: the kernels round once where PyTorch's steps round twice.
    torch.testing.assert_close(ours.float(), theirs.float(), rtol=2**-7, atol=2**-6)
with set_current_vllm_config(VllmConfig()):
    mean, std = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]
    def build():
        return (FusedMMInputNorm(mean, std, 1 / 255), ApplyRotaryEmb(),
                MMEncoderAttention(2, 64, 64**-0.5))
    theirs = build()
    cpu_kernels.register()
    norm, rotary, attention = build()
    for ours, its in zip((norm, rotary, attention), theirs):
        assert type(ours) is not type(its)
"""
CHECKS = {
    "attention_of_frames_of_one_size_and_of_mixed_sizes": """
for lengths in ([240] * 17, [1100, 1100], [64, 64, 32, 64]):
    ends = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    q, k, v = (torch.randn(1, sum(lengths), 2, 64, dtype=B) for _ in range(3))
    exact = [torch.nn.functional.scaled_dot_product_attention(
                 *(each[:, a:b].transpose(1, 2).double() for each in (q, k, v))).transpose(1, 2)
             for a, b in zip(ends[:-1], ends[1:])]
    ours = attention.forward_cpu(q, k, v, cu_seqlens=ends)
    assert ours.shape == q.shape
    torch.testing.assert_close(ours.double(), torch.cat(exact, 1), rtol=2**-5, atol=2**-6)
""",
    "the_towers_matrix_product_is_the_one_that_threads_may_share": """
class Layer(torch.nn.Module):
    def __init__(self, prefix):
        super().__init__()
        self.prefix, self.weight = prefix, torch.nn.Parameter(torch.randn(64, 128, dtype=B))
tower, text = Layer("visual.blocks.0.attn.qkv"), Layer("language_model.layers.0.qkv_proj")
for layer in (tower, text):
    x, weight = torch.randn(40, 128, dtype=B), layer.weight.detach().clone()
    utils.dispatch_cpu_unquantized_gemm(layer, remove_weight=True)
    close(layer.cpu_linear(x, layer.weight, None), torch.nn.functional.linear(x, weight))
assert tower.cpu_linear is torch.nn.functional.linear
assert text.cpu_linear is not torch.nn.functional.linear
""",
    "bytes_are_normalized_bit_for_bit": """
pixels = torch.randint(0, 256, (1000, 1176), dtype=torch.uint8)
assert torch.equal(norm(pixels, B), theirs[0].forward_native(pixels, B))
""",
    "rotary_embedding_with_and_without_a_batch_and_of_part_of_a_tensor": """
cos, sin = torch.randn(50, 32, dtype=B), torch.randn(50, 32, dtype=B)
for x in (torch.randn(50, 4, 64, dtype=B), torch.randn(2, 50, 2, 64, dtype=B),
          torch.randn(50, 4, 96, dtype=B)[..., :64]):
    before = x.clone()
    close(rotary.forward_native(x, cos, sin), theirs[1].forward_native(x, cos, sin))
    assert torch.equal(x, before)
""",
    "rotary_embedding_by_positions_of_time_height_and_width": """
for interleaved in (False, True):
    with set_current_vllm_config(VllmConfig()):
        ours = MRotaryEmbedding(64, 64, 512, 10000.0, True, B, [8, 12, 12], interleaved)
    assert type(ours) is not MRotaryEmbedding
    positions = torch.randint(0, 400, (3, 50))
    # A buffer that is filled anew, as vLLM's is, one of another length, and text alone.
    for each in (positions, positions, positions[:, :7], positions[0]):
        each.copy_(torch.randint(0, 400, each.shape))
        tokens = each.shape[-1]
        q, k, v = torch.randn(tokens, 512, dtype=B).split([256, 128, 128], -1)
        wanted = MRotaryEmbedding.forward_native(ours, each, q.clone(), k.clone())
        kept = v.clone()
        for _ in range(2):
            made = ours.forward_native(each, q.clone(), k.clone())
            for one, its in zip(made, wanted):
                close(one, its)
        made = ours.forward_native(each, q, k)
        assert torch.equal(made[0], q) and torch.equal(v, kept)
        close(q, wanted[0]), close(k, wanted[1])
""",
    "repetition_penalties_bit_for_bit": """
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
        for penalize in (sampler.apply_all_penalties, cpu_kernels._vllms_penalties)
    )
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, logits)
assert sampler.apply_all_penalties is not cpu_kernels._vllms_penalties
""",
    "norms_with_and_without_a_residual": """
for shape in ((40, 256), (40, 1, 128)):
    x, rest = torch.randn(shape, dtype=B), torch.randn(shape, dtype=B)
    weight = torch.rand(shape[-1], dtype=B)
    one, two = ir.ops.rms_norm.impls, ir.ops.fused_add_rms_norm.impls
    wanted = two["native"].impl_fn(x, rest, weight, 1e-6)
    close(one["captionkit_cpu"].impl_fn(x, weight, 1e-6), one["native"].impl_fn(x, weight, 1e-6))
    made = two["captionkit_cpu"].impl_fn(x.clone(), rest.clone(), weight, 1e-6)
    for ours, theirs in zip(made, wanted):
        close(ours, theirs)
assert not one["captionkit_cpu"].supports_args(torch.randn(4, 8, dtype=B).t(), weight, 1e-6)
assert not one["captionkit_cpu"].supports_args(x, None, 1e-6)
""",
}


@functools.cache
def _told() -> dict[str, str]:
    return checked(CODE, {name: "torch.manual_seed(0)\n" + code for name, code in CHECKS.items()})


@pytest.mark.engine
@pytest.mark.parametrize("name", CHECKS)
def test_the_kernels_agree(name):
    assert _told()[name] == ""
