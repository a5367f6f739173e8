"""Differences of two texts word by word, and the confidence interval of a share."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

# Match a word or a mark, with the spaces after it.
_TOKEN = re.compile(r"\w+(?:['’-]\w+)*\s*|[^\w\s]\s*|\s+")
# Merge two changes with fewer equal words than this between them: one change reads better.
_ISLAND = 2
#: Share of common words below which a diff marks what texts share, not what differs.
LEAST_OVERLAP = 0.4
# Beyond this number of word pairs, as in captions that loop, count everything as one change: the search
# for the longest match would take minutes.
_MOST_PAIRS = 1_000_000


@dataclass(frozen=True)
class Piece:
    """A stretch of a word diff; ``same`` pieces have equal texts on both sides."""

    kind: Literal["same", "changed"]
    before: str
    after: str


def word_diff(before: str, after: str) -> list[Piece]:
    """Return the changes from one text to another, by words.

    The pieces' ``before`` add up to the first text, their ``after`` to the second. A single equal word
    between two changes counts as changed, so that long captions stay readable.
    """
    a, b = _TOKEN.findall(before), _TOKEN.findall(after)
    # Ignore trailing space in the comparison of words.
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


def marked(before: str, after: str) -> list[tuple[str, str]]:
    """Return a text in pieces, each ``same``, ``new`` or ``shared``, as it differs from one before.

    Texts that share less than `LEAST_OVERLAP` of their words would be ``new`` nearly everywhere: then
    the words that they share are marked, and the rest is ``same``.
    """
    pieces = word_diff(before, after)
    if overlap(before, after) < LEAST_OVERLAP:
        kinds = {"same": "shared", "changed": "same"}
    else:
        kinds = {"same": "same", "changed": "new"}
    return [(kinds[piece.kind], piece.after) for piece in pieces if piece.after]


def _steps(a: list[str], b: list[str]) -> Iterator[tuple[bool, int, int, int, int]]:
    """Yield equal and changed stretches as (same, start and end in a, start and end in b)."""
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
    """Return the share of common words of two texts (as multisets, ignoring case), 0 to 1."""
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
    """Return Wilson's 95% interval of a share of ``count``."""
    if not count:
        return 0.0, 1.0
    z = 1.959964
    middle = share + z * z / (2 * count)
    reach = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)
