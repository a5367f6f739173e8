"""Captions that violate their schema."""

from __future__ import annotations

from captionkit import structured
from captionkit.review.checks.text import CheckedText


def invalid(caption: CheckedText) -> bool:
    """Violate the recipe's schema, if there is one."""
    return caption.schema is not None and structured.read(caption.text, caption.schema)[1] is not None
