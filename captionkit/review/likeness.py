"""How like a reference a caption is: METEOR, and a measure after CIDEr."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

_LONGEST = 4


class _NoSynonyms:
    """Stands for WordNet, whose data is not in nltk: words match by themselves or by their stem."""

    def synsets(self, word: str) -> list[object]:
        return []


def meteor(said: Sequence[Sequence[str]], known: Sequence[Sequence[str]]) -> list[float] | None:
    """Return nltk's METEOR of captions as words, 0 to 1, without synonyms; None without nltk.

    nltk comes with the extra ``scores``.
    """
    try:
        from nltk.translate.meteor_score import single_meteor_score
    except ImportError:
        return None
    # Tables repeat texts, and a score takes milliseconds.
    pairs = [(tuple(wanted), tuple(words)) for words, wanted in zip(said, known, strict=True)]
    scored = {pair: float(single_meteor_score(*pair, wordnet=_NoSynonyms())) for pair in set(pairs)}
    return [scored[pair] for pair in pairs]


def cider(
    said: Sequence[Sequence[str]], known: Sequence[Sequence[str]], corpus: Sequence[Sequence[str]]
) -> list[float]:
    """Return a measure after CIDEr (Vedantam et al., 2015), 0 to 1, of captions as words.

    The mean over phrases of 1 to 4 words of the cosine between the two texts' counts, where a phrase
    that few texts of ``corpus`` have weighs more. Unlike CIDEr words are not stemmed, the result is not
    multiplied by 10, and weights are smooth, since 50 references are few:
    ``log((1 + texts) / (1 + texts with the phrase)) + 1``.
    """
    weights = [_Weights([_phrases(words, size) for words in corpus]) for size in range(1, _LONGEST + 1)]
    return [
        _mean(
            weights[size - 1].cosine(_phrases(words, size), _phrases(wanted, size))
            for size in range(1, _LONGEST + 1)
            if len(wanted) >= size
        )
        for words, wanted in zip(said, known, strict=True)
    ]


class _Weights:
    """Weights of phrases by the number of texts that have them."""

    def __init__(self, texts: Sequence[Counter[tuple[str, ...]]]) -> None:
        self._texts = len(texts)
        self._having = Counter(phrase for text in texts for phrase in text)

    def cosine(self, one: Counter[tuple[str, ...]], other: Counter[tuple[str, ...]]) -> float:
        first, second = self._weighed(one), self._weighed(other)
        common = sum(first[phrase] * second[phrase] for phrase in first.keys() & second.keys())
        lengths = math.hypot(*first.values()) * math.hypot(*second.values())
        return min(1.0, common / lengths) if lengths else 0.0

    def _weighed(self, counts: Counter[tuple[str, ...]]) -> dict[tuple[str, ...], float]:
        return {
            phrase: count * (math.log((1 + self._texts) / (1 + self._having[phrase])) + 1)
            for phrase, count in counts.items()
        }


def _phrases(words: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[n : n + size]) for n in range(len(words) - size + 1))


def _mean(values: Iterator[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0
