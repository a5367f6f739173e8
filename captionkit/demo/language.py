"""The true answer to each kind of prompt: what the demo model learns to say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from captionkit.demo import wordings
from captionkit.demo.scenes import (
    BACKGROUNDS,
    DIRECTIONS,
    TIMES,
    Scene,
    SceneObject,
)
from captionkit.demo.sprites import COLOURS, KINDS
from captionkit.prompts import render, stage2_template

PLACES = {
    "sea": "at sea",
    "river": "on the river",
    "field": "in a field",
    "city": "in the city",
    "desert": "in the desert",
    "snow": "in the snow",
}
HOURS = {"day": "by day", "dusk": "at dusk", "night": "at night"}
NUMBERS = ("no objects", "one object", "two objects", "three objects")
KINDS_OF_PROMPT = (*wordings.TEMPLATES, "yesno")


def doing(direction: str | None, event: str | None, other: str | None = None) -> str:
    """Say what a thing does, as in "moves left and stops"; an event alone without a direction.

    ``other`` is the kind of the overtaken thing.
    """
    if direction == "still":
        return "stays still"
    moves = f"moves {direction}" if direction else ""
    ends = {"stops": "stops", "leaves": "leaves", "turns": "turns around", "appears": "appears"}
    happens = ends.get(event or "", f"overtakes the {other}" if event else "")
    return " and ".join(filter(None, (happens, moves) if event == "appears" else (moves, happens)))


def verb(thing: SceneObject, scene: Scene) -> str:
    """Say what a thing of a scene does."""
    other = None if thing.other is None else scene.objects[thing.other].kind
    return doing(thing.direction, thing.event, other)


def _named(thing: SceneObject, article: str = "A ") -> str:
    return f"{article}{thing.colour} {thing.kind}"


def _camera(scene: Scene) -> str:
    return "The camera stays still." if scene.camera == "still" else f"The camera pans {scene.camera}."


def _place(scene: Scene) -> str:
    return f"{PLACES[scene.background]} {HOURS[scene.time]}"


def _default(scene: Scene) -> str:
    place = _place(scene)
    sentences = [f"{_named(thing)} {verb(thing, scene)}." for thing in scene.objects]
    return f"{place[0].upper()}{place[1:]}, a{' '.join(sentences)[1:]}"


def _short(scene: Scene) -> str:
    return ", ".join(_named(t, "A " if i == 0 else "a ") for i, t in enumerate(scene.objects)) + "."


def _dense(scene: Scene) -> str:
    place = _place(scene)
    sky = "moon" if scene.time == "night" else "sun"
    count = len(scene.objects)
    sentences = [f"A {t.size} {t.colour} {t.kind} {verb(t, scene)}." for t in scene.objects]
    there = "is" if count == 1 else "are"
    opening = f"{place[0].upper()}{place[1:]}, there {there} {NUMBERS[count]}."
    return " ".join([opening, *sentences, f"The {sky} is in the sky.", _camera(scene)])


def _json(scene: Scene) -> str:
    things = [
        {
            "kind": thing.kind,
            "colour": thing.colour,
            "motion": thing.direction,
            **({"event": thing.event} if thing.event else {}),
        }
        for thing in scene.objects
    ]
    rest = {"background": scene.background, "time": scene.time, "camera": scene.camera}
    return json.dumps({"objects": things, **rest})


_ANSWERS: dict[str, Callable[[Scene], str]] = {
    "default": _default,
    "short": _short,
    "dense": _dense,
    "objects": lambda scene: ", ".join(thing.kind for thing in scene.objects),
    "motion": lambda scene: " ".join(f"{_named(t, 'The ')} {verb(t, scene)}." for t in scene.objects),
    "background": lambda scene: f"The scene is {_place(scene)}.",
    "camera": _camera,
    "json": _json,
    "count": lambda scene: NUMBERS[len(scene.objects)].capitalize() + ".",
}


def answer(kind: str, scene: Scene) -> str:
    """Give the true answer to a kind of prompt.

    Raises
    ------
    ValueError
        If there is no such kind; the message lists the known ones.
    """
    if kind not in _ANSWERS:
        raise ValueError(f"no kind of answer is called {kind!r}; known: {', '.join(_ANSWERS)}")
    return _ANSWERS[kind](scene)


def yes_no(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """Draw a question about a scene with its answer, "Yes." or "No.", equally often."""
    wanted = bool(rng.integers(2))
    pairs = {(thing.colour, thing.kind) for thing in scene.objects}
    forms: tuple[str, ...]
    subject = str(rng.choice(["kind", "kind", "pair", "place", "time", "camera", "way", "count"]))

    def pick(values: tuple[str, ...], true: set[str]) -> str:
        return str(rng.choice(sorted(true if wanted else set(values) - true)))

    match subject:
        case "kind":
            kind = pick(KINDS, {kind for _, kind in pairs})
            forms = (
                "is there a {0}?",
                "do you see a {0}?",
                "is a {0} visible?",
                "can you see a {0}?",
                "does the video show a {0}?",
                "is there any {0} in this video?",
                "does a {0} appear?",
                "any {0} here?",
                "is there a {0}, yes or no?",
                "would you say that a {0} is shown?",
                "can a {0} be seen?",
                "have we got a {0} in the clip?",
                "may there be a {0}?",
                "do we find a {0} here?",
                "is a {0} anywhere in it?",
                "is a {0} to be found?",
                "could a {0} be in the scene?",
                "has it a {0} in it?",
            )
            question = str(rng.choice(forms)).format(kind)
        case "pair":
            # A wrong pair differs from a seen one in colour or in kind, so that both must be checked.
            seen = scene.objects[int(rng.integers(len(scene.objects)))]
            colour, kind = seen.colour, seen.kind
            while not wanted and (colour, kind) in pairs:
                if rng.random() < 0.6:
                    colour = str(rng.choice(list(COLOURS)))
                else:
                    kind = str(rng.choice(KINDS))
            forms = (
                "is there a {0} {1}?",
                "do you see a {0} {1}?",
                "is a {0} {1} visible?",
                "does the clip show a {0} {1}?",
                "could it be that a {0} {1} is seen?",
                "do you think there is a {0} {1}?",
                "may a {0} {1} be seen?",
                "would you say that it shows a {0} {1}?",
                "is the {1} {0}?",
            )
            if not wanted and kind not in {each for _, each in pairs}:
                forms = forms[:-1]
            question = str(rng.choice(forms)).format(colour, kind)
        case "place":
            place = PLACES[pick(BACKGROUNDS, {scene.background})]
            forms = ("is it {0}?", "is this {0}?", "are we {0}?", "does this take place {0}?")
            question = str(rng.choice(forms)).format(place)
        case "time":
            time = pick(TIMES, {scene.time})
            question = str(rng.choice(["is it {0}?", "is it {0} here?", "is this filmed {1}?"]))
            question = question.format(time if time != "day" else "day", HOURS[time])
        case "camera":
            moves = scene.camera != "still"
            forms = ("does the camera move?", "is the camera moving?", "does the camera pan?")
            if moves != wanted:
                forms = ("is the camera still?", "does the camera stay still?", "is the camera fixed?")
            question = str(rng.choice(forms))
        case "way":
            thing = scene.objects[int(rng.integers(len(scene.objects)))]
            true: set[str] = {each.direction for each in scene.objects if each.kind == thing.kind}
            if set(DIRECTIONS[:4]) <= true | {"still"}:
                true = {"left", "right"}
            way = pick(DIRECTIONS, true)
            moving = "staying still" if way == "still" else f"moving {way}"
            forms = ("is the {0} {1}?", "is a {0} {1}?", "do you see a {0} {1}?")
            question = str(rng.choice(forms)).format(thing.kind, moving)
        case _:
            count = len(scene.objects)
            number = count if wanted else int(rng.choice([n for n in (1, 2, 3) if n != count]))
            forms = ("{1} there {0}?", "{1} {0} visible?", "{1} there exactly {0}?")
            question = str(rng.choice(forms)).format(NUMBERS[number], "is" if number == 1 else "are")
    return wordings.dress(question, rng), "Yes." if wanted else "No."


def altered(scene: Scene, rng: np.random.Generator) -> Scene:
    """Turn one to three facts of a scene wrong, for captions that need correction."""
    wrong = scene
    while _default(wrong) == _default(scene):
        for _ in range(int(rng.integers(1, 4))):
            wrong = _with_a_wrong_fact(wrong, rng)
    return wrong


def planted(scene: Scene, rng: np.random.Generator) -> Scene:
    """Turn one fact of a scene wrong, so that its caption says something false."""
    while True:
        wrong = _with_a_wrong_fact(scene, rng)
        pairs = list(zip(scene.objects, wrong.objects, strict=False))
        # A thing that turns moves both ways, one that stops stays still: neither would be false.
        kind_of_true = any(
            said != thing and said.direction in (thing.direction, thing.direction_at(scene.duration))
            for thing, said in pairs
            if (said.kind, said.colour) == (thing.kind, thing.colour)
        )
        fewer = len(wrong.objects) < len(scene.objects)
        if not (kind_of_true or fewer or _default(wrong) == _default(scene)):
            return wrong


def _with_a_wrong_fact(scene: Scene, rng: np.random.Generator) -> Scene:
    fact = str(rng.choice(["kind", "colour", "colour", "direction", "place", "time", "less", "more"]))
    things = list(scene.objects)
    index = int(rng.integers(len(things)))
    thing = things[index]
    match fact:
        case "kind":
            things[index] = replace(thing, kind=str(rng.choice(KINDS)))
        case "colour":
            things[index] = replace(thing, colour=str(rng.choice(list(COLOURS))))
        case "direction":
            way = DIRECTIONS[int(rng.integers(5))]
            things[index] = replace(thing, direction=way, event=None, other=None)
        case "place":
            return replace(scene, background=str(rng.choice(BACKGROUNDS)))
        case "time":
            return replace(scene, time=str(rng.choice(TIMES)))
        case "less" if len(things) > 1 and all(each.other is None for each in things):
            del things[index]
        case "more" if len(things) < 3:
            way = DIRECTIONS[int(rng.integers(5))]
            made = replace(thing, kind=str(rng.choice(KINDS)), colour=str(rng.choice(list(COLOURS))))
            things.append(replace(made, direction=way, event=None, other=None))
    return replace(scene, objects=tuple(things))


def conversation(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """Draw a prompt for training, with its true answer."""
    draw = rng.random()
    if draw < 0.06:
        return wordings.loose(rng), _default(scene)
    if draw < 0.22:
        return yes_no(scene, rng)
    if draw < 0.46:
        kind = "add" if rng.random() < 0.5 else "correct"
        form = str(rng.choice(["default", "default", "short", "dense", "motion"]))
        given = altered(scene, rng) if rng.random() < (0.8 if kind == "correct" else 0.3) else scene
        template = stage2_template(wordings.stage2_wording(kind, rng))
        asked = render(template, {"caption": answer(form, given)})
        return asked, answer("dense" if kind == "add" else form, scene)
    kinds = tuple(wordings.TEMPLATES)
    shares = (0.22, 0.12, 0.22, 0.07, 0.14, 0.05, 0.05, 0.08, 0.05)
    kind = str(rng.choice(kinds, p=shares))
    return wordings.wording(kind, rng), answer(kind, scene)
