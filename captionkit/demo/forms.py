"""The form of an answer for each kind of prompt: whether the demo model obeyed."""

from __future__ import annotations

import json
import re

from captionkit.demo.language import HOURS, NUMBERS, PLACES
from captionkit.demo.sprites import COLOURS, KINDS

_KIND = f"(?:{'|'.join(KINDS)})"
_THING = f"(?:{'|'.join(COLOURS)}) {_KIND}"
_VERB = (
    r"(?:stays still|appears and moves (?:left|right)|moves (?:left|right|up|down)"
    rf"(?: and (?:leaves|stops|turns around|overtakes the {_KIND}))?)"
)
_PLACE = f"(?:{'|'.join(PLACES.values())}) (?:{'|'.join(HOURS.values())})"
_CAMERA = r"The camera (?:stays still|pans left|pans right)\."
_SIZED = rf"A (?:small|large) {_THING} {_VERB}\."

_FORMS = {
    "default": rf"{_PLACE}, a {_THING} {_VERB}\.(?: A {_THING} {_VERB}\.)*",
    "short": rf"a {_THING}(?:, a {_THING})*\.",
    "dense": rf"{_PLACE}, there (?:is|are) (?:{'|'.join(NUMBERS)})\.(?: {_SIZED})+ The (?:sun|moon) is "
    rf"in the sky\. {_CAMERA}",
    "objects": rf"{_KIND}(?:, {_KIND})*",
    "motion": rf"The {_THING} {_VERB}\.(?: The {_THING} {_VERB}\.)*",
    "background": rf"The scene is {_PLACE}\.",
    "camera": _CAMERA,
    "count": rf"(?:{'|'.join(NUMBERS)})\.",
    "yesno": r"(?:Yes|No)\.",
}
# Wordings for evaluation alone: the grammar of `wordings` cannot make them.
NEVER_TAUGHT: dict[str, tuple[str, ...]] = {
    "default": (
        "Could you describe the video for me?",
        "I would like to know what happens in this clip.",
        "Caption the following scene for our archive.",
        "In your own words, what do you see in the footage?",
    ),
    "short": (
        "In a single short sentence, what is this clip?",
        "Make it brief: one sentence about the video.",
        "Just a very brief caption for this recording.",
        "Sum the clip up in one line.",
    ),
    "dense": (
        "I need a really detailed description of this clip.",
        "Describe absolutely everything in as much detail as possible.",
        "A long, exhaustive caption with every detail, please.",
        "Go into full detail about the video.",
    ),
    "objects": (
        "Which objects can you find in the clip?",
        "Only name the objects you can see.",
        "Please list every thing that is visible as objects.",
        "Objects in the video, as a list.",
    ),
    "motion": (
        "Only describe the motion you observe.",
        "How are the objects moving in the video?",
        "In what direction does each thing move?",
        "Focus on the movement and nothing else.",
    ),
    "background": (
        "Where does the action take place? Background only.",
        "Only describe the background you can see.",
        "What kind of place is the setting?",
        "Tell me about the location and time of day only.",
    ),
    "camera": (
        "Is the camera panning or how does it move?",
        "Which camera movement is used?",
        "Only describe what the camera does.",
        "Tell me about the camera motion in this recording.",
    ),
    "json": (
        "Please format your answer as JSON.",
        "Give me JSON describing this clip.",
        "I want the result as a JSON object.",
        "Describe the clip, JSON format please.",
    ),
    "count": (
        "How many objects can you count?",
        "Please count all the objects for me.",
        "Tell me the total number of objects.",
        "How many different things are in the picture?",
    ),
    "yesno": (
        "Could there be a dog in it?",
        "Is a balloon to be seen anywhere?",
        "Do we see any bus here?",
        "Would you say there is a red car?",
    ),
}


def has_form(kind: str, answer: str) -> bool:
    """Whether an answer has the form that a kind of prompt asks for, true or not."""
    if kind == "json":
        try:
            parsed = json.loads(answer)
        except ValueError:
            return False
        return isinstance(parsed, dict) and {"objects", "background", "time"} <= parsed.keys()
    return re.fullmatch(_FORMS[kind], answer, re.IGNORECASE) is not None
