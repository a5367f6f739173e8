"""Steps of a model that vLLM leaves to PyTorch on a CPU, done by vLLM's own kernels or in the cache.

Each step is many passes over memory, and in the vision tower over megabytes. Measured on the demo
model, they took a fifth of the time of its captions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from vllm import ir
from vllm.model_executor.layers import utils
from vllm.model_executor.layers.attention.mm_encoder_attention import MMEncoderAttention
from vllm.model_executor.layers.rotary_embedding.common import ApplyRotaryEmb
from vllm.model_executor.layers.rotary_embedding.mrope import MRotaryEmbedding, apply_interleaved_rope
from vllm.platforms import current_platform
from vllm.v1.sample import sampler
from vllm.v1.sample.ops import penalties

_PROVIDER = "captionkit_cpu"
# Argument ``ir_op_priority`` of vLLM; its own implementation stays behind these.
PRIORITY = {"rms_norm": [_PROVIDER], "fused_add_rms_norm": [_PROVIDER]}
# Bytes of attention scores computed at once: they fit a core's second-level cache.
_SCORES = 1 << 20
_choose_as_vllm = utils.dispatch_cpu_unquantized_gemm
_penalize_as_vllm = penalties.apply_all_penalties


def register() -> None:
    """Have vLLM use these implementations in models that it builds from now on."""
    current_platform.import_kernels()
    ir.ops.rms_norm.register_impl(_PROVIDER, supports_args=_plain_norm)(_rms_norm)
    ir.ops.fused_add_rms_norm.register_impl(_PROVIDER, supports_args=_plain_add_norm, inplace=True)(
        _fused_add_rms_norm
    )
    ApplyRotaryEmb.register_oot(_Rotary, name="ApplyRotaryEmb")
    MRotaryEmbedding.register_oot(_MRotary, name="MRotaryEmbedding")
    MMEncoderAttention.register_oot(_TowerAttention, name="MMEncoderAttention")
    utils.dispatch_cpu_unquantized_gemm = _choose_matrix_product
    sampler.apply_all_penalties = _penalize


def _choose_matrix_product(layer: Any, remove_weight: bool) -> None:
    """Leave the language model to vLLM's matrix product, and give the vision tower PyTorch's.

    Reason: vLLM's has one scratchpad and one stream a process. Two threads in it at once crash the
    process, and the tower runs in a thread of its own (see `encode_ahead`). PyTorch's gives the same
    values. Measured on the demo model's tower, it is 5% slower.
    Upstream: https://github.com/vllm-project/vllm/blob/v0.32.0/csrc/cpu/dnnl_helper.cpp
    Goes when: vLLM's matrix product may run in two threads, or `encode_ahead` has gone.
    """
    if remove_weight and "language_model" not in layer.prefix:
        layer.cpu_linear = torch.nn.functional.linear
    else:
        _choose_as_vllm(layer, remove_weight)


def _plain_norm(
    x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
) -> bool:
    """Return whether the CPU's kernel computes such a norm."""
    return (
        variance_size is None and weight is not None and weight.dtype == x.dtype and x.is_contiguous()
    )


def _plain_add_norm(
    x: Tensor,
    x_residual: Tensor,
    weight: Tensor | None,
    epsilon: float,
    variance_size: int | None = None,
) -> bool:
    return _plain_norm(x, weight, epsilon, variance_size) and x_residual.is_contiguous()


def _rms_norm(
    x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
) -> Tensor:
    """Compute a norm by vLLM's kernel for CPUs.

    Reason: vLLM's IR has kernels for GPUs only, and takes PyTorch's operations on a CPU.
    Upstream: https://github.com/vllm-project/vllm/pull/33825
    Goes when: the CPU platform registers a provider for this operation.
    """
    out = torch.empty_like(x)
    torch.ops._C.rms_norm(out, x, weight, epsilon)
    return out


def _fused_add_rms_norm(
    x: Tensor,
    x_residual: Tensor,
    weight: Tensor | None,
    epsilon: float,
    variance_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Add a residual and compute a norm by vLLM's kernel for CPUs.

    Reason: as for `_rms_norm`.
    Upstream: https://github.com/vllm-project/vllm/pull/36823
    Goes when: the CPU platform registers a provider for this operation.
    """
    torch.ops._C.fused_add_rms_norm(x, x_residual, weight, epsilon)
    return x, x_residual


class _Rotary(ApplyRotaryEmb):
    """Rotary embedding of ``(..., tokens, heads, width)`` by ``(tokens, width / 2)``.

    Reason: ``forward_cpu`` is PyTorch's operations, though vLLM has a kernel for CPUs.
    Upstream: https://github.com/vllm-project/vllm/blob/v0.32.0/vllm/model_executor/layers/rotary_embedding/common.py
    Goes when: ``forward_cpu`` takes the kernel.
    """

    def forward_native(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        tokens, heads, width = x.shape[-3:]
        if self.enable_fp32_compute or width != 2 * cos.shape[-1] or len(cos) != tokens:
            return super().forward_native(x, cos, sin)
        # Copy, since the kernel works in place and the caller may still need its tensor.
        out = x.clone(memory_format=torch.contiguous_format)
        flat = out.view(-1, heads * width)
        positions = torch.arange(tokens).repeat(len(flat) // tokens)
        turns = torch.cat((cos, sin), dim=-1).to(x.dtype)
        torch.ops._C.rotary_embedding(positions, flat, None, width, turns, self.is_neox_style)
        return out


class _MRotary(MRotaryEmbedding):
    """Rotary embedding by positions of time, height and width, in place.

    Reason: as for `_Rotary`; and all layers of a step turn by the same angles, which vLLM puts together
    anew in each.
    Upstream: https://github.com/vllm-project/vllm/blob/v0.32.0/vllm/model_executor/layers/rotary_embedding/mrope.py
    Goes when: ``forward_cpu`` takes the kernel.
    """

    _last: tuple[Tensor, Tensor, Tensor] | None = None

    def forward_native(
        self,
        positions: Tensor,
        query: Tensor,
        key: Tensor | None = None,
        offsets: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        if self._last is None or not torch.equal(self._last[0], positions):
            numbers = torch.arange(positions.shape[-1])
            self._last = (positions.clone(), self._turns(positions, query), numbers)
        _, turns, numbers = self._last
        torch.ops._C.rotary_embedding(numbers, query, key, self.head_size, turns, self.is_neox_style)
        return query, key

    def _turns(self, positions: Tensor, query: Tensor) -> Tensor:
        """Return cosines and sines of each token, ``(tokens, rotary width)``."""
        turns = self._match_cos_sin_cache_dtype(query)[positions]
        if positions.ndim == 1:
            return turns
        assert self.mrope_section
        halves = turns.chunk(2, dim=-1)
        if self.mrope_interleaved:
            return torch.cat([apply_interleaved_rope(x, self.mrope_section) for x in halves], -1)
        parts = [x.split(self.mrope_section, -1) for x in halves]
        return torch.cat([part[axis] for half in parts for axis, part in enumerate(half)], -1)


class _TowerAttention(MMEncoderAttention):
    """Attention within each pair of frames, as matrix products of many of them at once.

    Scores are rounded to 16 bits, as in the eager attention of transformers.

    Reason: vLLM calls PyTorch's attention once for each pair of frames.
    Upstream: https://github.com/vllm-project/vllm/blob/v0.32.0/vllm/v1/attention/ops/vit_attn_wrappers.py
    Goes when: sequences of one length are batched there.
    """

    def _forward_sdpa(
        self, query: Tensor, key: Tensor, value: Tensor, cu_seqlens: Tensor | None = None
    ) -> Tensor:
        lengths = [] if cu_seqlens is None else cu_seqlens.diff().tolist()
        if len(set(lengths)) != 1 or self.num_heads != self.num_kv_heads:
            return super()._forward_sdpa(query, key, value, cu_seqlens)
        count, length = len(lengths), lengths[0]
        shape = (count, length, self.num_heads, self.head_size)
        q, k, v = (
            each.reshape(shape).transpose(1, 2).reshape(-1, length, self.head_size)
            for each in (query, key, value)
        )
        out = torch.empty_like(v)
        some = max(1, _SCORES // (2 * length * length))
        scores = torch.empty((some, length, length), dtype=q.dtype)
        for q_, k_, v_, into in zip(*(each.split(some) for each in (q, k, v, out)), strict=True):
            part = scores[: len(q_)]
            torch.baddbmm(part, q_, k_.transpose(1, 2), beta=0, alpha=self.scale, out=part)
            torch.softmax(part, -1, out=part)
            torch.bmm(part, v_, out=into)
        merged = out.view(count, self.num_heads, length, self.head_size).transpose(1, 2)
        return merged.reshape(query.shape)


def _penalize(
    logits: Tensor,
    prompts: Tensor,
    presence: Tensor,
    frequency: Tensor,
    repetition: Tensor,
    outputs: list[list[int]],
) -> Tensor:
    """Apply repetition penalties to the tokens that occurred.

    Reason: vLLM passes several times over the whole vocabulary for each token.
    Upstream: https://github.com/vllm-project/vllm/pull/18437 (a kernel for CUDA only)
    Goes when: there is a kernel for CPUs.
    """
    if presence.any() or frequency.any():
        return _penalize_as_vllm(logits, prompts, presence, frequency, repetition, outputs)
    vocabulary = logits.shape[1]
    seen = torch.cat((prompts, penalties._convert_to_tensors(outputs, vocabulary, logits.device)), 1)
    # Replace padding by a token that occurred anyway.
    seen = torch.where((seen >= 0) & (seen < vocabulary), seen, seen[:, :1])
    found, by = logits.gather(1, seen), repetition.unsqueeze(1)
    return logits.scatter_(1, seen, found * torch.where(found > 0, 1.0 / by, by))
