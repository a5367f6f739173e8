"""What may be wrong with a caption, told by rule and without a second model.

`check` gives one caption's findings, `check_table` columns for a table of them. Imports `structured`;
called by runs, display and export.

==============  ==================================================================================
``words``       number of words
``truncated``   the finish reason is ``length``: ``max_output_tokens`` cut it off
``repeats``     a phrase of one to eight words stands three times or more in a row (one word: four
                times), or a sentence of five words or more comes three times
``empty``       no letter or digit
``echoes``      eight words in a row are the prompt's, or all of a shorter prompt or caption (four
                words at least)
``refuses``     begins like a refusal ("I'm sorry", "As an AI", "I cannot …")
``unfinished``  has words but ends in none of . ! ? … " ' ) ] } or their like in other scripts
``invalid``     the recipe has a schema, and the text is no JSON that fits it
``language``    most of its known function words (at least three), or most of its letters by script,
                belong to another language than the one asked for
==============  ==================================================================================
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from typing import Any

import pandas as pd

from captionkit import structured

CHECKS = (
    "words", "truncated", "repeats", "empty", "echoes", "refuses", "unfinished", "invalid", "language",
)  # fmt: skip
# Checks that find a fault; ``words`` is a number.
FAULTS = CHECKS[1:]

_ENDS = tuple(".!?…\"'”’»)]}。！？」』）।؟")
_REFUSAL = re.compile(
    r"\W*(?:i(?:['’]m| am) (?:sorry|unable|not able)|sorry,|as an ai|i (?:can(?:no|['’])?t|can ?not|"
    r"do not|don['’]t|won['’]t) (?:help|assist|provide|describe|see|view|watch|access|answer|comply)|"
    r"i apologi[sz]e|unfortunately,? i (?:can|am))",
    re.IGNORECASE,
)
_ECHO = 8
_PHRASE = 8
# Frequent small words, each in one of these languages only.
_SMALL_WORDS = {
    "en": "the and of is with are in to it its by at from on there",
    "de": "der die das und ist ein eine mit auf dem den nicht sich im zu",
    "fr": "le les et est une dans avec sur des du qui au aux ce",
    "es": "el los las y es una con por del se al que muy",
    "it": "il gli e è una con di della nel che sono sul lo",
    "pt": "o os as e é uma com por da do em um na no ao",
    "nl": "de het een en is van op met zijn niet aan er",
}
_FUNCTION_WORDS = {code: frozenset(words.split()) for code, words in _SMALL_WORDS.items()}
_SCRIPTS = {
    "zh": ("CJK",),
    "ja": ("HIRAGANA", "KATAKANA", "CJK"),
    "ko": ("HANGUL",),
    "ru": ("CYRILLIC",),
    "uk": ("CYRILLIC",),
    "ar": ("ARABIC",),
    "fa": ("ARABIC",),
    "he": ("HEBREW",),
    "hi": ("DEVANAGARI",),
    "el": ("GREEK",),
    "th": ("THAI",),
}


def check(
    text: str,
    *,
    finish_reason: str = "stop",
    prompt: str = "",
    language: str = "en",
    schema: str | None = None,
) -> dict[str, Any]:
    """The findings of one caption, by the names of `CHECKS`.

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
    """
    words = re.findall(r"\w+", text.lower())
    return {
        "words": len(words),
        "truncated": finish_reason == "length",
        "repeats": _repeats(text, words),
        "empty": not words,
        "echoes": _echoes(words, re.findall(r"\w+", prompt.lower())),
        "refuses": bool(_REFUSAL.match(text)),
        "unfinished": bool(words) and not text.rstrip().endswith(_ENDS),
        "invalid": schema is not None and structured.read(text, schema)[1] is not None,
        "language": _in_another_language(text, words, language),
    }


def check_table(
    captions: pd.DataFrame, language: str = "en", schema: str | None = None
) -> pd.DataFrame:
    """The findings of each row of a table like `Run.captions`; rows without text have none."""
    rows = [
        check(text, finish_reason=reason, prompt=prompt or "", language=language, schema=schema)
        if isinstance(text, str)
        else dict.fromkeys(CHECKS)
        for text, reason, prompt in zip(
            captions["text"], captions["finish_reason"], captions["prompt"], strict=True
        )
    ]
    table = pd.DataFrame(rows, columns=list(CHECKS), index=captions.index)
    return table.astype({"words": "Int64", **dict.fromkeys(FAULTS, "boolean")})


def faults(captions: pd.DataFrame, schema: str | None = None) -> dict[Any, list[str]]:
    """For each row of a table like `Run.captions`, by its index, the faults found in it."""
    found = check_table(captions, schema=schema)[list(FAULTS)].fillna(False)
    return {index: [name for name in FAULTS if row[name]] for index, row in found.iterrows()}


def _repeats(text: str, words: list[str]) -> bool:
    for length in range(1, _PHRASE + 1):
        # So many words equal to those one phrase before them are that many phrases more.
        needed, run = (3 if length == 1 else 2) * length, 0
        for word, before in zip(words[length:], words, strict=False):
            run = run + 1 if word == before else 0
            if run >= needed:
                return True
    sentences = Counter(
        tuple(found)
        for part in re.split(r"[.!?\n]+", text.lower())
        if len(found := re.findall(r"\w+", part)) >= 5
    )
    return any(count >= 3 for count in sentences.values())


def _echoes(words: list[str], prompt: list[str]) -> bool:
    length = min(_ECHO, len(words), len(prompt))
    if length < 4:
        return False
    asked = {tuple(prompt[place : place + length]) for place in range(len(prompt) - length + 1)}
    return any(
        tuple(words[place : place + length]) in asked for place in range(len(words) - length + 1)
    )


def _in_another_language(text: str, words: list[str], language: str) -> bool:
    wanted = _SCRIPTS.get(language, ("LATIN",) if language in _FUNCTION_WORDS else None)
    letters = [c for c in text if c.isalpha()]
    if wanted is None or not letters:
        return False
    if not (text.isascii() and "LATIN" in wanted):
        fitting = sum(unicodedata.name(c, "").split(" ")[0] in wanted for c in letters)
        if 2 * fitting < len(letters):
            return True
    if language not in _FUNCTION_WORDS:
        return False
    hits = {code: sum(word in known for word in words) for code, known in _FUNCTION_WORDS.items()}
    best = max(hits, key=hits.__getitem__)
    return hits[best] >= 3 and hits[best] > hits[language]
