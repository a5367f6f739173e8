"""SmolVLM2: vLLM takes images alone."""

import importlib.util
from collections.abc import Mapping
from typing import Any

from captionkit.models.families.base import FixedFamily, sides


class SmolVlm(FixedFamily):
    """Each frame is an image in one piece, as the model's own processor shows a video."""

    name = "SmolVLM2"
    model_types = ("smolvlm",)
    images = True

    def __init__(self, config: Mapping[str, Any], processor: Mapping[str, Any]) -> None:
        if importlib.util.find_spec("num2words") is None:
            raise ValueError("its processor needs a package: pip install num2words")
        super().__init__(config, processor)

    @property
    def size(self) -> tuple[int, int]:
        """Size of one piece."""
        piece = self.setting("image_processor", "max_image_size", self.vision.get("image_size"))
        return sides(piece, 512)

    @property
    def frame_tokens(self) -> int:
        """``image_seq_len`` of the processor, or what follows from the tower's patches."""
        side, patch = int(self.vision.get("image_size", 512)), int(self.vision.get("patch_size", 16))
        made = (side // patch // int(self.config.get("scale_factor", 4))) ** 2
        return int(self.processor.get("image_seq_len", made))

    def processor_kwargs(self, pixels: tuple[int, int] | None) -> dict[str, Any]:
        """Show each frame whole."""
        return {"do_image_splitting": False}
