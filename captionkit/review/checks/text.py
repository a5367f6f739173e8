"""Input of the checks."""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass(frozen=True)
class CheckedText:
    """A caption with the facts that checks need.

    Parameters
    ----------
    text
        The caption.
    finish_reason
        Finish reason from vLLM.
    prompt
        The prompt's readable text.
    language
        Two-letter code of the requested language; an unknown code finds nothing.
    schema
        Schema of the recipe, or None.
    words
        The caption's words in lower case.
    """

    text: str
    finish_reason: str = "stop"
    prompt: str = ""
    language: str = "en"
    schema: str | None = None
    words: list[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", words_of(self.text))


_WORD = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case."""
    return _WORD.findall(text.lower())
