"""Qwen2-VL and Qwen2.5-VL: a budget a frame, time by positions."""

from captionkit.models.families.base import GridFamily


class QwenVL(GridFamily):
    """Tokens of 28 x 28 pixels in two frames; the prompt has no times."""

    name = "Qwen2-VL and Qwen2.5-VL"
    model_types = ("qwen2_vl", "qwen2_5_vl")
