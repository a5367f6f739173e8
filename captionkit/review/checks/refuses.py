"""Captions that refuse."""

from __future__ import annotations

import re

from captionkit.review.checks.text import CheckedText

_REFUSAL = re.compile(
    r"\W*(?:i(?:['’]m| am) (?:sorry|unable|not able)|sorry,|as an ai|i (?:can(?:no|['’])?t|can ?not|"
    r"do not|don['’]t|won['’]t) (?:help|assist|provide|describe|see|view|watch|access|answer|comply)|"
    r"i apologi[sz]e|unfortunately,? i (?:can|am))",
    re.IGNORECASE,
)


def refuses(caption: CheckedText) -> bool:
    """Begin like a refusal ("I'm sorry", "As an AI", "I cannot …")."""
    return bool(_REFUSAL.match(caption.text))
