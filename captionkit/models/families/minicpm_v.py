"""MiniCPM-V 4.6 and 4.7."""

import math
from typing import Any

from captionkit.models.families.base import Family


class MiniCpmV(Family):
    """Each frame is enlarged or shrunk to about 448 x 448 pixels; the prompt has no times."""

    name = "MiniCPM-V 4.6 and 4.7"
    model_types = ("minicpmv4_6", "minicpmv4_7")

    @property
    def _side(self) -> int:
        return int(self.setting("image_processor", "scale_resolution", 448))

    @property
    def grid(self) -> int:
        """Frames are sent at any size; the processor fits them to its grid."""
        return 1

    @property
    def min_pixels(self) -> int:
        """A frame of less pixels is enlarged."""
        return self._side**2

    @property
    def default_pixels(self) -> int:
        """The size of a frame in one piece; larger ones would be cut into slices."""
        return self._side**2

    def frame_size(self, width: int, height: int, budget: int) -> tuple[int, int]:
        """Shrink a frame until it is one piece; the processor enlarges small ones."""
        shrink = min(1.0, math.sqrt(self.min_pixels / (width * height)))
        return max(1, math.floor(width * shrink)), max(1, math.floor(height * shrink))

    def tokens(self, width: int, height: int, frames: int) -> int:
        """A token is 16 patches of the size that the processor takes."""
        patch = int(self.setting("image_processor", "patch_size", 14))
        cell = 4 * patch
        high = int(self._side / math.sqrt(width / height))
        wide = int(high * (width / height))
        cells = max(1, round(wide / cell)) * max(1, round(high / cell))
        quarter = self.setting("image_processor", "downsample_mode", "16x") == "4x"
        return frames * cells * (4 if quarter else 1)

    def processor_kwargs(self, pixels: tuple[int, int] | None) -> dict[str, Any]:
        """Forbid slices, of which the model would make up to nine a frame."""
        return {"max_slice_nums": 1}

    def limits(self, video: Any = 1) -> dict[str, Any]:
        """Allow an image: without one, vLLM leaves out the vision tower, which serves both."""
        return {**super().limits(video), "image": 1}
