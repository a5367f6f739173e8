"""LLaVA-OneVision."""

import math

from captionkit.models.families.base import FixedFamily, sides


class LlavaOnevision(FixedFamily):
    """Each frame is one square, pooled two by two; the prompt has no times."""

    name = "LLaVA-OneVision"
    model_types = ("llava_onevision",)
    makes_largest_video = True

    @property
    def size(self) -> tuple[int, int]:
        """Size of the vision tower's pictures."""
        return sides(self.setting("video_processor", "size", self.vision.get("image_size")), 384)

    @property
    def frame_tokens(self) -> int:
        """A quarter of the tower's patches."""
        patches = int(self.vision.get("image_size", 384)) // int(self.vision.get("patch_size", 14))
        return math.ceil(patches / 2) ** 2

    def tokens(self, width: int, height: int, frames: int) -> int:
        """The frames', and one that ends the video."""
        return super().tokens(width, height, frames) + 1
