"""InternVL 3 and 3.5 as transformers has them (repositories that end in ``-hf`` or ``-HF``)."""

from captionkit.models.families.base import FixedFamily, sides


class InternVL(FixedFamily):
    """Each frame is one square of 256 tokens; ``Frame1:`` and so on precede the frames."""

    name = "InternVL (-hf)"
    model_types = ("internvl",)
    makes_largest_video = True

    @property
    def size(self) -> tuple[int, int]:
        """Size of a picture's tile; vLLM gives it to videos too."""
        tile = self.setting("image_processor", "size", self.vision.get("image_size"))
        return sides(tile, 448)

    @property
    def frame_tokens(self) -> int:
        """``image_seq_length`` of the processor."""
        return int(self.processor.get("image_seq_length", self.config.get("image_seq_length", 256)))
