"""Gemma 4."""

import math
from typing import Any

from captionkit.models.families.base import Family

# vLLM and transformers give a frame of a video at most so many tokens, whatever the recipe's budget.
_FRAME_TOKENS = 70


class Gemma4(Family):
    """Each frame fills a budget of 70 tokens and keeps its aspect; ``00:12`` precedes each frame."""

    name = "Gemma 4"
    model_types = ("gemma4", "gemma4_unified")
    channels_last = True

    @property
    def grid(self) -> int:
        """Patch size times the pooling's side."""
        patch, pooled = self.vision.get("patch_size", 16), self.vision.get("pooling_kernel_size", 3)
        return int(patch) * int(pooled)

    @property
    def min_pixels(self) -> int:
        """Pixels of 70 tokens: smaller frames would be enlarged to them."""
        return _FRAME_TOKENS * self.grid**2

    @property
    def default_pixels(self) -> int:
        """Pixels of 70 tokens."""
        return self.min_pixels

    def frame_size(self, width: int, height: int, budget: int) -> tuple[int, int]:
        """The largest size on the grid within 70 tokens, by the rule of the model's processor."""
        grid = self.grid
        scale = math.sqrt(self.min_pixels / (width * height))
        wide, high = math.floor(width * scale / grid), math.floor(height * scale / grid)
        if high < 1:
            wide, high = min(_FRAME_TOKENS, width // height), 1
        elif wide < 1:
            wide, high = 1, min(_FRAME_TOKENS, height // width)
        return wide * grid, high * grid

    def tokens(self, width: int, height: int, frames: int) -> int:
        """As vLLM counts them, from the size that a frame has on arrival."""
        grid = self.grid
        scale = math.sqrt(self.min_pixels / (width * height))
        wide = max(1, math.floor(width * scale / grid))
        high = max(1, math.floor(height * scale / grid))
        return frames * min(_FRAME_TOKENS, wide * high)

    def processor_kwargs(self, pixels: tuple[int, int] | None) -> dict[str, Any]:
        """Nothing: vLLM makes images of the frames, and their size is fixed."""
        return {}

    def limits(self, video: Any = 1) -> dict[str, Any]:
        """Forbid sound where the model hears, so that vLLM leaves its tower out."""
        told = super().limits(video)
        return {**told, "audio": 0} if self.config.get("audio_config") else told
