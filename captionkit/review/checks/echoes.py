"""Captions that repeat their prompt."""

from __future__ import annotations

from captionkit.review.checks.text import CheckedText, words_of

_ECHO = 8
_LEAST = 4


def echoes(caption: CheckedText) -> bool:
    """Share eight words in a row with the prompt, or all of a shorter text (at least four words)."""
    prompt = words_of(caption.prompt)
    length = min(_ECHO, len(caption.words), len(prompt))
    if length < _LEAST:
        return False
    return bool(_phrases(caption.words, length) & _phrases(prompt, length))


def _phrases(words: list[str], length: int) -> set[tuple[str, ...]]:
    return {tuple(words[index : index + length]) for index in range(len(words) - length + 1)}
