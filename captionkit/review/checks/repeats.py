"""Captions that loop."""

from __future__ import annotations

import re
from collections import Counter

from captionkit.review.checks.text import CheckedText, words_of

_PHRASE = 8


def repeats(caption: CheckedText) -> bool:
    """Have a phrase of one to eight words three times or more in a row (a single word: four times).

    Three equal sentences of five words or more count as well, in any place.
    """
    words = caption.words
    for length in range(1, _PHRASE + 1):
        # Count words that equal the word one phrase earlier: each full phrase of them is one repeat.
        needed, run = (3 if length == 1 else 2) * length, 0
        for word, earlier in zip(words[length:], words, strict=False):
            run = run + 1 if word == earlier else 0
            if run >= needed:
                return True
    sentences = Counter(
        tuple(found)
        for part in re.split(r"[.!?\n]+", caption.text)
        if len(found := words_of(part)) >= 5
    )
    return any(count >= 3 for count in sentences.values())
