"""Captions that loop."""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Sequence

from captionkit.review.checks.text import CheckedText, words_of

_PHRASE = 8
_END = re.compile(r"[.!?\n]+")


def repeats(caption: CheckedText) -> bool:
    """Have a phrase of one to eight words three times or more in a row (a single word: four times).

    Three equal sentences of five words or more count as well, in any place.
    """
    if any(_loops(caption.words, length) for length in range(1, _PHRASE + 1)):
        return True
    # Three equal sentences repeat ten words or more.
    if len(caption.words) - len(set(caption.words)) < 10:
        return False
    parts = _END.split(caption.text)
    sentences = Counter(tuple(found) for part in parts if len(found := words_of(part)) >= 5)
    return any(count >= 3 for count in sentences.values())


def _loops(words: Sequence[str], length: int) -> bool:
    """Return whether a phrase of this length comes three times in a row, a single word four times."""
    # Count words that equal the word one phrase earlier: each full phrase of them is one repeat.
    needed, run = (3 if length == 1 else 2) * length, 0
    # Any run of the needed words holds one of every needed-th word: most captions end here.
    later, earlier = words[length + needed - 1 :: needed], words[needed - 1 :: needed]
    if not any(map(operator.eq, later, earlier)):
        return False
    for word, before in zip(words[length:], words, strict=False):
        run = run + 1 if word == before else 0
        if run >= needed:
            return True
    return False
