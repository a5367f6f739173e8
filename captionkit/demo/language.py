"""What the demo model says: the right answer to each kind of prompt, and marks for a given caption.

Imports `demo.scenes` and `prompts`; called by `demo.train` (targets) and `demo.evaluate` (marks).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import numpy as np

from captionkit.demo.scenes import BACKGROUNDS, DIRECTIONS, Scene
from captionkit.demo.sprites import COLOURS, KINDS
from captionkit.prompts import PROMPTS, STAGE2_DEFAULT, render, stage2_template

_MOVES = {
    "left": "moves left",
    "right": "moves right",
    "up": "moves up",
    "down": "moves down",
    "still": "stays still",
}
_MOVING = {
    key: verb.replace("moves", "moving").replace("stays", "staying") for key, verb in _MOVES.items()
}

# Wordings of our own for each kind of answer; the library's prompts come first.
QUESTIONS: dict[str, tuple[str, ...]] = {
    "default": (
        PROMPTS["default"],
        "Describe this video.",
        "Caption this clip.",
        "Write a caption for this video.",
        "What happens in this video?",
        "Tell me what you see.",
        "Describe what is going on here.",
    ),
    "short": (
        PROMPTS["short"],
        "Give a short caption.",
        "Describe the video briefly.",
        "Summarise this clip in a few words.",
        "One short sentence, please.",
    ),
    "dense": (
        PROMPTS["dense"],
        PROMPTS["av"],
        PROMPTS["av-surveillance"],
        "Describe this clip in as much detail as you can.",
        "Write a long and detailed caption of everything in the video.",
        "Give a dense caption.",
    ),
    "objects": (
        PROMPTS["objects"],
        "List the objects.",
        "Which objects are in this clip?",
        "Name every object that can be seen.",
        "What things are there? Only list them.",
    ),
    "camera": (
        PROMPTS["camera"],
        "Does the camera move?",
        "Describe the camera motion only.",
    ),
    "actions": (
        PROMPTS["actions"],
        "Which way does it move?",
        "Describe only the motion.",
        "What moves here?",
    ),
    "json": (
        PROMPTS["json"],
        "Answer in JSON.",
        "Give the facts of this video as JSON.",
    ),
}
STAGE2_QUESTIONS = (
    STAGE2_DEFAULT,
    "Add what is missing: {caption}",
    "Add what the first caption lacks.\n{caption}",
    "Improve this caption: {caption}",
    "Correct this caption: {caption}",
    "Elaborate on the caption and add more detail.\n{caption}",
    "Make this caption longer and more exact: {caption}",
)
# Prompts about nothing in particular: any unknown text is to be answered with a plain caption.
_LOOSE_WORDS = [
    "please",
    "now",
    "the",
    "a",
    "of",
    "this",
    "that",
    "and",
    "with",
    "in",
    "on",
    "video",
    "clip",
    "scene",
    "shot",
    "frame",
    "look",
    "tell",
    "say",
    "write",
    "explain",
    "report",
    "note",
    "focus",
    "carefully",
    "slowly",
    "people",
    "person",
    "animals",
    "weather",
    "light",
    "action",
    "story",
    "tone",
    "style",
    "formal",
    "simple",
    "like",
    "for",
    "who",
    "what",
    "when",
    "where",
    "how",
    "why",
    "be",
    "good",
    "use",
    "words",
    "every",
    "each",
    "second",
    "first",
    "last",
    "about",
    "mention",
    "answer",
    "should",
    "not",
    "only",
    "also",
    "if",
    "any",
    "then",
    "caption",
    "describe",
    "careful",
    "observer",
    "expert",
    "editor",
    "film",
    "you",
    "are",
    "your",
    "our",
    "task",
    "is",
    "to",
    "see",
    "watch",
]


def loose_question(rng: np.random.Generator) -> str:
    """A prompt-like row of words that asks for nothing that the model has a special answer to."""
    words = [str(word) for word in rng.choice(_LOOSE_WORDS, int(rng.integers(3, 16)))]
    return " ".join(words).capitalize() + str(rng.choice([".", "?", "!", ":", ""]))


def answer(kind: str, scene: Scene) -> str:
    """The true answer to a kind of prompt (a key of `QUESTIONS`)."""
    thing = scene.objects[0]
    place = f"over the {scene.background} {'by day' if scene.time == 'day' else 'at night'}"
    sky = "sun" if scene.time == "day" else "moon"
    match kind:
        case "default":
            return f"A {thing.colour} {thing.kind} {_MOVES[thing.direction]} {place}."
        case "short":
            return f"A {thing.colour} {thing.kind} {_MOVING[thing.direction]}."
        case "dense":
            return (
                f"A {thing.size} {thing.colour} {thing.kind} {_MOVES[thing.direction]} {place}. "
                f"The {sky} is in the sky. The camera stays still."
            )
        case "objects":
            return f"{thing.kind}, {sky}"
        case "camera":
            return "The camera stays still."
        case "actions":
            return f"The {thing.kind} {_MOVES[thing.direction]}."
        case "json":
            return json.dumps(
                {
                    "objects": [
                        {"kind": thing.kind, "colour": thing.colour, "motion": thing.direction}
                    ],
                    "background": scene.background,
                    "time": scene.time,
                }
            )
    raise ValueError(f"no kind of answer is called {kind!r}; known: {', '.join(QUESTIONS)}")


def conversation(scene: Scene, other: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """A prompt and its true answer for training.

    ``other`` is a second scene whose caption serves as a wrong stage-1 caption now and then.
    """
    draw = rng.random()
    if draw < 0.12:
        return loose_question(rng), answer("default", scene)
    if draw < 0.37:
        first = str(rng.choice(["default", "short", "objects", "actions", "dense"]))
        caption = answer(first, other if rng.random() < 0.2 else scene)
        template = stage2_template(str(rng.choice(STAGE2_QUESTIONS)))
        return render(template, {"caption": caption}), answer("dense", scene)
    kinds = ("default", "short", "dense", "objects", "camera", "actions", "json")
    kind = str(rng.choice(kinds, p=(0.30, 0.16, 0.22, 0.08, 0.02, 0.12, 0.10)))
    return str(rng.choice(QUESTIONS[kind])), answer(kind, scene)


FACTS = ("kind", "colour", "direction", "background", "time")


def marks(caption: str, scene: Scene) -> dict[str, bool]:
    """Which facts a caption names right.

    A fact counts where the caption names the true value and no other value of the same fact, so that
    a caption which lists everything earns nothing.
    """
    thing = scene.objects[0]
    words = re.findall(r"[a-z]+", caption.lower())
    return {
        "kind": _only(words, KINDS, thing.kind),
        "colour": _only(words, tuple(COLOURS), thing.colour),
        "direction": _only(words, DIRECTIONS, thing.direction, ignore_after=("camera", "stays")),
        "background": _only(words, BACKGROUNDS, scene.background),
        "time": _only(words, ("day", "night"), scene.time),
    }


def _only(
    words: Sequence[str], values: Sequence[str], truth: str, ignore_after: tuple[str, ...] = ()
) -> bool:
    """Whether ``truth`` is the one of ``values`` that is named, save after the given words."""
    span = len(ignore_after)
    named = {
        word
        for place, word in enumerate(words)
        if word in values and not (span and tuple(words[max(0, place - span) : place]) == ignore_after)
    }
    return named == {truth}
