"""Captions that say their prompt again."""

from __future__ import annotations

from captionkit.review.checks.text import CheckedText, words_of

_ECHO = 8
_LEAST = 4


def echoes(caption: CheckedText) -> bool:
    """Eight words in a row are the prompt's, or all of a shorter prompt or caption (at least four)."""
    prompt = words_of(caption.prompt)
    length = min(_ECHO, len(caption.words), len(prompt))
    if length < _LEAST:
        return False
    return bool(_phrases(caption.words, length) & _phrases(prompt, length))


def _phrases(words: list[str], length: int) -> set[tuple[str, ...]]:
    return {tuple(words[index : index + length]) for index in range(len(words) - length + 1)}
