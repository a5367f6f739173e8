"""Captions that are nearly the same as an earlier one of a set."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

# Marks that are compared at once: 400 MB of memory.
_AT_ONCE = 20_000_000
# Marks have more words, up to 4, if more pairs of texts than these share one by chance; but there are
# more marks then. Both numbers are means over the texts.
_MOST_WORDS, _MOST_PAIRS, _MOST_MARKS = 4, 100, 350
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
# A matrix product compares all texts if it has fewer steps than so many for each pair that shares a
# mark, and needs no more numbers than these (1 GB). It takes so many texts at once.
_STEPS_OF_PAIR, _MOST_NUMBERS, _ROWS = 8_000, 250_000_000, 256
# What such a product is off by at most, in words.
_ROUNDED = 1e-3


def near_duplicates(texts: Sequence[str], least: float) -> dict[int, int]:
    """Return the texts that nearly repeat an earlier one, each with the index of the first such text.

    A text counts as near if its word overlap (`display.overlap`) with an earlier text that is not a
    near duplicate itself is ``least`` or more. Only texts that share some of their rarest words are
    compared; no near duplicate is missed. The time grows with the number of texts: texts of 40 words of
    a vocabulary of 50,000 took 0.4 s for 8,000 and 7.1 s for 128,000 on one core. In sets written with
    few words in all, as those of a model with a fixed scheme, a matrix product compares every two
    texts: of 59 different words, it took 1.1 s for 8,000 and 30 s for 100,000.
    """
    numbers: dict[tuple[str, int], int] = {}
    bags = [[numbers.setdefault(word, len(numbers)) for word in _bag(text)] for text in texts]
    known = Counter(itertools.chain.from_iterable(bags))
    rank = {word: n for n, (word, _) in enumerate(sorted(known.items(), key=lambda item: item[1]))}
    firsts: dict[tuple[int, ...], int] = {}
    # The same words in another order are the same text here.
    first_of = [
        firsts.setdefault(tuple(sorted([rank[word] for word in bag])), n) for n, bag in enumerate(bags)
    ]
    del bags, numbers, known
    indexes = list(firsts.values())
    near = _near_of_different(list(firsts), least)
    found = {indexes[each]: indexes[earlier] for each, earlier in near.items()}
    again = {n: found.get(first, first) for n, first in enumerate(first_of) if n != first}
    return dict(sorted((found | again).items()))


def _near_of_different(texts: list[tuple[int, ...]], least: float) -> dict[int, int]:
    """Return the near duplicates among texts as ascending ranks of words; no two texts are equal."""
    of_text, marks = _shared_marks(texts, least)
    width = 1 + max((each[-1] for each in texts), default=0)
    few_steps = len(texts) ** 2 * width < _STEPS_OF_PAIR * _pairs(marks)
    if few_steps and len(texts) * width < _MOST_NUMBERS:
        return _near_by_product(texts, least, width)
    ends = np.searchsorted(of_text, np.arange(len(texts) + 1))
    holders: dict[int, list[int]] = defaultdict(list)
    found: dict[int, int] = {}
    # Of texts with ``least`` in common, neither is shorter than this share of the other.
    share = _share(least)
    for index, words in enumerate(texts):
        own, size = set(words), len(words)
        shortest, longest = share * size - 1e-9, size / share + 1e-9
        held = marks[ends[index] : ends[index + 1]].tolist()
        same = [
            other
            for other in {other for mark in held for other in holders[mark]}
            if shortest <= len(texts[other]) <= longest and _alike(own, texts[other], least)
        ]
        if same:
            found[index] = min(same)
            continue
        for mark in held:
            holders[mark].append(index)
    return found


def _near_by_product(texts: list[tuple[int, ...]], least: float, width: int) -> dict[int, int]:
    """Return the same as `_near_of_different`: a matrix product counts the words of every two texts."""
    # The last two columns take away what is wanted in common: half of ``least`` times the sizes.
    has = np.zeros((len(texts), width + 2), np.float32)
    for index, each in enumerate(texts):
        has[index, list(each)] = 1
        has[index, width:] = 1, -least / 2 * len(each)
    kept = np.empty_like(has)
    indexes: list[int] = []
    found: dict[int, int] = {}
    for start in range(0, len(texts), _ROWS):
        rows = has[start : start + _ROWS]
        before = len(indexes)
        near = rows @ kept[:before].T >= -_ROUNDED
        some = set(np.flatnonzero(near.any(axis=1)).tolist())
        for index, row in enumerate(rows, start):
            early = np.flatnonzero(near[index - start]) if index - start in some else ()
            late = np.flatnonzero(kept[before : len(indexes)] @ row >= -_ROUNDED) + before
            others = (indexes[each] for each in (*early, *late))
            own = set(texts[index])
            first = next((each for each in others if _alike(own, texts[each], least)), None)
            if first is not None:
                found[index] = first
                continue
            kept[len(indexes)] = row
            kept[len(indexes), width:] = row[width:][::-1]
            indexes.append(index)
    return found


def _alike(one: set[int], other: tuple[int, ...], least: float) -> bool:
    return 2 * len(one.intersection(other)) >= least * (len(one) + len(other)) - 1e-9


def _pairs(marks: NDArray[np.uint64]) -> int:
    """Return how many pairs of texts share a mark; one that shares several counts for each."""
    _, holders = np.unique(marks, return_counts=True)
    return int((holders * (holders - 1) // 2).sum())


def _shared_marks(
    texts: list[tuple[int, ...]], least: float
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Return the marks that several texts have, with the index of their text, in its order.

    A mark is two to four of a text's rarest words. Two texts with ``o`` words in common have ``k`` of
    them among the ``size - o + k`` rarest of each. Texts so short that fewer common words may be enough
    have their single words as marks, too.
    """
    groups: dict[int, list[int]] = defaultdict(list)
    for index, words in enumerate(texts):
        groups[len(words)].append(index)
    of_text, marks = _shared_of_size(texts, groups, least, 2)
    for count in range(3, _MOST_WORDS + 1):
        made = sum(len(each) * math.comb(_head(n, least, count), count) for n, each in groups.items())
        if _pairs(marks) <= _MOST_PAIRS * len(texts) or made > _MOST_MARKS * len(texts):
            break
        of_text, marks = _shared_of_size(texts, groups, least, count)
    order = np.argsort(of_text, kind="stable")
    return of_text[order], marks[order]


def _shared_of_size(
    texts: list[tuple[int, ...]], groups: Mapping[int, list[int]], least: float, count: int
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Return the marks of so many words that several texts have, and the index of their text."""
    parts = [
        (np.array(group), _heads(texts, group, size, least, count)) for size, group in groups.items()
    ]
    total = sum(len(group) * columns.shape[1] for group, (_, columns) in parts)
    passes = total // _AT_ONCE + 1
    found = [_shared_of_pass(parts, number, passes) for number in range(passes)]
    return np.concatenate([each for each, _ in found]), np.concatenate([each for _, each in found])


def _head(size: int, least: float, count: int) -> int:
    """Return how many of a text's rarest words its marks are made of."""
    return min(size, size - math.ceil(_share(least) * size - 1e-9) + count)


def _heads(
    texts: list[tuple[int, ...]], group: list[int], size: int, least: float, count: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the rarest words of texts of one size, and the columns that make marks."""
    head = _head(size, least, count)
    # Words count from 1, so that a single word beside zeros is not a mark of several.
    words = np.array([texts[index][:head] for index in group], np.uint64) + np.uint64(1)
    words = np.hstack([words, np.zeros((len(group), 1), np.uint64)])
    columns = list(itertools.combinations(range(head), count))
    if size * least < 2 * (count - 1):
        columns += [(column, *[head] * (count - 1)) for column in range(head)]
    return words, np.array(columns, np.int64).reshape(-1, count).T


def _shared_of_pass(
    parts: list[tuple[NDArray[np.int64], tuple[NDArray[np.uint64], NDArray[np.int64]]]],
    number: int,
    passes: int,
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Return the marks of one pass that several texts have; the passes share all marks out."""
    of_text: list[NDArray[np.int64]] = []
    marks: list[NDArray[np.uint64]] = []
    for group, (words, columns) in parts:
        # Different words may make one mark by chance: such texts are compared for nothing.
        made = words[:, columns[0]]
        for column in columns[1:]:
            made = (made ^ (made >> np.uint64(29))) * _FACTOR + words[:, column]
        chosen = made % np.uint64(passes) == number
        of_text.append(np.broadcast_to(group[:, None], made.shape)[chosen])
        marks.append(made[chosen])
    indexes, every = np.concatenate(of_text), np.concatenate(marks)
    order = np.argsort(every, kind="stable")
    ordered = every[order]
    same = ordered[1:] == ordered[:-1]
    shared = order[np.append(same, False) | np.append(False, same)]
    return indexes[shared], every[shared]


def _share(least: float) -> float:
    return least / (2 - least)


def _bag(text: str) -> list[tuple[str, int]]:
    """Return the words of a text, each with its count so far, so that a repeated word counts again."""
    seen: Counter[str] = Counter()
    bag = []
    for word in re.findall(r"\w+", text.lower()):
        bag.append((word, seen[word]))
        seen[word] += 1
    # Texts without a word are all the same.
    return bag or [("", 0)]
