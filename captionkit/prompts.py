"""The prompt library, and templates with ``{placeholders}``.

`resolve` turns a name or a free text into the text of a prompt, `render` fills a window's facts in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from captionkit.system.hints import hint

PROMPTS: dict[str, str] = {
    "default": (
        "Describe this video. Say who or what is in it, how it looks, what happens "
        "and where it takes place."
    ),
    "av": (
        "This video was recorded by a camera on a vehicle. Describe the road, the weather and the "
        "light, then every road user and what each does, in the order in which it happens."
    ),
    "av-surveillance": (
        "This video was recorded by a fixed camera that watches a place. Describe the place, then "
        "every person and vehicle, how they look and move, and anything out of the ordinary."
    ),
    "short": "Describe this video in one short sentence.",
    "dense": (
        "Describe this video in every detail: all things in it, their colour and size, how each "
        "moves, the place, the time of day, the light and the camera."
    ),
    "objects": "List the objects in this video.",
    "background": "Where does this video take place, and at what time of day? Leave the rest out.",
    "camera": "How does the camera move in this video?",
    "actions": "What moves in this video, and in which direction? Leave everything else out.",
    "json": (
        "Describe this video as one JSON object with the keys objects (each with kind, colour and "
        "motion), background and time."
    ),
}

STAGE2_DEFAULT = (
    "Here is a first caption of this video: {caption}\n"
    "Watch the video again and write a better caption: keep what is right, correct what is wrong "
    "and add what is missing."
)

# Questions about captions that are there, each asked of the window with its own placeholders.
QUESTIONS: dict[str, str] = {
    "claim": "Is this statement true of the video? Answer yes or no.\nStatement: {claim}",
    "judge": "Which caption describes the video better? Answer A, B or tie.\nA: {a}\nB: {b}",
    "judge-truth": (
        "Which caption says fewer false things about the video? Answer A, B or tie.\nA: {a}\nB: {b}"
    ),
    "judge-detail": (
        "Which caption says more true things about the video? Answer A, B or tie.\nA: {a}\nB: {b}"
    ),
}

#: Texts beside the picture: what is said in a window, the caption of the window before, and, instead of
#: COLUMN, any column of a table of the user's; see `session.texts`.
SPEECH, PREVIOUS, META = "speech", "previous", "meta."
ANY_COLUMN = f"{META}COLUMN"

#: For a second stage that reads the caption alone.
ENHANCE = (
    "Here is a caption of a video: {caption}\n"
    "Write it again, clearer and in more detail. Keep every fact of it; the video itself is not here."
)

STAGE1_PLACEHOLDERS = ("start", "end", "duration", "video", SPEECH, PREVIOUS, ANY_COLUMN)
STAGE2_PLACEHOLDERS = ("caption", *STAGE1_PLACEHOLDERS)

# A name, or a name of a window's own facts: a property of a caption, a column of a table.
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{((?:json|meta)\.[^{}\n]+|[A-Za-z_][A-Za-z0-9_]*)\}")
# Match anything that looks like a mark of a chat format: <|im_end|>, <|vision_start|>, ...
_THOUGHT = re.compile(r"<(think|thinking)>.*?</\1>\s*", re.DOTALL | re.IGNORECASE)
_THOUGHT_BEGINS = re.compile(r"<think(?:ing)?>", re.IGNORECASE)
_THOUGHT_ENDS = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_CHAT_MARK = re.compile(r"<\|(?=[^<>|\s]{1,64}\|>)")


def resolve(prompt: str, library: Mapping[str, str] = PROMPTS) -> str:
    """Return the text of a prompt from its library name or from free text.

    A single word (letters, digits, dashes) counts as a name.

    Raises
    ------
    ValueError
        If the prompt is empty, or a single word that is not a name.
    """
    text = prompt.strip()
    if not text:
        raise ValueError(
            f"the prompt has no text; give a text or one of the names {', '.join(library)}"
        )
    if text in library:
        return library[text]
    if re.fullmatch(r"[A-Za-z0-9_-]+", text):
        raise ValueError(
            f"no prompt is named {text!r}{hint(text, library)}; the names are {', '.join(library)} "
            "(your own text needs at least two words)"
        )
    return prompt


def placeholders(template: str) -> list[str]:
    """Return the names of the ``{placeholders}`` in a template, in order, without repeats.

    Only ``{name}`` counts: other braces, as in JSON, are plain text. ``{{`` and ``}}`` stand for
    single braces.
    """
    found = (match.group(1) for match in _PLACEHOLDER.finditer(template))
    return list(dict.fromkeys(name for name in found if name))


def beside(*templates: str | None) -> tuple[str, ...]:
    """Return the placeholders of templates that stand for texts beside the picture, without repeats."""
    used = [name for template in templates for name in placeholders(template or "")]
    wanted = [name for name in used if name in (SPEECH, PREVIOUS) or name.startswith(META)]
    return tuple(dict.fromkeys(wanted))


def check_template(template: str, known: tuple[str, ...]) -> None:
    """Refuse a template with a placeholder outside ``known``.

    Raises
    ------
    ValueError
        If a placeholder is unknown; the message names the placeholder and lists the known ones.
    """
    for name in placeholders(template):
        of_a_table = name.startswith(META) and ANY_COLUMN in known
        if name not in known and not of_a_table:
            listed = ", ".join("{" + each + "}" for each in known)
            raise ValueError(
                f"the prompt has the unknown placeholder {{{name}}}{hint(name, known)}; known here: "
                f"{listed} "
                f"(write {{{{{name}}}}} for the literal text)"
            )


def render(template: str, values: Mapping[str, object]) -> str:
    """Fill a template in one pass, so that braces inside a value stay unchanged.

    Raises
    ------
    ValueError
        If a placeholder has no value.
    """
    check_template(template, tuple(values))

    def fill(match: re.Match[str]) -> str:
        if match.group(1) is None:
            return match.group(0)[0]
        return str(values[match.group(1)])

    return _PLACEHOLDER.sub(fill, template)


def stage2_template(text: str) -> str:
    """Return a stage-2 text as a template; append ``{caption}`` if the text does not contain it."""
    return text if "caption" in placeholders(text) else text.rstrip() + "\n{caption}"


def disarm(text: str) -> str:
    """Break marks of a chat format in a text: ``<|im_end|>`` becomes ``< |im_end|>``."""
    return _CHAT_MARK.sub("< |", text)


def without_thoughts(text: str) -> str:
    """Return a caption without what a model thought: ``<think>…</think>`` or ``<thinking>``.

    A thought that the prompt opened has no beginning; one that was cut off has no end.
    """
    begin = text.lstrip().lower()
    if begin and any(mark.startswith(begin) for mark in ("<think>", "<thinking>")):
        return ""
    shown = _THOUGHT_ENDS.split(_THOUGHT.sub("", text))[-1]
    shown = _THOUGHT_BEGINS.split(shown)[0]
    return text if shown == text else shown.strip()
