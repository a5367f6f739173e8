"""Claims about a demo scene in words: of every subject, true or false equally often."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from captionkit.demo.filled import phases, shot_size
from captionkit.demo.scenes import Scene, SceneObject
from captionkit.demo.statements import Said, Statement, falsified, overtaken

_ATTEMPTS = 40
# Least time between two events whose order is stated.
_APART = 1.5


def _say(thing: SceneObject, scene: Scene, *names: str) -> Said:
    """Say facts of a thing truly; an event comes with the kind of the overtaken thing."""
    values = {name: getattr(thing, name) for name in names}
    if "event" in names:
        values["other"] = overtaken(thing, scene)
    return Said(**values)


def _phase(scene: Scene, thing: SceneObject, rng: np.random.Generator) -> Statement:
    """Say something that a thing does, with its times, as events are written."""
    found = phases(thing, scene)
    start, end, text = found[int(rng.integers(len(found)))]
    names = ("kind", "colour") if thing.event else ("kind", "colour", "direction")
    said = replace(_say(thing, scene, *names), span=(start, end))
    words = text.replace(f"{thing.colour} {thing.kind}", "{colour0} {kind0}")
    if not thing.event:
        words = f"{words.split('}')[0]}}} {{kind0}} {{verb0}}."
    return Statement(" from {from0} to {to0} seconds: " + words, (said,))


_Draw = Callable[[Scene, SceneObject, np.random.Generator], Statement | None]
_WHOLE = ("kind", "colour", "direction", "event")


def _of_thing(names: tuple[str, ...], *templates: str) -> _Draw:
    return lambda scene, thing, rng: Statement(
        str(rng.choice(templates)), (_say(thing, scene, *names),)
    )


def _of_scene(names: tuple[str, ...], *templates: str) -> _Draw:
    return lambda scene, thing, rng: Statement(
        str(rng.choice(templates)), **{name: getattr(scene, name) for name in names}
    )


def _sky(scene: Scene, _thing: SceneObject, _rng: np.random.Generator) -> Statement:
    return Statement(" the {sky} is in the sky.", sky="moon" if scene.time == "night" else "sun")


def _shot(scene: Scene, _thing: SceneObject, _rng: np.random.Generator) -> Statement:
    return Statement("shot: {shot}.", shot=shot_size(scene))


def _count(scene: Scene, _thing: SceneObject, rng: np.random.Generator) -> Statement:
    forms = (" there {be} {number}.", " {number}.", "{number}", "there {be} {number}")
    if rng.random() < 0.5:
        return Statement(str(rng.choice(forms)), count=len(scene.objects))
    place = " {place} {hour}, there {be} {number}."
    return Statement(place, background=scene.background, time=scene.time, count=len(scene.objects))


def _sentence(scene: Scene, thing: SceneObject, rng: np.random.Generator) -> Statement:
    forms = (
        " {place} {hour}, a {colour0} {kind0} {verb0}.",
        "{place} {hour}, a {colour0} {kind0} {verb0}",
        " a {colour0} {kind0} {verb0} {place} {hour}.",
    )
    said = (_say(thing, scene, *_WHOLE),)
    return Statement(str(rng.choice(forms)), said, background=scene.background, time=scene.time)


def _two(scene: Scene, thing: SceneObject, rng: np.random.Generator) -> Statement | None:
    others = [each for each in scene.objects if each is not thing]
    if not others:
        return None
    pair = sorted([thing, others[int(rng.integers(len(others)))]], key=scene.objects.index)
    said = tuple(_say(each, scene, "kind", "colour") for each in pair)
    forms = (
        " a {colour0} {kind0}, a {colour1} {kind1}.",
        " there are a {colour0} {kind0} and a {colour1} {kind1}.",
        "a {colour0} {kind0} and a {colour1} {kind1}",
        "subject: a {colour0} {kind0} and a {colour1} {kind1}.",
    )
    return Statement(str(rng.choice(forms)), said)


def _order(scene: Scene, _thing: SceneObject, rng: np.random.Generator) -> Statement | None:
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


def _moment(scene: Scene, thing: SceneObject, rng: np.random.Generator) -> Statement | None:
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
                          "{kind0}", " the video shows a {kind0}.", "kind {kind0}.")),
    "pair": (2, _of_thing(("kind", "colour"), " there is a {colour0} {kind0}.", "a {colour0} {kind0}",
                          " a {colour0} {kind0}.", " the {kind0} is {colour0}.", "{colour0} {kind0}",
                          " a {colour0} {kind0} is visible.", "tags: {colour0} {kind0}.",
                          "subject: a {colour0} {kind0}.")),
    "two": (1, _two),
    "motion": (4, _of_thing(_WHOLE, " a {colour0} {kind0} {verb0}.", "a {colour0} {kind0} {verb0}",
                            " the {colour0} {kind0} {verb0}.", "the {colour0} {kind0} {verb0}",
                            "{values0}.", "action: the {kind0} {verb0}.")),
    "phase": (1, _phase),
    "shot": (0.5, _shot),
    "way": (1, _of_thing(("kind", "direction"), " the {kind0} {verb0}.", " a {kind0} {verb0}.")),
    "event": (1, _of_thing(("kind", "colour", "event"), " the {colour0} {kind0} {verb0}.",
                           "the {colour0} {kind0} {verb0}")),
    "size": (1, _of_thing(("kind", "colour", "size"), " a {size0} {colour0} {kind0}.",
                          " the {colour0} {kind0} is {size0}.", "a {size0} {colour0} {kind0}")),
    "sized": (2, _of_thing(("size", *_WHOLE), " a {size0} {colour0} {kind0} {verb0}.")),
    "place": (1, _of_scene(("background",), " the scene is {place}.", " {place}.", "{place}",
                           "{background}", " it takes place {place}.", "background: {background}.",
                           "tags: {background}.")),
    "time": (1, _of_scene(("time",), " it is {time}.", "{hour}", "{time}", " this is filmed {hour}.",
                          "time: {time}.", "tags: {time}.")),
    "where": (1, _of_scene(("background", "time"), " the scene is {place} {hour}.", " {place} {hour}",
                           "{place} {hour}", " {place} {hour}.", "setting: {place} {hour}.")),
    "sky": (0.5, _sky),
    "camera": (1, _of_scene(("camera",), " the camera {pan}.", "the camera {pan}",
                            "camera: {camera}.", "camera: {move}.")),
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
            at = first_wrong(wrong.text, said.text)
            if _times(wrong) != _times(said) or wrong.things[::-1] == said.things != wrong.things:
                # A wrong order, or a wrong time, is false of what is said last.
                at = len(wrong.text)
            return Claim(wrong.text, at)
    raise ValueError(f"scene {scene.seed} has no claim of {subject}")


def _times(statement: Statement) -> list[object]:
    return [(each.seconds, each.span) for each in statement.things]


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
