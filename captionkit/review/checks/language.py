"""Captions in another language than the requested one."""

from __future__ import annotations

import unicodedata

from captionkit.review.checks.text import CheckedText

# Frequent function words, each in exactly one of these languages.
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


def another_language(caption: CheckedText) -> bool:
    """Have mostly letters of another script, or mostly words of another language.

    Only function words count as words of a language; another language needs three of them.
    """
    language = caption.language
    wanted = _SCRIPTS.get(language, ("LATIN",) if language in _FUNCTION_WORDS else None)
    letters = [c for c in caption.text if c.isalpha()]
    if wanted is None or not letters:
        return False
    if not (caption.text.isascii() and "LATIN" in wanted):
        fitting = sum(unicodedata.name(c, "").split(" ")[0] in wanted for c in letters)
        if 2 * fitting < len(letters):
            return True
    if language not in _FUNCTION_WORDS:
        return False
    hits = {
        code: sum(word in known for word in caption.words) for code, known in _FUNCTION_WORDS.items()
    }
    best = max(hits, key=hits.__getitem__)
    return hits[best] >= 3 and hits[best] > hits[language]
