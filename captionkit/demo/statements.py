"""Statements about a demo scene, true, or false in one fact: what a model is asked to confirm.

A `Statement` says some facts and leaves out all others. A false one is a true one with one fact
changed, so that its words alone do not give it away.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from captionkit.demo.language import HOURS, NUMBERS, PLACES, doing
from captionkit.demo.scenes import BACKGROUNDS, CAMERAS, DIRECTIONS, EVENTS, SIZES, TIMES, Scene
from captionkit.demo.scenes import SceneObject as Thing
from captionkit.demo.sprites import COLOURS, KINDS

_ATTEMPTS = 40
# Seconds by which a true statement may miss a moment, and a false one must.
_NEAR, _FAR = 0.75, 2.5
# Least time between two events whose order is stated.
_APART = 1.5


@dataclass(frozen=True)
class Said:
    """What a statement says of one thing; None for what it does not say.

    ``other`` is the kind of the overtaken thing, ``seconds`` when the event happens.
    """

    kind: str | None = None
    colour: str | None = None
    size: str | None = None
    direction: str | None = None
    event: str | None = None
    other: str | None = None
    seconds: int | None = None


@dataclass(frozen=True)
class Statement:
    """Facts that are said together, and the template that says them.

    ``ordered`` says that the events of ``things`` happen in the order of ``things``.
    """

    template: str
    things: tuple[Said, ...] = ()
    background: str | None = None
    time: str | None = None
    sky: str | None = None
    camera: str | None = None
    count: int | None = None
    ordered: bool = False

    @property
    def text(self) -> str:
        """The statement in words."""
        words: dict[str, Any] = {}
        for number, thing in enumerate(self.things):
            for each in fields(thing):
                words[f"{each.name}{number}"] = getattr(thing, each.name)
            words[f"verb{number}"] = doing(thing.direction, thing.event, thing.other)
        if self.camera:
            words["pan"] = "stays still" if self.camera == "still" else f"pans {self.camera}"
        if self.count:
            words |= {"number": NUMBERS[self.count], "be": "is" if self.count == 1 else "are"}
        words |= {"place": PLACES.get(self.background or ""), "hour": HOURS.get(self.time or "")}
        words |= {"background": self.background, "time": self.time, "sky": self.sky}
        text = self.template.format(**words)
        # Templates of whole sentences begin with a blank: their first letter becomes a capital.
        return text[1].upper() + text[2:] if text.startswith(" ") else text

    def facts(self) -> list[tuple[int | None, str]]:
        """List what is said: index of the thing, or None for the scene, and the fact's name."""
        names = ("background", "time", "sky", "camera", "count", "ordered")
        found: list[tuple[int | None, str]] = [(None, name) for name in names if getattr(self, name)]
        for index, thing in enumerate(self.things):
            found += [(index, each.name) for each in fields(thing) if getattr(thing, each.name)]
        return found


def holds(statement: Statement, scene: Scene, *, kindly: bool = False) -> bool:
    """Whether a statement is true of a scene.

    ``kindly`` also accepts what may be taken for true: a thing that turns moves both ways, one that
    stops stays still.
    """
    true = {
        "background": scene.background,
        "time": scene.time,
        "sky": "moon" if scene.time == "night" else "sun",
        "camera": scene.camera,
        "count": len(scene.objects),
    }
    if any(getattr(statement, name) not in (None, value) for name, value in true.items()):
        return False
    for chosen in itertools.permutations(scene.objects, len(statement.things)):
        pairs = zip(statement.things, chosen, strict=True)
        if all(_is_said_of(said, thing, scene, kindly) for said, thing in pairs):
            moments = [thing.moment for thing in chosen]
            if not statement.ordered or moments == sorted(moments):
                return True
    return False


def _is_said_of(said: Said, thing: Thing, scene: Scene, kindly: bool) -> bool:
    ways: set[str] = {thing.direction}
    if kindly and said.event is None:
        ways |= {thing.direction_at(scene.duration)}
    near = _FAR if kindly else _NEAR
    return (
        said.kind in (None, thing.kind)
        and said.colour in (None, thing.colour)
        and said.size in (None, thing.size)
        and (said.direction is None or said.direction in ways)
        and said.event in (None, thing.event)
        and (said.other is None or _overtaken(thing, scene) == said.other)
        and (said.seconds is None or abs(said.seconds - thing.moment) < near)
    )


def _overtaken(thing: Thing, scene: Scene) -> str | None:
    return None if thing.other is None else scene.objects[thing.other].kind


def _say(thing: Thing, scene: Scene, *names: str) -> Said:
    """Say facts of a thing truly; an event comes with the kind of the overtaken thing."""
    values = {name: getattr(thing, name) for name in names}
    if "event" in names:
        values["other"] = _overtaken(thing, scene)
    return Said(**values)


_Draw = Callable[[Scene, Thing, np.random.Generator], Statement | None]
_WHOLE = ("kind", "colour", "direction", "event")


def _of_thing(names: tuple[str, ...], *templates: str) -> _Draw:
    return lambda scene, thing, rng: Statement(
        str(rng.choice(templates)), (_say(thing, scene, *names),)
    )


def _of_scene(names: tuple[str, ...], *templates: str) -> _Draw:
    return lambda scene, thing, rng: Statement(
        str(rng.choice(templates)), **{name: getattr(scene, name) for name in names}
    )


def _sky(scene: Scene, _thing: Thing, _rng: np.random.Generator) -> Statement:
    return Statement(" the {sky} is in the sky.", sky="moon" if scene.time == "night" else "sun")


def _count(scene: Scene, _thing: Thing, rng: np.random.Generator) -> Statement:
    forms = (" there {be} {number}.", " {number}.", "{number}", "there {be} {number}")
    if rng.random() < 0.5:
        return Statement(str(rng.choice(forms)), count=len(scene.objects))
    place = " {place} {hour}, there {be} {number}."
    return Statement(place, background=scene.background, time=scene.time, count=len(scene.objects))


def _sentence(scene: Scene, thing: Thing, rng: np.random.Generator) -> Statement:
    forms = (
        " {place} {hour}, a {colour0} {kind0} {verb0}.",
        "{place} {hour}, a {colour0} {kind0} {verb0}",
        " a {colour0} {kind0} {verb0} {place} {hour}.",
    )
    said = (_say(thing, scene, *_WHOLE),)
    return Statement(str(rng.choice(forms)), said, background=scene.background, time=scene.time)


def _two(scene: Scene, thing: Thing, rng: np.random.Generator) -> Statement | None:
    others = [each for each in scene.objects if each is not thing]
    if not others:
        return None
    pair = sorted([thing, others[int(rng.integers(len(others)))]], key=scene.objects.index)
    said = tuple(_say(each, scene, "kind", "colour") for each in pair)
    forms = (
        " a {colour0} {kind0}, a {colour1} {kind1}.",
        " there are a {colour0} {kind0} and a {colour1} {kind1}.",
        "a {colour0} {kind0} and a {colour1} {kind1}",
    )
    return Statement(str(rng.choice(forms)), said)


def _order(scene: Scene, _thing: Thing, rng: np.random.Generator) -> Statement | None:
    eventful = sorted((each for each in scene.objects if each.event), key=lambda each: each.moment)
    pairs = [
        pair for pair in itertools.combinations(eventful, 2) if pair[1].moment - pair[0].moment > _APART
    ]
    if not pairs:
        return None
    said = tuple(_say(each, scene, "kind", "colour", "event") for each in pairs[0])
    forms = (
        " the {colour0} {kind0} {verb0} before the {colour1} {kind1} {verb1}.",
        " the {colour1} {kind1} {verb1} after the {colour0} {kind0} {verb0}.",
        " first the {colour0} {kind0} {verb0}, then the {colour1} {kind1} {verb1}.",
    )
    return Statement(str(rng.choice(forms)), said, ordered=True)


def _moment(scene: Scene, thing: Thing, rng: np.random.Generator) -> Statement | None:
    seconds = round(thing.moment)
    if not thing.event or not seconds:
        return None
    said = replace(_say(thing, scene, "kind", "colour", "event"), seconds=seconds)
    forms = (
        " the {colour0} {kind0} {verb0} after about {seconds0} seconds.",
        " after {seconds0} seconds the {colour0} {kind0} {verb0}.",
    )
    return Statement(str(rng.choice(forms)), (said,))


# How each subject is put into words, and how often.
_SUBJECTS: dict[str, tuple[float, _Draw]] = {
    "kind": (1, _of_thing(("kind",), " there is a {kind0}.", " a {kind0} is visible.", "a {kind0}",
                          "{kind0}", " the video shows a {kind0}.")),
    "pair": (2, _of_thing(("kind", "colour"), " there is a {colour0} {kind0}.", "a {colour0} {kind0}",
                          " a {colour0} {kind0}.", " the {kind0} is {colour0}.", "{colour0} {kind0}",
                          " a {colour0} {kind0} is visible.")),
    "two": (1, _two),
    "motion": (4, _of_thing(_WHOLE, " a {colour0} {kind0} {verb0}.", "a {colour0} {kind0} {verb0}",
                            " the {colour0} {kind0} {verb0}.", "the {colour0} {kind0} {verb0}")),
    "way": (1, _of_thing(("kind", "direction"), " the {kind0} {verb0}.", " a {kind0} {verb0}.")),
    "event": (1, _of_thing(("kind", "colour", "event"), " the {colour0} {kind0} {verb0}.",
                           "the {colour0} {kind0} {verb0}")),
    "size": (1, _of_thing(("kind", "colour", "size"), " a {size0} {colour0} {kind0}.",
                          " the {colour0} {kind0} is {size0}.", "a {size0} {colour0} {kind0}")),
    "sized": (2, _of_thing(("size", *_WHOLE), " a {size0} {colour0} {kind0} {verb0}.")),
    "place": (1, _of_scene(("background",), " the scene is {place}.", " {place}.", "{place}",
                           "{background}", " it takes place {place}.")),
    "time": (1, _of_scene(("time",), " it is {time}.", "{hour}", "{time}", " this is filmed {hour}.")),
    "where": (1, _of_scene(("background", "time"), " the scene is {place} {hour}.", " {place} {hour}",
                           "{place} {hour}", " {place} {hour}.")),
    "sky": (0.5, _sky),
    "camera": (1, _of_scene(("camera",), " the camera {pan}.", "the camera {pan}")),
    "count": (1.5, _count),
    "sentence": (3, _sentence),
    "order": (2, _order),
    "moment": (1, _moment),
}  # fmt: skip
SUBJECTS = tuple(_SUBJECTS)


def true_statement(
    scene: Scene, rng: np.random.Generator, subject: str | None = None
) -> Statement | None:
    """Draw a true statement, of any subject of `SUBJECTS` or of one; None if the scene has none."""
    weights = np.array([weight for weight, _ in _SUBJECTS.values()])
    name = subject or str(rng.choice(SUBJECTS, p=weights / weights.sum()))
    thing = scene.objects[int(rng.integers(len(scene.objects)))]
    if name == "event" and not thing.event:
        return None
    return _SUBJECTS[name][1](scene, thing, rng)


def falsified(statement: Statement, scene: Scene, rng: np.random.Generator) -> Statement | None:
    """Change one fact of a statement so that it is false; None if no try made it so."""
    facts = statement.facts()
    for _ in range(_ATTEMPTS):
        index, name = facts[int(rng.integers(len(facts)))]
        if index is None:
            changed = _with_another_fact(statement, name, rng)
        else:
            things = list(statement.things)
            said = _with_another_word(things[index], name, scene, rng)
            if said is None:
                continue
            things[index] = said
            changed = replace(statement, things=tuple(things))
        if changed.text != statement.text and not holds(changed, scene, kindly=True):
            return changed
    return None


def _with_another_fact(statement: Statement, name: str, rng: np.random.Generator) -> Statement:
    values: dict[str, tuple[Any, ...]] = {
        "background": BACKGROUNDS,
        "time": TIMES,
        "sky": ("sun", "moon"),
        "camera": CAMERAS,
        "count": (1, 2, 3),
    }
    if name == "ordered":
        return replace(statement, things=statement.things[::-1])
    return replace(statement, **{name: values[name][int(rng.integers(len(values[name])))]})


def _with_another_word(said: Said, name: str, scene: Scene, rng: np.random.Generator) -> Said | None:
    """Change one word about a thing; None where that makes no sentence."""
    match name:
        case "kind":
            return replace(said, kind=str(rng.choice(KINDS)))
        case "colour":
            return replace(said, colour=str(rng.choice(list(COLOURS))))
        case "size":
            return replace(said, size=str(rng.choice(SIZES)))
        case "other":
            return replace(said, other=str(rng.choice(KINDS)))
        case "seconds":
            return replace(said, seconds=int(rng.integers(1, max(2, int(scene.duration) + 1))))
        case "direction":
            way = str(rng.choice(DIRECTIONS[:2] if said.event else DIRECTIONS))
            event = None if way == "still" else said.event
            # What moves in the picture stands nowhere; what stands may be said to move and stop.
            if said.direction == "still" and way in DIRECTIONS[:2] and rng.random() < 0.3:
                event = str(rng.choice(EVENTS[:4]))
            return replace(said, direction=way, event=event, other=said.other if event else None)
    event = str(rng.choice(EVENTS))
    if said.direction == "still" or (said.direction in ("up", "down") and event != "stops"):
        return None
    kinds = [thing.kind for thing in scene.objects if thing.kind != said.kind]
    if event == "overtakes" and not kinds:
        return None
    return replace(said, event=event, other=str(rng.choice(kinds)) if event == "overtakes" else None)


@dataclass(frozen=True)
class Claim:
    """A statement in words; ``wrong_from`` is where its words have become false, None if it is true."""

    text: str
    wrong_from: int | None

    @property
    def is_true(self) -> bool:
        """Whether the claim is true."""
        return self.wrong_from is None


def claim(scene: Scene, rng: np.random.Generator, subject: str | None = None) -> Claim:
    """Draw a claim about a scene, true or false equally often.

    Raises
    ------
    ValueError
        If the scene has no claim of the ``subject``: events in order of a scene without events.
    """
    wanted = bool(rng.integers(2))
    for _ in range(_ATTEMPTS):
        said = true_statement(scene, rng, subject)
        if said is None:
            continue
        if wanted:
            return Claim(said.text, None)
        wrong = falsified(said, scene, rng)
        if wrong is not None:
            swapped = wrong.ordered and wrong.things == said.things[::-1]
            at = len(wrong.text) if swapped else first_wrong(wrong.text, said.text)
            return Claim(wrong.text, at)
    raise ValueError(f"scene {scene.seed} has no claim of {subject}")


def first_wrong(text: str, true: str) -> int:
    """Return where the first word that differs from a true text ends, in characters."""
    pairs = itertools.zip_longest(_words(text), _words(true))
    for mine, theirs in pairs:
        if mine is None:
            break
        if theirs is None or mine.group() != theirs.group():
            return mine.end()
    return len(text)


def _words(text: str) -> Iterator[re.Match[str]]:
    return re.finditer(r"\w+", text)
