"""Windows with more video tokens than vLLM encodes in a step, which would wait forever."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class TooLargeError(ValueError):
    """Raised for a video with more tokens than the engine encodes in a step."""


def most_encoded(config: Any) -> int:
    """Return the most tokens of a video that an engine of this configuration encodes."""
    from vllm.multimodal import MULTIMODAL_REGISTRY
    from vllm.multimodal.encoder_budget import MultiModalBudget

    budget = MultiModalBudget(config, MULTIMODAL_REGISTRY, enable_cache=False)
    return int(budget.encoder_compute_budget)


def check_encodable(rendered: Mapping[str, Any], most: int, pixels: int | None) -> None:
    """Refuse a prompt with a video that is too large.

    Parameters
    ----------
    rendered
        A prompt as vLLM's renderer gives it.
    most
        As `most_encoded`.
    pixels
        Pixels of one of its frames; None if its frames are not at hand.

    Raises
    ------
    TooLargeError
        The video is too large; has its number, and the pixel budget that would fit.
    """
    places = [each for group in rendered.get("mm_placeholders", {}).values() for each in group]
    tokens = max((each.get_num_embeds() for each in places), default=0)
    if tokens <= most:
        return
    text = f"has {tokens} video tokens, and this engine encodes at most {most}: take fewer frames"
    if pixels is not None:
        fits = pixels * most // tokens
        text = f"{text}, or a pixel budget of {fits} (its frames have {pixels} pixels)"
    raise TooLargeError(text)
