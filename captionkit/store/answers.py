"""What models answered to questions about windows, so that no question is asked twice."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from captionkit.pipeline.questions import Reply
from captionkit.store import queries
from captionkit.store.file import StoreFile, now

_AT_ONCE = 500
# Digits of a probability that are kept.
_DIGITS = 6


class Answers:
    """Reads and writes answers, and how a run's claims were asked.

    Parameters
    ----------
    file
        The store's file.
    """

    def __init__(self, file: StoreFile) -> None:
        self._file = file

    def add(self, window_key: str, asker: str, question: str, reply: Reply, seconds: float) -> None:
        """Keep an answer.

        Parameters
        ----------
        window_key
            The window, which a run has.
        asker
            Key of the recipe that the question was asked with.
        question
            Its whole text.
        reply
            What came.
        seconds
            Time since the answer before, so that those of many add up to the time that they took.
        """
        tokens = None
        if reply.first_tokens is not None:
            shares = {token: round(share, _DIGITS) for token, share in reply.first_tokens.items()}
            tokens = json.dumps(shares, ensure_ascii=False)
        values = (window_key, asker, question, reply.text, tokens, seconds, now())
        with self._file.transaction() as db:
            db.execute(queries.ADD_ANSWER, values)

    def known(self, asker: str, window_keys: Iterable[str]) -> dict[tuple[str, str], Reply]:
        """Return what one asker answered about some windows, by window key and question."""
        found = {}
        for keys in _parts(list(dict.fromkeys(window_keys))):
            query = queries.ANSWERS.format(",".join("?" * len(keys)))
            for key, question, text, tokens in self._file.rows(query, (asker, *keys)):
                found[key, question] = Reply(str(text), _shares(tokens))
        return found

    def pace(self, asker: str) -> float | None:
        """Return the mean seconds a question of an asker took, None without one."""
        ((seconds,),) = self._file.rows("SELECT avg(seconds) FROM answers WHERE asker = ?", (asker,))
        return seconds if isinstance(seconds, float) else None

    def set_verified(self, run: int, how: str) -> None:
        """Keep how the claims of a run's captions are asked; the last way counts."""
        with self._file.transaction() as db:
            db.execute("INSERT OR REPLACE INTO verifications VALUES (?, ?, ?)", (run, how, now()))

    def verified(self, run: int) -> str | None:
        """Return how the claims of a run's captions were asked last, None if they never were."""
        found = self._file.rows("SELECT how FROM verifications WHERE run = ?", (run,))
        return found[0][0] if found else None


def _shares(tokens: Any) -> dict[str, float] | None:
    """Return stored probabilities; those of a damaged row of a stranger's store count as none."""
    try:
        shares = json.loads(tokens)
        return {str(token): float(share) for token, share in shares.items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def _parts(keys: list[str]) -> Iterator[list[str]]:
    for first in range(0, len(keys), _AT_ONCE):
        yield keys[first : first + _AT_ONCE]
