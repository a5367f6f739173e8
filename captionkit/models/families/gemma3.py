"""Gemma 3: images alone."""

from typing import Any

from captionkit.models.families.base import FixedFamily, sides


class Gemma3(FixedFamily):
    """Each frame is an image of 256 tokens."""

    name = "Gemma 3"
    model_types = ("gemma3",)
    images = True

    @property
    def size(self) -> tuple[int, int]:
        """Size of the vision tower's pictures."""
        return sides(self.setting("image_processor", "size", self.vision.get("image_size")), 896)

    @property
    def frame_tokens(self) -> int:
        """``mm_tokens_per_image`` of the model."""
        return int(self.config.get("mm_tokens_per_image", 256))

    def processor_kwargs(self, pixels: tuple[int, int] | None) -> dict[str, Any]:
        """Show each frame once, without crops."""
        return {"do_pan_and_scan": False}
