"""Captions that are nearly the same as an earlier one of a set."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from captionkit.display import overlap


def near_duplicates(texts: Sequence[str], least: float) -> dict[int, int]:
    """Return the texts that nearly repeat an earlier one, each with the index of the first such text.

    A text counts as near if its word overlap (`display.overlap`) with an earlier text that is not a
    near duplicate itself is ``least`` or more. Only texts that share a rare word are compared, so that
    a set of 100,000 captions takes seconds; no near duplicate is missed.
    """
    bags = [_bag(text) for text in texts]
    known = Counter(word for bag in bags for word in bag)
    by_word: dict[tuple[str, int], list[int]] = defaultdict(list)
    found: dict[int, int] = {}
    # Texts of which at least ``least`` is common have this share of either one's words in common.
    share = least / (2 - least)
    for index, bag in enumerate(bags):
        rarest = sorted(bag, key=lambda word: (known[word], word))
        head = rarest[: len(bag) - math.ceil(share * len(bag) - 1e-9) + 1]
        near = sorted({other for word in head for other in by_word[word]})
        same = next((other for other in near if overlap(texts[index], texts[other]) >= least), None)
        if same is not None:
            found[index] = same
            continue
        for word in head:
            by_word[word].append(index)
    return found


def _bag(text: str) -> set[tuple[str, int]]:
    """Return the words of a text, each with its count so far, so that a repeated word counts again."""
    seen: Counter[str] = Counter()
    bag = set()
    for word in re.findall(r"\w+", text.lower()):
        bag.add((word, seen[word]))
        seen[word] += 1
    # Texts without a word are all the same.
    return bag or {("", 0)}
