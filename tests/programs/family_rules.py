"""Sizes and tokens of families, compared with the functions of transformers at many sizes."""

from __future__ import annotations

import random
from collections.abc import Iterator

from captionkit.engine.torch_companions import reconcile

reconcile()

# ruff: noqa: E402
from transformers import MiniCPMV4_6ImageProcessor, Qwen2VLVideoProcessor
from transformers.models.gemma4.video_processing_gemma4 import get_aspect_ratio_preserving_size
from transformers.models.glm4v.video_processing_glm4v import smart_resize as glm_size
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize as qwen2_size
from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize as qwen3_size

from captionkit.models.families import Family, find_family


def pictures() -> Iterator[tuple[int, int, int, int]]:
    """Yield width, height, most pixels of a frame and frames of many windows."""
    chance = random.Random(4)
    for _ in range(3_000):
        width = round(2 ** chance.uniform(5.1, 12))
        height = min(max(33, round(width * 2 ** chance.uniform(-4, 4))), 8_000)
        yield width, height, round(2 ** chance.uniform(13, 21)), 2 * chance.randint(2, 60)


def family(model_type: str) -> Family:
    return find_family({"model_type": model_type, "vision_config": {}})


def check_qwens_first_models_see_frames_as_their_processor_would_size_them(_: str) -> None:
    found = family("qwen2_5_vl")
    for width, height, most, _frames in pictures():
        high, wide = qwen2_size(height, width, 28, found.min_pixels, most)
        assert found.frame_size(width, height, most) == (wide, high), (width, height, most)


def check_a_budget_a_video_is_as_many_times_the_budget_a_frame(_: str) -> None:
    for model_type, size in (("qwen3_vl", qwen3_size), ("glm4v", glm_size)):
        found = family(model_type)
        for width, height, most, frames in pictures():
            told = found.window_kwargs((found.min_pixels, most), frames)["size"]
            least, longest = told["shortest_edge"], told["longest_edge"]
            high, wide = size(frames, height, width, 2, found.grid, least, longest)
            assert found.frame_size(width, height, most) == (wide, high), (width, height, most)


def check_gemma_4_sees_frames_as_its_processor_would_size_them(_: str) -> None:
    found = family("gemma4")
    for width, height, *_rest in pictures():
        high, wide = get_aspect_ratio_preserving_size(height, width, 16, 70 * 9, 3)
        assert found.frame_size(width, height, found.min_pixels) == (wide, high), (width, height)


def check_minicpm_v_gets_frames_in_one_piece_and_makes_so_many_tokens(_: str) -> None:
    found, processor = family("minicpmv4_6"), MiniCPMV4_6ImageProcessor()
    for width, height, _most, frames in pictures():
        sent = found.frame_size(width, height, found.min_pixels)
        assert processor.get_sliced_grid(sent[::-1], 9, 448) is None
        high, wide = processor.find_best_resize(sent[::-1], 448, 14, allow_upscale=True)
        assert found.tokens(*sent, frames) == frames * high * wide // (14 * 14 * 16), sent


def check_a_window_of_pairs_has_the_tokens_of_its_grid(_: str) -> None:
    found, processor = family("qwen2_5_vl"), Qwen2VLVideoProcessor()
    for width, height, most, frames in pictures():
        wide, high = found.frame_size(width, height, most)
        settings = {"size": {"shortest_edge": 1, "longest_edge": 1 << 40}}
        patches = processor.get_num_of_video_patches(frames, high, wide, settings)
        assert found.tokens(wide, high, frames) == patches // 4
