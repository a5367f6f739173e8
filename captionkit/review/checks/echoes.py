"""Captions that repeat their prompt."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from captionkit.review.checks.text import CheckedText, words_of

_ECHO = 8
_LEAST = 4


def echoes(caption: CheckedText) -> bool:
    """Share eight words in a row with the prompt, or all of a shorter text (at least four words)."""
    prompt = _words(caption.prompt)
    length = min(_ECHO, len(caption.words), len(prompt))
    if length < _LEAST:
        return False
    return not _known(caption.prompt, length).isdisjoint(_phrases(caption.words, length))


# A run has one prompt, or one for each window of its second stage.
@functools.lru_cache(maxsize=32)
def _words(prompt: str) -> tuple[str, ...]:
    return tuple(words_of(prompt))


@functools.lru_cache(maxsize=32)
def _known(prompt: str, length: int) -> frozenset[tuple[str, ...]]:
    return frozenset(_phrases(_words(prompt), length))


def _phrases(words: Sequence[str], length: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[index:] for index in range(length)), strict=False)
