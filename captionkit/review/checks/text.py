"""What a check looks at."""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass(frozen=True)
class CheckedText:
    """A caption as checks see it.

    Parameters
    ----------
    text
        The caption.
    finish_reason
        vLLM's.
    prompt
        The prompt's readable text.
    language
        Two-letter code of the language that was asked for; unknown codes find nothing.
    schema
        The recipe's.
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


def words_of(text: str) -> list[str]:
    """The words of a text in lower case."""
    return re.findall(r"\w+", text.lower())
