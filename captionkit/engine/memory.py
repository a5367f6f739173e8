"""What an engine asks vLLM for, by the model's size and the memory of its card: `plan_memory`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from captionkit.engine.caches import GIB, WINDOW_TOKENS, encoder_tokens, processed_gib
from captionkit.engine.errors import TooLittleMemoryError
from captionkit.engine.plan import MemoryPlan, gib
from captionkit.engine.precision import Precision, find_precision, loaded_bytes
from captionkit.engine.shapes import Shape, check_divides, parallel_sizes, read_shape
from captionkit.models.families import Family, find_family
from captionkit.system.hardware import BF16_CAPABILITY, Gpu, Processor

if TYPE_CHECKING:
    from captionkit.recipe import Recipe

_LEAST, _LONGEST = 1024, 32_768
_SHARE = 0.95
# Part of a GPU's memory that CUDA has. Published figures: 22,563 MiB of an L4's 23,034, and 24,217 of a
# 4090's 24,564.
_DRIVER_SHARE = 0.98
# CUDA's context, vLLM's captured graphs, and what allocators leave unused, in bytes.
_CONTEXT, _GRAPHS, _SPARE = GIB // 2, GIB // 2, 3 * GIB // 10
_NCCL = GIB // 2
# Python and PyTorch on a CPU.
_PROCESS = 3 * GIB // 2
_MOST_CPU_KV = 4 * GIB
_CPU_KV_TOKENS = 131_072
# Tokens of text beside a window (a prompt and its chat format), and of a time before a picture.
_TEXT, _TIME = 512, 8
# A film of many pixels: its frames use up the recipe's budget.
_PICTURE = (3840, 2160)
# Tokens of the largest video that vLLM profiles of every family; Qwen3-VL's is the smallest.
_MOST_PROFILED = 12_288
_MOST_A_PICTURE = 16_384
# Bytes for each number of the vocabulary and each caption under way: logits, sorted, summed up.
_SAMPLER = 28
_STEP = 8192
# (tokens of a sequence, tokens of a step, captions under way), from a roomy card to a full one.
_LEVELS = (
    (32_768, 8192, 256),
    (24_576, 8192, 256),
    (16_384, 8192, 256),
    (12_288, 6144, 128),
    (8192, 4096, 128),
    (6144, 3072, 64),
    (4096, 2048, 64),
    (3072, 2048, 32),
    (2048, 2048, 32),
)


def plan_memory(
    model_config: Mapping[str, Any],
    weights_bytes: int | None,
    card: Gpu | Processor,
    recipe: Recipe | None = None,
    *,
    fp8: bool = False,
    max_model_len: int | None = None,
    memory_share: float | None = None,
    tensor_parallel: int = 1,
    engines: int = 1,
    host_bytes: int = 64 * GIB,
) -> MemoryPlan:
    """Compute what vLLM is asked for, so that a model starts on a card and keeps working.

    Parameters
    ----------
    model_config
        Content of the model's ``config.json``.
    weights_bytes
        Size of the weights on disk; None computes it from the configuration.
    card
        The GPU or the processor, with all and with free memory.
    recipe
        Windows that must fit, or None.
    fp8
        Load 16-bit weights in fp8; a recipe's own setting counts too.
    max_model_len
        Most tokens of a sequence; None takes 32,768, more if the recipe's ordinary window needs more,
        and less where the card has no room.
    memory_share
        Share of the card's memory that the engine may take, caches included; None takes 0.95.
    tensor_parallel
        GPUs that share the model; sizes are those of one of them.
    engines
        Engines on this machine, which share its memory.
    host_bytes
        Memory of the machine.

    Returns
    -------
    MemoryPlan
        The plan; equal for equal arguments, whatever runs here.

    Raises
    ------
    TooLittleMemoryError
        If the model cannot start; the message has the numbers and what to lower.
    ValueError
        If an argument does not fit, or the configuration lacks a size.

    Notes
    -----
    All sizes in bytes, a number of 16 bits being 2 (4 in float32)::

        kv a token   = full layers x 2 x kv heads x head width x 2 / GPUs
        encoded      = hidden x (1 + deepstack layers) x 2, a video token
        tower        = patches a token x (2 x (8 x width + 2 x inner width) + 4 x patch numbers)
        language     = 2 x (6 x hidden + 3 x inner width), a token of a step
        sampler      = captions under way x vocabulary x 28
        largest step = max(tokens vLLM profiles x (tower + encoded), step tokens x language + sampler)
        fp8 weights  = (weights - tables of tokens) / 2 + tables of tokens
        budget       = min(memory share x 0.98 x all memory, free memory)
        keys, values = budget - context 0.5 GiB - weights - largest step - graphs 0.5 GiB
                       - encoded videos - 0.3 GiB - what several windows in one step add

    Layers of a sliding window keep the window alone, layers of linear attention one state a sequence.
    ``budget`` leaves 2% to the driver; several GPUs take 0.5 GiB each for NCCL. The tower's figure
    agrees with the computed 3.9 GiB for 4 frames of 3584 x 3584 pixels in Qwen2.5-VL.
    ``gpu_memory_utilization`` covers what vLLM counts itself: weights, largest step, graphs, keys and
    values. vLLM profiles one longest window, of 12,288 tokens at most, but may encode a step's tokens
    beside it: that, and encoded videos, it does not count.

    Each level of (longest sequence, tokens of a step, captions under way), from 32,768, 8192, 256 to
    2048, 2048, 32, is tried; the first with room for the keys and values of two longest sequences is
    taken, or of one if no level has room for two. A window longer than the level is refused by itself,
    with its number. So prompts, sampling and pixel budgets change without a reload.
    """
    shape, family = read_shape(model_config), find_family(model_config)
    _check(shape, max_model_len, memory_share, tensor_parallel)
    need = _window_tokens(recipe, family)
    question = _Question(
        shape,
        card,
        weights_bytes or shape.parameters * shape.stored_bytes,
        need,
        # A level below the recipe's ordinary window would refuse them all; a user may want just that.
        0 if recipe is None or max_model_len else min(need, shape.positions),
        fp8 or (recipe is not None and recipe.fp8),
        max_model_len,
        memory_share or _SHARE,
        tensor_parallel,
        processed_gib(host_bytes, on_gpu=isinstance(card, Gpu), engines=engines),
    )
    plan = question.answer()
    if plan is None:
        raise TooLittleMemoryError(question.refusal())
    return plan


def _check(shape: Shape, length: int | None, share: float | None, gpus: int) -> None:
    check_limits(length, share)
    if length is not None and length > shape.positions:
        raise ValueError(
            f"max_model_len is {length}, but this model holds {shape.positions} tokens; give less"
        )
    check_divides(shape, gpus)


def check_limits(max_model_len: int | None, memory_share: float | None) -> None:
    """Refuse limits that fit no model.

    Raises
    ------
    ValueError
        If ``max_model_len`` is below 1024, or ``memory_share`` not within 0.1 and 1.
    """
    if max_model_len is not None and max_model_len < _LEAST:
        raise ValueError(f"max_model_len is {max_model_len}; give {_LEAST} or more")
    if memory_share is not None and not 0.1 <= memory_share <= 1:
        raise ValueError(
            f"memory_share is {memory_share}; give 0.1 to 1, the engine's part of the memory"
        )


def longer_than_usual(recipe: Recipe, family: Family) -> int | None:
    """Return the longest sequence to ask for, where a recipe's ordinary window needs more than usual.

    In steps, so that few changes of a recipe load the model again; None if 32,768 tokens will do, or
    the model has no more.

    Raises
    ------
    ValueError
        If the model's configuration is not known.
    """
    need = math.ceil(_window_tokens(recipe, family) / _STEP) * _STEP
    longest = min(need, read_shape(family.config).positions)
    return longest if longest > _LONGEST else None


def _window_tokens(recipe: Recipe | None, family: Family) -> int:
    """Return the tokens of a window at 24 frames a second, with its prompt and captions.

    Counts the largest frames of the recipe, and a time before each, as some models write it.
    """
    if recipe is None:
        return WINDOW_TOKENS + 2 * _TEXT
    frames = recipe.ordinary_frames
    budget = max(recipe.pixel_budget or family.default_pixels, family.min_pixels)
    video = family.tokens(*family.frame_size(*_PICTURE, budget), frames)
    return video + frames * _TIME + _TEXT + recipe.max_tokens * len(recipe.stages)


def _levels(shape: Shape, need: int, length: int | None) -> list[tuple[int, int, int]]:
    """Return the levels to try; the longest sequence is the user's, or the model's, or as needed."""
    if length is not None:
        return list(dict.fromkeys((length, *level[1:]) for level in _LEVELS))
    levels = list(_LEVELS)
    if need > _LONGEST:
        longer = math.ceil(need / _STEP) * _STEP
        levels = [(longer, *level[1:]) for level in _LEVELS]
    return list(dict.fromkeys((min(each[0], shape.positions), *each[1:]) for each in levels))


@dataclass(frozen=True)
class _Question:
    """One model on one card: the arithmetic of `plan_memory`."""

    shape: Shape
    card: Gpu | Processor
    stored: int
    need: int
    least: int
    fp8: bool
    length: int | None
    share: float
    gpus: int
    processed: float

    def answer(self) -> MemoryPlan | None:
        """Return the plan of the roomiest level that fits; None if none does."""
        plans = self._plans()
        for sequences in (2, 1):
            for plan in plans:
                if plan.kv_tokens >= sequences * plan.max_model_len:
                    return plan
        return None

    def _plans(self) -> list[MemoryPlan]:
        """Return the plans of all levels that hold the recipe's windows, whether or not they fit."""
        precision = find_precision(self.shape, self.card, self.fp8)
        levels = _levels(self.shape, self.need, self.length)
        fit = [level for level in levels if level[0] >= self.least] or levels[:1]
        return [self._level(precision, *level) for level in fit]

    def _level(self, precision: Precision, length: int, step: int, captions: int) -> MemoryPlan:
        """Return the plan of one level, whether or not it fits."""
        shape, width = self.shape, precision.bytes
        weights = loaded_bytes(shape, self.stored, precision, self.gpus)
        # Leave room for the text of the shortest request.
        video = max(shape.patches_a_token, length - _TEXT)
        encoded = shape.encoded_width * width
        tower = shape.patches_a_token * (
            width * (8 * shape.tower_width + 2 * shape.tower_intermediate) + 4 * shape.patch_numbers
        )
        language = width * (6 * shape.hidden + 3 * shape.intermediate // self.gpus)
        sampler = captions * shape.vocabulary * _SAMPLER
        profiled = min(video, _MOST_PROFILED)
        largest = max(profiled * (tower + encoded), step * language + sampler)
        beside = (video + step - profiled) * tower
        on_gpu = isinstance(self.card, Gpu)
        total = self.card.memory_mib << 20
        usable = int(total * _DRIVER_SHARE) if on_gpu else total
        budget = min(int(self.share * usable), self.card.free_mib << 20)
        if on_gpu:
            fixed = _CONTEXT + _GRAPHS + _SPARE + (_NCCL if self.gpus > 1 else 0) + beside
        else:
            # A CPU encodes one window at a time.
            fixed = _PROCESS + int(self.processed * GIB)
            largest = max(video * (tower + encoded), largest)
        tokens = encoder_tokens(encoded, usable, self.processed, on_gpu=on_gpu)
        room = budget - fixed - weights - largest
        # Encoded videos take at most a quarter of what is left, and hold one longest window.
        tokens = max(min(tokens, room // 4 // encoded), video)
        kv = max(0, room - tokens * encoded)
        if not on_gpu:
            kv = min(
                kv, max(min(_MOST_CPU_KV, self._kv(width, _CPU_KV_TOKENS)), 2 * self._kv(width, length))
            )
        longest = max(1, self._kv(width, length))
        pairs = math.ceil(video / _MOST_A_PICTURE)
        side = int(math.sqrt(video / pairs)) * (shape.grid or 28)
        frames = 2 * pairs if shape.grid else math.ceil(video / (shape.frame_tokens or 1))
        return MemoryPlan(
            card=self.card.name,
            on_gpu=on_gpu,
            dtype=precision.dtype,
            quantization=precision.quantization,
            notes=precision.notes,
            max_model_len=length,
            max_num_seqs=captions,
            max_num_batched_tokens=step,
            video_tokens=video,
            profile_video=(frames, side, side),
            gpu_memory_utilization=_share(weights + largest + _GRAPHS + kv, usable),
            encoder_tokens=tokens,
            processed_gib=self.processed,
            weights_bytes=weights,
            activation_bytes=largest,
            kv_bytes=kv,
            encoder_bytes=tokens * encoded,
            other_bytes=fixed,
            total_bytes=total,
            budget_bytes=budget,
            kv_tokens=kv * length // longest,
            window_tokens=self.need,
            tensor_parallel=self.gpus,
            tensor_parallel_sizes=parallel_sizes(shape),
        )

    def _kv(self, width: int, tokens: int) -> int:
        """Return the bytes of keys and values of one sequence on one card."""
        shape = self.shape
        kept = min(tokens, shape.window + _STEP) if shape.window else tokens
        layers = shape.full_layers * tokens + shape.window_layers * kept
        heads = min(self.gpus, shape.kv_heads)
        return width * (layers * shape.kv_width // heads + shape.state_numbers)

    def refusal(self) -> str:
        """Return why the smallest level does not fit, and what to lower."""
        plan = self._plans()[-1]
        one = self._kv(4 if plan.dtype == "float32" else 2, plan.max_model_len)
        sizes = {
            "weights": plan.weights_bytes,
            "largest step": plan.activation_bytes,
            f"keys and values of one window of {plan.max_model_len:,} tokens": one,
            "encoded videos": plan.encoder_bytes,
            "all else": plan.other_bytes,
        }
        needed = sum(sizes.values())
        parts = ", ".join(f"{name} {gib(size)}" for name, size in sizes.items())
        return (
            f"the model does not fit into {plan.card}: the engine needs {gib(needed)} ({parts}) and "
            f"may take {gib(plan.budget_bytes)} of {gib(plan.total_bytes)}, of which "
            f"{gib(self.card.free_mib << 20)} are free; {gib(needed - plan.budget_bytes)} are missing. "
            f"To do: {'; or '.join(self._remedies(plan))}."
        )

    def _remedies(self, plan: MemoryPlan) -> list[str]:
        """Return what would help, from what costs least."""
        found = []
        everything = replace(self, card=replace(self.card, free_mib=self.card.memory_mib), share=_SHARE)
        others = "close other programs"
        if plan.on_gpu:
            others = f"end what else uses {plan.card} (nvidia-smi shows it)"
        shortest = self.length and f"lower max_model_len ({self.length:,})"
        if everything.answer():
            found.append(f"{others}, or raise memory_share")
        if shortest and replace(self, length=_LEVELS[-1][0]).answer():
            found.append(shortest)
        elif shortest and replace(everything, length=_LEVELS[-1][0]).answer():
            found.append(f"{others} and {shortest}, or raise memory_share")
        if self.least and replace(self, need=0, least=0).answer():
            found.append(
                "lower window_size, sampling_fps, pixel_budget or max_tokens (a window has "
                f"{self.need:,} tokens)"
            )
        if plan.on_gpu and not self.shape.quantization and not self.fp8:
            if self._supports_fp8 and replace(self, fp8=True).answer():
                found.append("set fp8 (about half the weights)")
            found.append("take an AWQ, GPTQ or FP8 checkpoint of the model")
        more = (size for size in plan.tensor_parallel_sizes if size > self.gpus)
        enough = (size for size in more if replace(self, gpus=size).answer())
        if plan.on_gpu and (size := next(enough, None)):
            found.append(f"share the model by {size} such GPUs (tensor_parallel={size})")
        return [*found, "take a smaller model"]

    @property
    def _supports_fp8(self) -> bool:
        return isinstance(self.card, Gpu) and self.card.capability >= BF16_CAPABILITY


def _share(counted: int, usable: int) -> float:
    """Return a share of the card rounded down, so that it never asks for more than is free."""
    return max(0.01, math.floor(1000 * min(counted / usable, 0.99)) / 1000)
