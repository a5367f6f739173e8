"""Two texts word by word, and how sure a share of few is."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

# A word, or a mark by itself; spaces stay with what is before them.
_TOKEN = re.compile(r"\w+(?:['’-]\w+)*\s*|[^\w\s]\s*|\s+")
# Between two changes, so few equal words only chop up what reads better as one change.
_ISLAND = 2
# Beyond so many pairs of words, as in captions that loop, what lies between counts as one change: the
# search for the longest match would take minutes.
_MOST_PAIRS = 1_000_000


@dataclass(frozen=True)
class Piece:
    """A stretch of a word diff; ``same`` pieces have equal texts on both sides."""

    kind: Literal["same", "changed"]
    before: str
    after: str


def word_diff(before: str, after: str) -> list[Piece]:
    """What changed from one text to another, by words.

    The pieces' ``before`` add up to the first text, their ``after`` to the second. Short equal words
    between two changes count as changed, so that long captions do not fall into crumbs.
    """
    a, b = _TOKEN.findall(before), _TOKEN.findall(after)
    # What differs in its trailing space only is the same word.
    words = [[token.strip() for token in side] for side in (a, b)]
    steps = [(same, a[i1:i2], b[j1:j2]) for same, i1, i2, j1, j2 in _steps(*words)]
    merged: list[tuple[bool, list[str], list[str]]] = []
    for index, (same, left, right) in enumerate(steps):
        island = same and 0 < index < len(steps) - 1 and _words(left) < _ISLAND
        same = same and not island
        if merged and not same and not merged[-1][0]:
            merged[-1] = (False, merged[-1][1] + left, merged[-1][2] + right)
        else:
            merged.append((same, left, right))
    return [
        Piece("same" if same else "changed", "".join(left), "".join(right))
        for same, left, right in merged
    ]


def _steps(a: list[str], b: list[str]) -> Iterator[tuple[bool, int, int, int, int]]:
    """Stretches that are the same or not, as (same, begin and end in a, begin and end in b)."""
    shorter = min(len(a), len(b))
    head = next((n for n in range(shorter) if a[n] != b[n]), shorter)
    left = shorter - head
    tail = next((n for n in range(left) if a[-1 - n] != b[-1 - n]), left)
    if head:
        yield True, 0, head, 0, head
    middle = a[head : len(a) - tail], b[head : len(b) - tail]
    if len(middle[0]) * len(middle[1]) > _MOST_PAIRS:
        yield False, head, len(a) - tail, head, len(b) - tail
    else:
        matcher = difflib.SequenceMatcher(None, *middle, autojunk=False)
        for tag, i1, i2, j1, j2 in matcher.get_opcodes():
            yield tag == "equal", head + i1, head + i2, head + j1, head + j2
    if tail:
        yield True, len(a) - tail, len(a), len(b) - tail, len(b)


def _words(tokens: Sequence[str]) -> int:
    return sum(token[0].isalnum() for token in tokens)


def overlap(one: str, two: str) -> float:
    """The share of words that two texts have in common (multisets, case aside), 0 to 1."""
    bags: list[dict[str, int]] = []
    for text in (one, two):
        bag: dict[str, int] = {}
        for word in re.findall(r"\w+", text.lower()):
            bag[word] = bag.get(word, 0) + 1
        bags.append(bag)
    total = sum(sum(bag.values()) for bag in bags)
    common = sum(min(count, bags[1].get(word, 0)) for word, count in bags[0].items())
    return 2 * common / total if total else 1.0


def wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share of ``count``."""
    if not count:
        return 0.0, 1.0
    z = 1.959964
    middle = share + z * z / (2 * count)
    reach = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)
