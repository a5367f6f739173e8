"""Captions in another language than the requested one."""

from __future__ import annotations

import functools
import unicodedata
from collections import Counter

from captionkit.review.checks.text import CheckedText

# Frequent function words; a word may belong to several languages.
_SMALL_WORDS = {
    "en": "the and of is with are in to it its by at from on there",
    "de": "der die das und ist ein eine mit auf dem den nicht sich im zu",
    "fr": "le les et est une dans avec sur des du qui au aux ce",
    "es": "el los las y es una con por del se al que muy",
    "it": "il gli e è una con di della nel che sono sul lo",
    "pt": "o os as e é uma com por da do em um na no ao",
    "nl": "de het een en is van op met zijn niet aan er",
}
_LANGUAGES: dict[str, list[str]] = {}
for _code, _words in _SMALL_WORDS.items():
    for _word in _words.split():
        _LANGUAGES.setdefault(_word, []).append(_code)
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


def another_language(caption: CheckedText) -> bool:
    """Have mostly letters of another script, or mostly words of another language.

    Only function words count as words of a language; another language needs three of them.
    """
    language = caption.language
    wanted = _SCRIPTS.get(language, ("LATIN",) if language in _SMALL_WORDS else None)
    if wanted is None:
        return False
    if not (caption.text.isascii() and "LATIN" in wanted):
        scripts = [_script(c) for c in caption.text if c.isalpha()]
        if 2 * sum(script in wanted for script in scripts) < len(scripts):
            return True
    if language not in _SMALL_WORDS:
        return False
    known = [word for word in caption.words if word in _LANGUAGES]
    if len(known) < 3:
        return False
    hits = Counter(code for word in known for code in _LANGUAGES[word])
    return max(hits.values(), default=0) >= max(3, hits[language] + 1)


@functools.lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    return unicodedata.name(letter, "").split(" ")[0]
