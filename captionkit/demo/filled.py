"""The ready schemas of `captionkit.structured` filled with the truth of a demo scene."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from captionkit.demo.language import HOURS, PLACES, doing, verb
from captionkit.demo.scenes import Scene, SceneObject

# Times of events are in steps of so many seconds: a model that sees two frames a second knows no finer.
_STEP = 0.5


def _named(thing: SceneObject) -> str:
    return f"{thing.colour} {thing.kind}"


def _tags(scene: Scene) -> dict[str, Any]:
    return {"tags": [*map(_named, scene.objects), scene.background, scene.time]}


def shot_size(scene: Scene) -> str:
    """Return the size of the shot: medium if a thing is large, wide if all are small."""
    return "medium" if any(thing.size == "large" for thing in scene.objects) else "wide"


def camera_move(camera: str) -> str:
    """Return a camera of `scenes.CAMERAS` in the vocabulary of the schema ``camera``."""
    return "static" if camera == "still" else f"pan {camera}"


def _shot(scene: Scene) -> dict[str, Any]:
    names = [f"a {_named(thing)}" for thing in scene.objects]
    subject = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    return {
        "shot": shot_size(scene),
        "subject": subject,
        "action": ", ".join(f"the {thing.kind} {verb(thing, scene)}" for thing in scene.objects),
        "setting": f"{PLACES[scene.background]} {HOURS[scene.time]}",
    }


def _camera(scene: Scene) -> dict[str, Any]:
    return {"camera": [camera_move(scene.camera)]}


def _seconds(moment: float) -> float:
    return round(moment / _STEP) * _STEP


def phases(thing: SceneObject, scene: Scene) -> list[tuple[float, float, str]]:
    """List what a thing does, with its times: an event divides what is before from what is after."""
    end = math.floor(scene.duration / _STEP) * _STEP
    moment = min(_seconds(thing.moment), end)
    moves, name = doing(thing.direction, None), _named(thing)
    match thing.event:
        case None:
            return [(0.0, end, f"A {name} {moves}.")]
        case "appears":
            return [(moment, end, f"A {name} {verb(thing, scene)}.")]
        case "leaves":
            return [(0.0, moment, f"A {name} {verb(thing, scene)}.")]
    after = {
        "stops": "stops",
        "turns": f"turns around and moves {thing.direction_at(scene.duration)}",
    }.get(thing.event, doing(None, thing.event, _kind_of_other(thing, scene)))
    return [(0.0, moment, f"A {name} {moves}."), (moment, end, f"The {name} {after}.")]


def _kind_of_other(thing: SceneObject, scene: Scene) -> str | None:
    return None if thing.other is None else scene.objects[thing.other].kind


def _events(scene: Scene) -> dict[str, Any]:
    found = [phase for thing in scene.objects for phase in phases(thing, scene)]
    # Stable: things that begin at the same time keep the order in which captions name them.
    found.sort(key=lambda phase: phase[0])
    return {"events": [{"text": text, "start": start, "end": end} for start, end, text in found]}


_FILLED: dict[str, Callable[[Scene], dict[str, Any]]] = {
    "tags": _tags,
    "shot": _shot,
    "events": _events,
    "camera": _camera,
}
READY = tuple(_FILLED)


def filled(name: str, scene: Scene) -> dict[str, Any]:
    """Fill a ready schema with what is true of a scene; times in seconds within the scene.

    Raises
    ------
    ValueError
        If there is no such schema; the message lists the known ones.
    """
    if name not in _FILLED:
        raise ValueError(f"no ready schema is called {name!r}; known: {', '.join(READY)}")
    return _FILLED[name](scene)
