"""Qwen3-VL and Qwen3.5, dense and mixtures of experts: a budget a video, times in the prompt."""

from captionkit.models.families.base import GridFamily


class Qwen3VL(GridFamily):
    """Tokens of 32 x 32 pixels in two frames; ``<1.2 seconds>`` precedes each pair of frames."""

    name = "Qwen3-VL and Qwen3.5"
    model_types = ("qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe")
    patch_size = 16
    whole_video = True
