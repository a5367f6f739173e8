"""How people ask: a small grammar of wordings for each kind of prompt that the demo model follows."""

from __future__ import annotations

import re

import numpy as np

from captionkit.demo import words
from captionkit.prompts import PROMPTS, STAGE2_DEFAULT

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
        "what happens?",
        "how would you {describe} {this} {video}?",
        "what is to be {seen} in {this} {video}?",
        "i wonder what goes on in {this} {video}",
        "caption {this} {video}",
        "{describe} {this} {video} in plain words",
        "what would you say happens here?",
        "please caption {this} {video} for the catalogue",
        "say what happens in {this} {video}",
        "tell us what {this} {video} shows",
        "i want to know what is {seen}",
        "a {caption} of {this} {video} for a search index",
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
        "i need a {brief} {caption}",
        "one sentence {only} about {this} {video}",
        "{only} one line about what is {seen}",
        "sum it up {briefly}",
        "as few words as you can: what is {seen}?",
        "one sentence is enough for {this} {video}",
        "make the {caption} {brief}",
        "{this} {video} {briefly}, please",
        "a single sentence: what happens?",
        "what is {this} {video}, {briefly}?",
        "only a {brief} {caption}, please",
        "no more than a sentence about {this} {video}",
        "summarise what happens in one line",
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
        "i want a {long} {caption}",
        "every detail of {this} {video}",
        "all details, {fully}",
        "spare no detail",
        "i need to know everything about {this} {video}",
        "go through {this} {video} {fully}",
        "a {caption} with all details, please",
        "a very {long} {caption} is needed",
        "{describe} each and every thing {fully}",
        "i need a {long} and exact {caption} of {this} {video}",
        "go into every detail",
        "a {long} {caption} that leaves nothing out",
        "{describe} it all, with as much detail as there is",
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
        "a list of the {things}",
        "{only} {list} {things}",
        "{tell} {only} which {things} are {seen}",
        "the {things} {seen}, listed",
        "{list} {things} {only}",
        "find the {things} in {this} {video}",
        "what {things} can you see?",
        "which {things} do you see?",
        "which {things} can be found here?",
        "{list} whatever {things} you can see",
        "the {things} in {this} {video}, one after another",
        "please {list} the visible {things}",
        "{list} what is {seen} as {things}",
        "{only} {list} what {things} you see",
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
        "{only} {tell} how the {things} move",
        "{only} {describe} the {motion}",
        "what is the {motion}?",
        "{motion} and nothing more",
        "look at the {motion} alone",
        "in what way do the {things} move?",
        "how is each of the {things} moving?",
        "what {motion} do you see?",
        "pay attention to the {motion} {only}",
        "which direction does each of the {things} take?",
        "{only} the {motion} that you see",
        "what direction do the {things} move in?",
        "attend to {motion} and to nothing else",
        "{describe} what {motion} there is",
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
        "in which {place} is the action?",
        "what time of day is it and where?",
        "{tell} the {place}, nothing else",
        "{place}?",
        "what is the {hour}?",
        "where is this, and when?",
        "{only} {tell} where it is",
        "{only} {describe} where we are",
        "{tell} {only} where and when it is",
        "which {place} is it?",
        "at what {hour} and in what {place}?",
        "what sort of {place} is {seen}?",
        "the {place} alone",
        "say where this happens",
        "where does it all happen? the {place} alone",
        "{tell} the {place} and the {hour} and no more",
        "what {place} do you see?",
        "what kind of {place} are we in?",
        "{only} {describe} the {place} behind the {things}",
        "{tell} in which {place} and at what {hour} this is",
        "where does {this} {video} happen? {place} {only}",
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
        "{only} {tell} what happens to the {camera}",
        "{only} {describe} the {camera}",
        "which {camera} is there?",
        "does it pan, and which way?",
        "which way is the camera moved?",
        "is the camera moving, and how?",
        "what {camera} was used?",
        "{tell} the {camera} in {this} {video}",
        "how does the camera behave?",
        "does the camera pan, or how does it move?",
        "what kind of {camera} is this?",
        "{only} {tell} what the camera is doing",
        "{describe} {only} how the camera is moved",
        "tell me what the camera does in {this} {video}",
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
        "i need {json}",
        "i would like {json} of {this} {video}",
        "use {json} for the answer",
        "{only} {json}",
        "format it as {json}",
        "your answer must be {json}",
        "reply with {json}",
        "{json} of {this} {video}",
        "make it {json}",
        "please answer in {json}",
        "the answer as {json}, please",
        "i want {json}",
        "{describe} what is {seen}, as {json} please",
        "give {json} for {this} {video}",
        "use the {json} format",
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
        "how many {things} do you see?",
        "{only} {tell} how many {things} are {seen}",
        "what is the total of {things}?",
        "how many {things} do you find?",
        "give the count of {things}",
        "please count every one of the {things}",
        "{tell} the total of {things}",
        "how many {things} are in {this} {video}?",
        "how many of the {things} can be counted?",
        "what number of {things} is {seen}?",
        "how many different {things} does it show?",
        "count up the {things}, please",
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
# Prompts that ask for a ready schema of `captionkit.structured` by its contents.
READY_TEMPLATES: dict[str, tuple[str, ...]] = {
    "tags": (
        "tag {this} {video}, as {json}", "{tell} the tags of {this} {video} as {json}",
        "tags as {json}", "give tags for {this} {video} in {json}", "{json} with tags",
        "which tags fit {this} {video}? answer in {json}",
    ),
    "shot": (
        "{tell} shot, subject, action and setting as {json}",
        "{json} with the shot, its subject, the action and the setting",
        "what kind of shot is it? {json} with subject, action and setting",
        "shot size, subject, action and setting of {this} {video}, as {json}",
    ),
    "events": (
        "{list} the events with start and end in seconds, as {json}",
        "what happens when? {json} with start, end and text",
        "{tell} every event with its start, end and text",
        "events of {this} {video} with their times as {json}",
        "a timeline of {this} {video} in {json}", "{list} all events: start, end, text",
    ),
    "camera": (
        "{tell} the {camera} as {json}", "{json} with the {camera}", "{camera} in {json}",
        "which {camera} is it? answer in {json}", "{only} the {camera}, as {json}",
    ),
}  # fmt: skip
# The caption takes the place of <caption>.
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


def fill(template: str, rng: np.random.Generator) -> str:
    """Fill a template's slots at random; ``<caption>`` becomes ``{caption}``."""
    text = re.sub(r"\{(\w+)\}", lambda slot: str(rng.choice(words.SLOTS[slot.group(1)])), template)
    return text.replace("<caption>", "{caption}")


def wording(kind: str, rng: np.random.Generator) -> str:
    """Draw a prompt of a kind of `TEMPLATES`, as somebody may write it."""
    own = OF_LIBRARY.get(kind, ())
    if own and rng.random() < 0.2:
        return PROMPTS[str(rng.choice(own))]
    return dress(fill(str(rng.choice(TEMPLATES[kind])), rng), rng)


def ready_wording(name: str, rng: np.random.Generator) -> str:
    """Draw a prompt that asks for a ready schema of `READY_TEMPLATES`."""
    return dress(fill(str(rng.choice(READY_TEMPLATES[name])), rng), rng)


def stage2_wording(kind: str, rng: np.random.Generator) -> str:
    """Draw a stage-2 text (``add`` or ``correct``), with or without ``{caption}``."""
    if kind == "add" and rng.random() < 0.25:
        return STAGE2_DEFAULT
    text = fill(str(rng.choice(STAGE2_TEMPLATES[kind])), rng)
    text = text[0].upper() + text[1:] if rng.random() < 0.7 else text
    return text.removesuffix(": {caption}") if rng.random() < 0.15 else text


def loose(rng: np.random.Generator) -> str:
    """Draw words that look like a prompt and ask for nothing in particular."""
    return dress(" ".join(str(word) for word in rng.choice(words.LOOSE, int(rng.integers(2, 16)))), rng)


def dress(text: str, rng: np.random.Generator) -> str:
    """Vary a request's capitals and punctuation, and put polite words around it."""
    question = text.endswith("?")
    parts = [text.rstrip("?")]
    if not question and rng.random() < 0.08:
        parts = [f"{rng.choice(words.ASKING)} {parts[0]}"]
    if rng.random() < 0.2:
        parts.insert(0, fill(str(rng.choice(words.BEFORE)), rng))
        question = question and bool(rng.random() < 0.5)
    if rng.random() < 0.2:
        parts.append(str(rng.choice(words.AFTER)))
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
