"""Captions that do not fit their schema."""

from __future__ import annotations

from captionkit import structured
from captionkit.review.checks.text import CheckedText


def invalid(caption: CheckedText) -> bool:
    """The recipe has a schema, and the text is not JSON that fits it."""
    return caption.schema is not None and structured.read(caption.text, caption.schema)[1] is not None
