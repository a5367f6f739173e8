"""The form of a caption: its length and its end."""

from __future__ import annotations

from captionkit.review.checks.text import CheckedText

_ENDS = tuple(".!?…\"'”’»)]}。！？」』）।؟")


def count_words(caption: CheckedText) -> int:
    """Count the words."""
    return len(caption.words)


def truncated(caption: CheckedText) -> bool:
    """End with the finish reason ``length``, at ``max_tokens``."""
    return caption.finish_reason == "length"


def empty(caption: CheckedText) -> bool:
    """Have no letter and no digit."""
    return not caption.words


def unfinished(caption: CheckedText) -> bool:
    """Have words, but no full stop or closing mark of any script at the end."""
    return bool(caption.words) and not caption.text.rstrip().endswith(_ENDS)
