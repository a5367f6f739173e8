"""How people ask: many wordings for each kind of prompt that the demo model follows.

A small grammar of our own; `wording` draws from it. Imports `prompts` only; called by
`demo.language`.
"""

from __future__ import annotations

import re

import numpy as np

from captionkit.prompts import PROMPTS, STAGE2_DEFAULT

_SLOTS: dict[str, tuple[str, ...]] = {
    "video": ("video", "clip", "scene", "footage", "film", "recording", "shot", "sequence", "window"),
    "this": ("this", "the", "this short", "the following", "the given"),
    "tell": (
        "describe",
        "tell me",
        "report",
        "write down",
        "explain",
        "state",
        "give me",
        "say",
        "note",
    ),
    "describe": ("describe", "caption", "explain", "narrate", "write about", "comment on", "annotate"),
    "list": ("list", "name", "enumerate", "give", "identify", "write down", "tell me", "tag"),
    "things": ("objects", "things", "items", "subjects", "objects and things"),
    "only": ("only", "just", "nothing but", "solely"),
    "seen": ("seen", "visible", "shown", "present", "on screen", "in view"),
    "brief": ("short", "brief", "concise", "one-line", "compact", "very short", "terse"),
    "briefly": (
        "briefly",
        "in a few words",
        "in one short sentence",
        "concisely",
        "in short",
        "in one line",
        "in under ten words",
        "in a nutshell",
        "in brief",
        "shortly",
    ),
    "long": (
        "detailed",
        "dense",
        "long",
        "exhaustive",
        "complete",
        "thorough",
        "rich",
        "full",
        "extensive",
    ),
    "fully": (
        "in detail",
        "in every detail",
        "in full detail",
        "at length",
        "thoroughly",
        "exhaustively",
        "as fully as you can",
        "in as much detail as possible",
        "completely",
        "with all details",
    ),
    "motion": (
        "motion",
        "movement",
        "movements",
        "action",
        "actions",
        "motion of the objects",
        "direction of motion",
        "activity",
    ),
    "place": (
        "background",
        "setting",
        "surroundings",
        "location",
        "place",
        "environment",
        "backdrop",
        "scenery",
        "landscape",
    ),
    "hour": ("time of day", "hour", "light", "daytime"),
    "camera": ("camera", "camera movement", "camera motion", "camera work", "pan of the camera"),
    "json": ("JSON", "json", "a JSON object", "JSON format", "valid JSON", "a JSON document"),
    "caption": ("caption", "description", "text", "summary", "annotation"),
    "fix": ("correct", "fix", "repair", "revise", "set right"),
    "wrong": ("mistakes", "errors", "wrong facts", "what is wrong", "false statements", "inaccuracies"),
    "add": ("add", "supply", "fill in", "include", "write down"),
    "missing": (
        "what is missing",
        "what it lacks",
        "missing details",
        "what was left out",
        "everything that is missing",
        "more detail",
        "the missing facts",
        "what it omits",
    ),
    "improve": (
        "improve",
        "expand",
        "extend",
        "enrich",
        "elaborate on",
        "complete",
        "refine",
        "rewrite and extend",
        "enhance",
    ),
}

TEMPLATES: dict[str, tuple[str, ...]] = {
    "default": (
        "{describe} {this} {video}",
        "what happens in {this} {video}?",
        "what do you see?",
        "what is {seen} in {this} {video}?",
        "write a caption for {this} {video}",
        "what is going on here?",
        "tell me what you see",
        "give a {caption} of {this} {video}",
        "what does {this} {video} show?",
        "caption",
        "what is this {video} about?",
        "write a {caption}",
        "what can be {seen} here?",
        "please {describe} what is {seen}",
        "generate a {caption} for {this} {video}",
        "what goes on in {this} {video}?",
        "what is happening?",
        "provide a {caption}",
    ),
    "short": (
        "{describe} {this} {video} {briefly}",
        "give a {brief} {caption}",
        "write a {brief} {caption}",
        "{briefly}: what is {seen}?",
        "{brief} {caption}, please",
        "summarise {this} {video} {briefly}",
        "sum up {this} {video}",
        "summarize {this} {video}",
        "a title for {this} {video}",
        "one short sentence",
        "headline for {this} {video}",
        "keep it {brief}: {describe} {this} {video}",
        "a {brief} {caption} of {this} {video}",
        "{tell} {briefly} what is {seen}",
    ),
    "dense": (
        "{describe} {this} {video} {fully}",
        "give a {long} {caption}",
        "write a {long} {caption} of {this} {video}",
        "{long} {caption}, please",
        "{tell} everything about {this} {video}",
        "leave nothing out: {describe} {this} {video}",
        "{describe} everything {seen} {fully}",
        "a {long} account of {this} {video}",
        "{describe} all you see, {fully}",
        "{describe} the {things}, the {place}, the {hour} and the {camera}",
        "give as many details as you can",
        "{describe} {things}, colours, sizes, {motion}, {place} and {camera}",
        "be {long}: what is {seen}?",
    ),
    "objects": (
        "{list} the {things}",
        "{list} the {things} in {this} {video}",
        "which {things} are {seen}?",
        "{list} {only} the {things}",
        "{list} all {things} that are {seen}",
        "what {things} are there?",
        "{things} {only}",
        "{list} every object",
        "which {things} does {this} {video} show?",
        "{only} the {things}, please",
        "make a list of the {things}",
        "{list} each object {seen} and nothing else",
        "what are the {things} in {this} {video}?",
        "{things}?",
    ),
    "motion": (
        "{tell} {only} the {motion}",
        "what moves?",
        "what moves in {this} {video}?",
        "{describe} the {motion}",
        "how do the {things} move?",
        "which way do the {things} move?",
        "in which direction do they move?",
        "{motion} {only}",
        "{tell} how each of the {things} moves",
        "{describe} {only} how things move",
        "{only} the {motion}, please",
        "which way does it go?",
        "what do the {things} do?",
        "{tell} the {motion} in {this} {video} and nothing else",
        "where do the {things} go?",
        "{motion}?",
        "how does everything move?",
    ),
    "background": (
        "{tell} {only} the {place}",
        "{describe} the {place}",
        "where does {this} {video} take place?",
        "where was {this} {video} recorded?",
        "where and when was this filmed?",
        "{place} {only}",
        "what is the {place}?",
        "what {place} is {seen}?",
        "{describe} the {place} and the {hour}",
        "{only} the {place}, please",
        "where are we?",
        "where is this?",
        "what time of day is it and where?",
        "{tell} the {place}, nothing else",
        "{place}?",
        "what is the {hour}?",
        "where is it and when?",
    ),
    "camera": (
        "{tell} how the camera moves",
        "how does the camera move?",
        "{describe} the {camera}",
        "what does the camera do?",
        "{camera} {only}",
        "{only} the {camera}, please",
        "which way does the camera pan?",
        "how is the camera moved?",
        "{camera}?",
        "is it a pan or a static shot?",
        "{tell} {only} the {camera}",
        "what is the {camera} in {this} {video}?",
        "where does the camera go?",
    ),
    "json": (
        "{describe} {this} {video} as {json}",
        "answer in {json}",
        "give the facts as {json}",
        "{json} only",
        "return {json}",
        "output {json}",
        "{json}, please",
        "{tell} what is {seen} as {json}",
        "write {json} with {things}, {place} and {hour}",
        "report {this} {video} in {json}",
        "{list} the {things} as {json}",
        "put what you see into {json}",
    ),
    "count": (
        "how many {things} are there?",
        "how many {things} are {seen}?",
        "count the {things}",
        "how many {things} does {this} {video} show?",
        "what is the number of {things}?",
        "count the {things} in {this} {video}",
        "{tell} the number of {things}",
        "{tell} how many {things} there are",
        "how many?",
        "number of {things}?",
    ),
}
OF_LIBRARY = {
    "default": ("default",),
    "short": ("short",),
    "dense": ("dense", "av", "av-surveillance"),
    "objects": ("objects",),
    "motion": ("actions",),
    "background": ("background",),
    "camera": ("camera",),
    "json": ("json",),
}
# The caption comes where {caption} stands.
STAGE2_TEMPLATES: dict[str, tuple[str, ...]] = {
    "add": (
        "{add} {missing}: <caption>",
        "{add} {missing}.\n<caption>",
        "{improve} this {caption}: <caption>",
        "{improve} the following {caption}.\n<caption>",
        "make this {caption} longer and more exact: <caption>",
        "here is a first {caption}: <caption>\n{add} {missing}",
        "{caption}: <caption>\n{improve} it",
        "<caption>\n{add} {missing}",
        "this {caption} is too short, {add} {missing}: <caption>",
        "watch again, keep what is right and {add} {missing}: <caption>",
        "{improve} this: <caption>",
    ),
    "correct": (
        "{fix} this {caption}: <caption>",
        "{fix} the {wrong} in this {caption}: <caption>",
        "{fix} the following {caption}.\n<caption>",
        "this {caption} has {wrong}, {fix} it: <caption>",
        "{caption}: <caption>\n{fix} the {wrong}",
        "<caption>\n{fix} it",
        "{fix} {wrong}: <caption>",
        "there may be {wrong} in this {caption}, {fix} them: <caption>",
        "{fix} this: <caption>",
        "compare this {caption} with the {video} and {fix} the {wrong}: <caption>",
    ),
}
_BEFORE = (
    "you are a careful observer",
    "you are a helpful assistant",
    "watch closely",
    "look at {this} {video}",
    "here is a {video}",
    "please",
    "you see a {video}",
    "i have a question",
    "now",
    "watch the {video}",
    "you are an expert annotator of {video}s",
    "as a film editor",
    "hello",
)
_AFTER = (
    "be precise",
    "do not guess",
    "thank you",
    "answer in English",
    "use plain words",
    "please",
    "take your time",
    "stick to what you see",
    "no introduction",
    "be honest",
    "use simple language",
    "leave everything else out",
    "nothing else",
    "do not add anything else",
)
_LOOSE = re.findall(
    r"\w+",
    """
    please now the a of this that and with in on look careful slowly people person animals weather
    story tone style formal simple like for who when why be good use words every second first last
    about mention should not also if any then observer expert editor you are your our task is to
    see watch blog customer child poem funny serious data label training robot street view
    audience reader one of my was been may can could would think believe know music sound voice
    news sport
    """,
)


def fill(template: str, rng: np.random.Generator) -> str:
    """A template with its slots drawn; ``<caption>`` becomes ``{caption}``."""
    text = re.sub(r"\{(\w+)\}", lambda slot: str(rng.choice(_SLOTS[slot.group(1)])), template)
    return text.replace("<caption>", "{caption}")


def wording(kind: str, rng: np.random.Generator) -> str:
    """A prompt of one of the kinds of `TEMPLATES`, as somebody may write it."""
    own = OF_LIBRARY.get(kind, ())
    if own and rng.random() < 0.2:
        return PROMPTS[str(rng.choice(own))]
    return dress(fill(str(rng.choice(TEMPLATES[kind])), rng), rng)


def stage2_wording(kind: str, rng: np.random.Generator) -> str:
    """A stage-2 text (``add`` or ``correct``), with or without ``{caption}``."""
    if kind == "add" and rng.random() < 0.25:
        return STAGE2_DEFAULT
    text = fill(str(rng.choice(STAGE2_TEMPLATES[kind])), rng)
    text = text[0].upper() + text[1:] if rng.random() < 0.7 else text
    return text.removesuffix(": {caption}") if rng.random() < 0.15 else text


def loose(rng: np.random.Generator) -> str:
    """A prompt-like row of words that asks for nothing that has an answer of its own."""
    return dress(" ".join(str(word) for word in rng.choice(_LOOSE, int(rng.integers(2, 16)))), rng)


def dress(text: str, rng: np.random.Generator) -> str:
    """The same request with other capitals and marks, and polite words around it."""
    question = text.endswith("?")
    parts = [text.rstrip("?")]
    if rng.random() < 0.2:
        parts.insert(0, fill(str(rng.choice(_BEFORE)), rng))
        question = question and bool(rng.random() < 0.5)
    if rng.random() < 0.2:
        parts.append(str(rng.choice(_AFTER)))
    end = "?" if question and rng.random() < 0.9 else str(rng.choice([".", ".", "", "!", ":"]))
    joined = str(rng.choice([". ", ". ", ", ", ": ", "\n"])).join(parts) + end
    draw = rng.random()
    if draw < 0.15:
        return joined
    if draw < 0.18:
        return joined.upper()
    return re.sub(
        r"(^|[.?!]\s+|\n)([a-z])", lambda start: start.group(1) + start.group(2).upper(), joined
    )
