"""Precision of weights and numbers on a card: 16 bits, fp8, float32, or the checkpoint's own."""

from __future__ import annotations

from dataclasses import dataclass

from captionkit.engine.shapes import Shape
from captionkit.system.hardware import BF16_CAPABILITY, FP8_CAPABILITY, Gpu, Processor, require_fp8

_SLOW_LINEAR = (
    "bfloat16: vLLM computes this model's linear attention in nothing else, several times slower on "
    "this processor, which has no bfloat16 of its own"
)


@dataclass(frozen=True)
class Precision:
    """How a model is loaded.

    Parameters
    ----------
    dtype, quantization
        Arguments of vLLM: None loads a quantized checkpoint as it is.
    bytes
        Bytes of a number in 16 bits, or in 32.
    notes
        Sentences for a person.
    """

    dtype: str
    quantization: str | None
    bytes: int
    notes: tuple[str, ...]


def find_precision(shape: Shape, card: Gpu | Processor, fp8: bool) -> Precision:
    """Return how weights and numbers are kept on a card.

    Raises
    ------
    ValueError
        If fp8 was asked of a checkpoint that is quantized already, or of a card without fp8.
    """
    if fp8 and shape.quantization:
        raise ValueError(
            f"fp8 is set, but this checkpoint is quantized already ({shape.quantization}) and is "
            "loaded as it is: leave fp8 off"
        )
    if fp8:
        require_fp8(card)
    if isinstance(card, Processor):
        if shape.state_numbers and not shape.quantization:
            # vLLM's linear attention on a CPU takes nothing else.
            return Precision("bfloat16", None, 2, () if card.bf16 else (_SLOW_LINEAR,))
        if card.bf16 or shape.quantization:
            return Precision("auto", None, 2, ())
        return Precision("float32", None, 4, (card.precision,))
    notes = []
    if shape.quantization:
        notes.append(f"the checkpoint's own {shape.quantization} weights are loaded as they are")
    if fp8 and card.capability < FP8_CAPABILITY:
        notes.append(
            f"fp8 weights only: {card.name} (capability {card.capability}) has no fp8 units, so vLLM "
            "computes in 16 bits (Marlin); this saves memory, not time"
        )
    dtype = "auto"
    if 0 < card.capability < BF16_CAPABILITY:
        dtype = "float16"
        notes.append(f"float16: {card.name} (capability {card.capability}) has no bfloat16")
    return Precision(dtype, "fp8_per_tensor" if fp8 else None, 2, tuple(notes))


def loaded_bytes(shape: Shape, stored: int, precision: Precision, gpus: int) -> int:
    """Return the bytes of the weights on one card; each card has the whole vision tower."""
    if shape.quantization:
        return stored // gpus
    loaded = stored * precision.bytes // shape.stored_bytes
    tower = shape.tower_parameters * precision.bytes
    if precision.quantization:
        tables = shape.embedding_parameters * precision.bytes
        loaded, tower = (loaded - tables) // 2 + tables, tower // 2
    return loaded if gpus == 1 else (loaded - tower) // gpus + tower
