"""A small painted world with known truth: the demo model's school and the tests' yardstick.

A `Scene` follows from its seed: one to three things that stand or move over a background, by day, at
dusk or at night, seen by a camera that stands still or pans. `Scene.truth` says what there is to see,
`painter.Painter` draws it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from captionkit.demo.sprites import ASPECT, COLOURS, KINDS

Direction = Literal["left", "right", "up", "down", "still"]
Event = Literal["appears", "leaves", "stops", "turns", "overtakes"]
Camera = Literal["still", "left", "right"]

DIRECTIONS: tuple[Direction, ...] = ("left", "right", "up", "down", "still")
EVENTS: tuple[Event, ...] = ("appears", "leaves", "stops", "turns", "overtakes")
CAMERAS: tuple[Camera, ...] = ("still", "left", "right")
BACKGROUNDS = ("sea", "river", "field", "city", "desert", "snow")
TIMES = ("day", "dusk", "night")
SIZES = ("small", "large")
MOST_OBJECTS = 3

_ON_WATER = ("sea", "river")
_ON_LAND = ("field", "city", "desert", "snow")
# Kinds that keep to water or land; flying ones may be over anything.
_HOMES = {"boat": _ON_WATER, "car": _ON_LAND, "bus": _ON_LAND, "dog": _ON_LAND}
_OPPOSITE: dict[Direction, Direction] = {"left": "right", "right": "left"}
_STEP: dict[Direction, tuple[int, int]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
    "still": (0, 0),
}
_HEIGHTS = {"small": (0.21, 0.26), "large": (0.35, 0.42)}
# Height of a picture in widths, for boxes; pictures of other shapes are near enough.
_PICTURE = 9 / 16
_MOMENTS = 13
_ATTEMPTS = 20_000


def held_out(kind: str, colour: str, background: str) -> bool:
    """Whether training leaves out this combination; one in seven is."""
    order = KINDS.index(kind) + 2 * list(COLOURS).index(colour) + 3 * BACKGROUNDS.index(background)
    return order % 7 == 0


def habitats(kind: str) -> Sequence[str]:
    """Backgrounds over which a kind of thing appears."""
    return _HOMES.get(kind, BACKGROUNDS)


@dataclass(frozen=True)
class SceneObject:
    """One thing in a scene.

    Positions are in picture widths (x) and heights (y), times in seconds. ``x`` and ``y`` are the
    centre at time 0 as the camera sees it, ``speed`` the distance over the ground in a second in
    ``direction``, ``height`` a share of the picture's height. ``event`` happens at ``moment``;
    ``other`` is the index of the overtaken thing.
    """

    kind: str
    colour: str
    size: str
    direction: Direction
    x: float
    y: float
    speed: float
    height: float
    faces_left: bool
    event: Event | None = None
    moment: float = 0.0
    other: int | None = None

    @property
    def width(self) -> float:
        """Width in picture widths, of a 16:9 picture."""
        return self.height * ASPECT[self.kind] * _PICTURE

    def direction_at(self, seconds: float) -> Direction:
        """Direction at a moment."""
        if self.event == "stops" and seconds >= self.moment:
            return "still"
        if self.event == "turns" and seconds >= self.moment:
            return _OPPOSITE[self.direction]
        return self.direction

    def faces_left_at(self, seconds: float) -> bool:
        """Whether the thing looks to the left at a moment."""
        turned = self.event == "turns" and seconds >= self.moment
        return self.faces_left != turned

    def way(self, seconds: float) -> tuple[float, float]:
        """Distance over the ground since time 0, in picture widths and heights."""
        dx, dy = _STEP[self.direction]
        gone = self.speed * seconds
        if self.event in ("stops", "turns") and seconds > self.moment:
            gone = self.speed * self.moment
            if self.event == "turns":
                gone -= self.speed * (seconds - self.moment)
        return dx * gone, dy * gone


@dataclass(frozen=True)
class Scene:
    """What can be seen for ``duration`` seconds; `Scene.random` makes one from a seed.

    ``pan`` is how many picture widths a second the camera turns to the right (negative: left).
    """

    seed: int
    background: str
    time: str
    duration: float
    pan: float
    objects: tuple[SceneObject, ...]

    @classmethod
    def random(
        cls,
        seed: int,
        duration: float = 256 / 30,
        *,
        unseen: bool = False,
        like: dict[str, Any] | None = None,
    ) -> Scene:
        """Draw a scene; the same arguments give the same scene on every machine.

        Parameters
        ----------
        seed
            Any number from 0 up.
        duration
            In seconds.
        unseen
            Whether the first thing is a combination of colour, kind and background that training
            never shows. Other things never are.
        like
            Values that are not random: ``background``, ``time``, ``camera``, ``count``, ``kinds``
            (to draw the things from), ``event`` (of the first thing).

        Raises
        ------
        ValueError
            If no scene of so many attempts is like that.
        """
        wish = like or {}
        rng = np.random.default_rng(seed)
        # Drawn once: an attempt that fails must not favour scenes that are easy to fill.
        background = str(rng.choice(BACKGROUNDS))
        time = str(rng.choice(TIMES))
        camera = str(rng.choice(CAMERAS, p=(0.64, 0.18, 0.18)))
        count = int(rng.integers(1, MOST_OBJECTS + 1))
        turn = {"still": 0, "right": 1, "left": -1}[wish.get("camera", camera)]
        empty = cls(
            seed,
            wish.get("background", background),
            wish.get("time", time),
            duration,
            turn * float(rng.uniform(0.22, 0.34)) / duration,
            (),
        )
        count = wish.get("count", count)
        event = wish.get("event")
        if event is None and empty.pan == 0 and count > 1 and rng.random() < 0.12:
            event = "overtakes"
        kinds = tuple(k for k in wish.get("kinds", KINDS) if empty.background in habitats(k))
        for attempt in range(_ATTEMPTS if kinds else 0):
            things = _things(np.random.default_rng((seed, attempt)), empty, count, kinds, event, unseen)
            scene = replace(empty, objects=things)
            if len(things) == count and _is_clear(scene):
                return scene
        raise ValueError(f"no scene is like {wish} (unseen: {unseen}); ask for less at once")

    @property
    def camera(self) -> Camera:
        """Direction in which the camera pans."""
        return "still" if self.pan == 0 else "right" if self.pan > 0 else "left"

    def centre(self, index: int, seconds: float) -> tuple[float, float]:
        """Centre of a thing at a moment as the camera sees it, in picture widths and heights."""
        thing = self.objects[index]
        dx, dy = thing.way(seconds)
        return thing.x + dx - self.pan * seconds, thing.y + dy

    def truth(self) -> dict[str, Any]:
        """Facts to check a caption against, as plain JSON values; times in seconds."""
        return {
            "seed": self.seed,
            "background": self.background,
            "time": self.time,
            "sky": "moon" if self.time == "night" else "sun",
            "camera": self.camera,
            "objects": [
                {
                    "kind": thing.kind,
                    "colour": thing.colour,
                    "size": thing.size,
                    "direction": thing.direction,
                    "speed": round(thing.speed, 4),
                    "event": thing.event,
                    "event_s": round(thing.moment, 3) if thing.event else None,
                    "overtaken": thing.other,
                    "path": [
                        [round(float(moment), 3)]
                        + [round(value, 3) for value in self.centre(index, float(moment))]
                        for moment in np.linspace(0.0, self.duration, 9)
                    ],
                }
                for index, thing in enumerate(self.objects)
            ],
        }


def _things(
    rng: np.random.Generator,
    scene: Scene,
    count: int,
    kinds: Sequence[str],
    event: Event | None,
    unseen: bool,
) -> tuple[SceneObject, ...]:
    """Draw the things of a scene, by kind, then colour, as captions name them.

    Returns none if the attempt failed.
    """
    colours = list(COLOURS)
    things: list[SceneObject] = []
    for index in range(count):
        pairs = [
            (kind, colour)
            for kind in kinds
            for colour in colours
            if held_out(kind, colour, scene.background) == (unseen and index == 0)
            and colour not in {thing.colour for thing in things}
        ]
        if not pairs:
            return ()
        # Kinds that keep to few backgrounds are drawn more often there: all kinds become as frequent.
        weights = np.array([2.0 if kind in _HOMES else 1.0 for kind, _ in pairs])
        kind, colour = pairs[int(rng.choice(len(pairs), p=weights / weights.sum()))]
        own = event if index == 0 else None
        overtaker = things[0] if index == 1 and event == "overtakes" else None
        if own is None and overtaker is None and rng.random() < 0.3:
            own = EVENTS[int(rng.integers(4))]
        if scene.pan and own in ("appears", "leaves", "overtakes"):
            return ()
        if overtaker and (kind in _HOMES) != (overtaker.kind in _HOMES):
            return ()
        things.append(_thing(rng, kind, colour, scene, own, overtaker))
    order = sorted(
        range(count), key=lambda i: (KINDS.index(things[i].kind), colours.index(things[i].colour))
    )
    if event == "overtakes":
        lead = things[0].x - things[1].x
        speed = (things[1].speed - things[0].speed) * _STEP[things[0].direction][0]
        things[0] = replace(things[0], other=order.index(1), moment=lead / speed)
    return tuple(things[i] for i in order)


def _thing(
    rng: np.random.Generator,
    kind: str,
    colour: str,
    scene: Scene,
    event: Event | None,
    overtaker: SceneObject | None,
) -> SceneObject:
    duration, drift = scene.duration, -scene.pan * scene.duration
    size = SIZES[int(rng.integers(2))]
    height = float(rng.uniform(*_HEIGHTS[size]))
    half = height * ASPECT[kind] * _PICTURE / 2
    ground = kind in _HOMES
    directions = DIRECTIONS[:2] if event else ("left", "right", "still") if ground else DIRECTIONS
    if event == "stops" and not ground:
        directions = DIRECTIONS[:4]
    direction = overtaker.direction if overtaker else directions[int(rng.integers(len(directions)))]
    dx, dy = _STEP[direction]
    moment = 0.0
    margin = max(0.1, half * 0.85)
    way = float(rng.uniform(0.24, 0.36) if scene.pan else rng.uniform(0.28, 0.6))
    if dy:
        way = float(rng.uniform(0.3, 0.5))
    speed = 0.0 if direction == "still" else way / duration
    x: float | None = None
    if event in ("stops", "turns"):
        moment = float(rng.uniform(0.35, 0.6)) * duration
        speed = float(rng.uniform(0.22, 0.36)) / moment
        way = speed * moment
    elif event == "appears":
        moment = float(rng.uniform(0.2, 0.45)) * duration
        speed = (float(rng.uniform(0.35, 0.6)) + half) / (duration - moment)
        x = 0.5 - dx * (0.5 + half + speed * moment)
    elif event == "leaves":
        moment = float(rng.uniform(0.5, 0.8)) * duration
        speed = (float(rng.uniform(0.35, 0.65)) + half) / moment
        x = 0.5 + dx * (0.5 + half - speed * moment)
    elif event == "overtakes":
        way = float(rng.uniform(0.55, 0.68))
        speed = way / duration
    elif overtaker:
        way = float(rng.uniform(0.10, 0.2))
        speed = way / duration
        x = overtaker.x + dx * float(rng.uniform(0.2, 0.3))
    if x is None:
        x = _start(rng, dx * way + drift, margin, 1 - margin)
    if ground:
        y = float(rng.uniform(0.72, 0.96)) - height / 2
    elif dy:
        y = _start(rng, dy * way, 0.16, 0.84)
    else:
        y = float(rng.uniform(0.05 + height / 2, 0.58))
    faces_left = direction == "left" or (dx == 0 and bool(rng.integers(2)))
    return SceneObject(kind, colour, size, direction, x, y, speed, height, faces_left, event, moment)


def _start(rng: np.random.Generator, way: float, low: float, high: float) -> float:
    """Draw a start from which ``way`` stays inside [low, high]; centre a way that is too long."""
    first, last = (low, high - way) if way >= 0 else (low - way, high)
    if first > last:
        return (first + last) / 2
    return float(rng.uniform(first, last))


def _is_clear(scene: Scene) -> bool:
    """Whether all things stay inside the picture and hardly hide one another."""
    for moment in np.linspace(0.0, scene.duration, _MOMENTS).tolist():
        centres = [scene.centre(index, moment) for index in range(len(scene.objects))]
        for thing, (x, y) in zip(scene.objects, centres, strict=True):
            if thing.event not in ("appears", "leaves") and not 0.08 <= x <= 0.92:
                return False
            if not 0.1 <= y <= 0.9:
                return False
        for (i, one), (k, two) in itertools.combinations(enumerate(scene.objects), 2):
            gap_x, gap_y = (abs(centres[i][axis] - centres[k][axis]) for axis in (0, 1))
            across = min(one.width, two.width, (one.width + two.width) / 2 - gap_x)
            down = min(one.height, two.height, (one.height + two.height) / 2 - gap_y)
            smaller = min(one.width * one.height, two.width * two.height)
            passing = one.other == k or two.other == i
            if across > 0 and down > 0 and across * down > (0.4 if passing else 0.08) * smaller:
                return False
    return True
