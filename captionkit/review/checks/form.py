"""The form of a caption: its length, and whether it came to an end."""

from __future__ import annotations

from captionkit.review.checks.text import CheckedText

_ENDS = tuple(".!?…\"'”’»)]}。！？」』）।؟")


def count_words(caption: CheckedText) -> int:
    """Number of words."""
    return len(caption.words)


def truncated(caption: CheckedText) -> bool:
    """The finish reason is ``length``: ``max_tokens`` cut it off."""
    return caption.finish_reason == "length"


def empty(caption: CheckedText) -> bool:
    """No letter or digit."""
    return not caption.words


def unfinished(caption: CheckedText) -> bool:
    """Has words, but does not end in a full stop, a closing mark or their like in other scripts."""
    return bool(caption.words) and not caption.text.rstrip().endswith(_ENDS)
