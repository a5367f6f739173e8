"""Statements about a demo scene, true, or false in one fact: what a model is asked to confirm.

A `Statement` says some facts and leaves out all others. A false one is a true one with one fact
changed, so that its words alone do not give it away.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from captionkit.demo.filled import camera_move, phases, shot_size
from captionkit.demo.language import HOURS, NUMBERS, PLACES, doing
from captionkit.demo.scenes import (
    BACKGROUNDS,
    CAMERAS,
    DIRECTIONS,
    EVENTS,
    SIZES,
    TIMES,
    Scene,
    SceneObject,
)
from captionkit.demo.sprites import COLOURS, KINDS

_ATTEMPTS = 40
# Seconds by which a true statement may miss a moment, and a false one must.
_NEAR, _FAR = 0.75, 2.5


@dataclass(frozen=True)
class Said:
    """What a statement says of one thing; None for what it does not say.

    ``other`` is the kind of the overtaken thing, ``seconds`` when the event happens, ``span`` the
    seconds from and to which the thing does what is said.
    """

    kind: str | None = None
    colour: str | None = None
    size: str | None = None
    direction: str | None = None
    event: str | None = None
    other: str | None = None
    seconds: int | None = None
    span: tuple[float, float] | None = None

    @property
    def values(self) -> str:
        """What is said, as values by name."""
        names = {"kind": "kind", "colour": "colour", "direction": "motion", "event": "event"}
        found = {name: getattr(self, each) for each, name in names.items()}
        return ", ".join(f"{name} {value}" for name, value in found.items() if value)


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
    shot: str | None = None
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
            words[f"values{number}"] = thing.values
            words[f"from{number}"], words[f"to{number}"] = thing.span or ("", "")
        if self.camera:
            words |= {"camera": self.camera, "move": camera_move(self.camera)}
            words["pan"] = "stays still" if self.camera == "still" else f"pans {self.camera}"
        if self.count:
            words |= {"number": NUMBERS[self.count], "be": "is" if self.count == 1 else "are"}
        words |= {"place": PLACES.get(self.background or ""), "hour": HOURS.get(self.time or "")}
        words |= {"background": self.background, "time": self.time, "sky": self.sky}
        words["shot"] = self.shot
        text = self.template.format(**words)
        # Templates of whole sentences begin with a blank: their first letter becomes a capital.
        return text[1].upper() + text[2:] if text.startswith(" ") else text

    def facts(self) -> list[tuple[int | None, str]]:
        """List what is said: index of the thing, or None for the scene, and the fact's name."""
        names = ("background", "time", "sky", "camera", "shot", "count", "ordered")
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
        "shot": shot_size(scene),
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


def _is_said_of(said: Said, thing: SceneObject, scene: Scene, kindly: bool) -> bool:
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
        and (said.other is None or overtaken(thing, scene) == said.other)
        and (said.seconds is None or abs(said.seconds - thing.moment) < near)
        and (said.span is None or _spans(said.span, thing, scene, near))
    )


def _spans(span: tuple[float, float], thing: SceneObject, scene: Scene, near: float) -> bool:
    """Whether a thing does something from and to about these seconds."""
    return any(
        abs(span[0] - start) < near and abs(span[1] - end) < near
        for start, end, _ in phases(thing, scene)
    )


def overtaken(thing: SceneObject, scene: Scene) -> str | None:
    """Return the kind of the thing that a thing overtakes, or None."""
    return None if thing.other is None else scene.objects[thing.other].kind


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
        "shot": ("medium", "wide"),
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
        case "span":
            start, end = sorted(
                rng.choice(np.arange(0, scene.duration, 0.5), 2, replace=False).tolist()
            )
            return replace(said, span=(start, end))
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
