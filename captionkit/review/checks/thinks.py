"""Captions with thoughts of the model in them."""

from __future__ import annotations

import re

from captionkit.review.checks.text import CheckedText

_THOUGHT = re.compile(r"</?think(?:ing)?>", re.IGNORECASE)


def thinks(caption: CheckedText) -> bool:
    """Hold a mark of thinking, ``<think>`` or ``</think>``."""
    return bool(_THOUGHT.search(caption.text))
