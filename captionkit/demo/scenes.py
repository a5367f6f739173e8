"""A small painted world with known truth: the demo model's school and the tests' yardstick.

A `Scene` is decided by its seed alone: one object that moves over a background, by day or
night. `Painter` draws it at any size and moment; `Scene.truth` says what there is to see. Imports
numpy and Pillow only; called by `demo.train`, `demo.evaluate`, `demo.videos` and tests.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from captionkit.demo import sprites

Direction = Literal["left", "right", "up", "down", "still"]

DIRECTIONS: tuple[Direction, ...] = ("left", "right", "up", "down", "still")
BACKGROUNDS = ("sea", "road", "field", "city")
TIMES = ("day", "night")
SIZES = ("small", "large")

# What floats or rolls keeps to its element; what flies may be over anything and go anywhere.
_GROUND_BACKGROUNDS = {"boat": ("sea",), "car": ("road", "city", "field")}
_GROUND_DIRECTIONS: tuple[Direction, ...] = ("left", "right", "still")
_STEP: dict[Direction, tuple[int, int]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
    "still": (0, 0),
}

# Drawn larger and shrunk afterwards: Pillow's shapes have no smooth edges of their own.
_OVERSAMPLE = 2
_HORIZON = 0.52


@dataclass(frozen=True)
class SceneObject:
    """One thing in a scene.

    ``x`` and ``y`` are the centre at time 0 and ``speed`` the way per second, in picture widths
    (across) and heights (up and down); ``height`` is a part of the picture's height.
    """

    kind: str
    colour: str
    size: str
    direction: Direction
    x: float
    y: float
    speed: float
    height: float

    def centre(self, seconds: float) -> tuple[float, float]:
        """Where the centre is at a moment, in picture widths and heights."""
        dx, dy = _STEP[self.direction]
        return self.x + dx * self.speed * seconds, self.y + dy * self.speed * seconds


@dataclass(frozen=True)
class Scene:
    """What can be seen for ``duration`` seconds; `Scene.random` makes one from a seed."""

    seed: int
    background: str
    time: str
    duration: float
    objects: tuple[SceneObject, ...]

    @classmethod
    def random(cls, seed: int, duration: float = 256 / 30) -> Scene:
        """Draw a scene from a seed; the same seed gives the same scene on every machine."""
        rng = np.random.default_rng(seed)
        kind = str(rng.choice(sprites.KINDS))
        background = str(rng.choice(_GROUND_BACKGROUNDS.get(kind, BACKGROUNDS)))
        directions = _GROUND_DIRECTIONS if kind in _GROUND_BACKGROUNDS else DIRECTIONS
        direction: Direction = directions[int(rng.integers(len(directions)))]
        size = str(rng.choice(SIZES))
        height = float(rng.uniform(0.24, 0.30) if size == "small" else rng.uniform(0.42, 0.50))
        speed = 0.0 if direction == "still" else float(rng.uniform(0.055, 0.085))
        dx, dy = _STEP[direction]
        way = speed * duration
        x = _start(rng, dx * way, 0.15, 0.85)
        lowest = 0.78 if kind in _GROUND_BACKGROUNDS else 0.62
        highest = 0.66 if kind in _GROUND_BACKGROUNDS else 0.22
        if dy:
            lowest, highest = 0.80, 0.20
        thing = SceneObject(
            kind=kind,
            colour=str(rng.choice(list(sprites.COLOURS))),
            size=size,
            direction=direction,
            x=x,
            y=_start(rng, dy * way, highest, lowest),
            speed=speed,
            height=height,
        )
        return cls(seed, background, str(rng.choice(TIMES)), duration, (thing,))

    def truth(self) -> dict[str, Any]:
        """What a caption may be checked against, as plain JSON values."""
        return {
            "seed": self.seed,
            "background": self.background,
            "time": self.time,
            "sky": "sun" if self.time == "day" else "moon",
            "camera": "still",
            "objects": [
                {
                    "kind": thing.kind,
                    "colour": thing.colour,
                    "size": thing.size,
                    "direction": thing.direction,
                    "path": [
                        [round(float(value), 3) for value in thing.centre(float(moment))]
                        for moment in np.linspace(0.0, self.duration, 9)
                    ],
                }
                for thing in self.objects
            ],
        }


def _start(rng: np.random.Generator, way: float, low: float, high: float) -> float:
    """A start from which ``way`` ends inside [low, high] where it fits, else as centred as can be."""
    first, last = (low, high - way) if way >= 0 else (low - way, high)
    if first > last:
        return (first + last) / 2
    return float(rng.uniform(first, last))


class Painter:
    """Draws one scene at one size; what stands still is drawn once.

    Parameters
    ----------
    scene
        The scene to draw.
    width, height
        Size of the pictures in pixels.
    """

    def __init__(self, scene: Scene, width: int, height: int) -> None:
        self._scene = scene
        self._size = (width * _OVERSAMPLE, height * _OVERSAMPLE)
        self._backdrop = _backdrop(scene, *self._size)
        self._sprites: dict[tuple[int, int], Image.Image] = {}

    def frame(self, seconds: float) -> NDArray[np.uint8]:
        """The picture at a moment, uint8 of shape (height, width, 3)."""
        picture = self._backdrop.copy()
        wide, high = self._size
        for index, thing in enumerate(self._scene.objects):
            sprite = self._sprite(index, thing, seconds)
            x, y = thing.centre(seconds)
            corner = (round(x * wide - sprite.width / 2), round(y * high - sprite.height / 2))
            picture.paste(sprite, corner, sprite)
        return np.asarray(picture.reduce(_OVERSAMPLE))

    def _sprite(self, index: int, thing: SceneObject, seconds: float) -> Image.Image:
        # A bird beats its wings twice a second; everything else is drawn once.
        phase = int(seconds * 4) % 2 if thing.kind == "bird" else 0
        if (index, phase) not in self._sprites:
            self._sprites[index, phase] = sprites.draw(
                thing.kind,
                thing.colour,
                height=round(thing.height * self._size[1]),
                facing_left=thing.direction == "left",
                phase=phase,
                dimmed=self._scene.time == "night",
            )
        return self._sprites[index, phase]


def _gradient(top: sprites.Rgb, bottom: sprites.Rgb, width: int, height: int) -> Image.Image:
    share = np.linspace(0.0, 1.0, max(height, 1))[:, None]
    column = (1 - share) * np.array(top) + share * np.array(bottom)
    return Image.fromarray(np.repeat(column[:, None, :], width, axis=1).astype(np.uint8))


def _backdrop(scene: Scene, width: int, height: int) -> Image.Image:
    rng = np.random.default_rng((scene.seed, 1))
    night = scene.time == "night"
    horizon = round(height * _HORIZON)
    shift = rng.integers(-7, 8, 3)

    def tint(colour: sprites.Rgb) -> sprites.Rgb:
        red, green, blue = (int(np.clip(c + s, 0, 255)) for c, s in zip(colour, shift, strict=True))
        return red, green, blue

    sky = ((8, 10, 34), (34, 38, 82)) if night else ((92, 160, 228), (196, 224, 244))
    picture = Image.new("RGB", (width, height))
    picture.paste(_gradient(tint(sky[0]), tint(sky[1]), width, horizon), (0, 0))
    pen = ImageDraw.Draw(picture)
    _sky_body(pen, rng, width, height, night)
    ground = {
        "sea": ((12, 44, 84), (8, 26, 58)) if night else ((60, 140, 190), (22, 88, 150)),
        "road": ((44, 46, 52), (30, 32, 38)) if night else ((128, 128, 132), (96, 96, 102)),
        "field": ((22, 58, 34), (12, 38, 22)) if night else ((134, 190, 92), (84, 148, 62)),
        "city": ((52, 44, 48), (34, 30, 36)) if night else ((190, 178, 164), (150, 140, 130)),
    }[scene.background]
    picture.paste(_gradient(tint(ground[0]), tint(ground[1]), width, height - horizon), (0, horizon))
    _GROUND[scene.background](pen, rng, width, height, horizon, night)
    return picture


def _sky_body(
    pen: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, height: int, night: bool
) -> None:
    radius = height * 0.06
    x, y = float(rng.uniform(0.08, 0.92)) * width, float(rng.uniform(0.09, 0.16)) * height
    if night:
        for _ in range(30):
            a, b = rng.uniform(0, width), rng.uniform(0, height * _HORIZON)
            dot = height * 0.003
            pen.ellipse((a - dot, b - dot, a + dot, b + dot), fill=(210, 214, 230))
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(232, 232, 214))
        pen.ellipse(
            (x - radius * 0.4, y - radius * 1.1, x + radius * 1.4, y + radius * 0.8),
            fill=(12, 14, 40),
        )
        return
    for step in range(12):
        angle = step * math.pi / 6
        pen.line(
            (x, y, x + 1.7 * radius * math.cos(angle), y + 1.7 * radius * math.sin(angle)),
            fill=(255, 226, 130),
            width=max(1, round(height * 0.008)),
        )
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(255, 236, 150))
    for _ in range(int(rng.integers(1, 4))):
        a, b = float(rng.uniform(0, width)), float(rng.uniform(0.2, 0.38)) * height
        for puff in range(4):
            r = height * (0.022 + 0.012 * (puff % 2))
            c = a + puff * height * 0.04
            pen.ellipse((c - r, b - r, c + r, b + r), fill=(240, 246, 250))


def _sea(
    pen: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    width: int,
    height: int,
    horizon: int,
    night: bool,
) -> None:
    crest = (52, 96, 140) if night else (150, 206, 230)
    for _ in range(46):
        y = float(rng.uniform(horizon + 3, height))
        x, near = float(rng.uniform(0, width)), (y - horizon) / (height - horizon)
        half = height * (0.015 + 0.05 * near)
        pen.arc((x - half, y - half / 3, x + half, y + half / 3), 200, 340, fill=crest, width=2)


def _road(
    pen: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    width: int,
    height: int,
    horizon: int,
    night: bool,
) -> None:
    verge = (20, 46, 30) if night else (120, 168, 88)
    pen.rectangle((0, horizon, width, horizon + 0.05 * height), fill=verge)
    paint = (150, 150, 140) if night else (244, 244, 236)
    y, dash = height * 0.93, width * 0.09
    x = -float(rng.uniform(0, 2 * dash))
    while x < width:
        pen.rectangle((x, y, x + dash, y + height * 0.02), fill=paint)
        x += 2 * dash
    for _ in range(3):
        a = float(rng.uniform(0, width))
        pen.rectangle((a, horizon - height * 0.16, a + width * 0.008, horizon + 4), fill=(70, 62, 56))


def _field(
    pen: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    width: int,
    height: int,
    horizon: int,
    night: bool,
) -> None:
    hill = (18, 46, 30) if night else (112, 168, 84)
    for _ in range(3):
        x, half = float(rng.uniform(0, width)), float(rng.uniform(0.2, 0.4)) * width
        rise = float(rng.uniform(0.05, 0.11)) * height
        pen.pieslice((x - half, horizon - rise, x + half, horizon + rise), 180, 360, fill=hill)
    leaf = (16, 64, 36) if night else (58, 124, 52)
    for _ in range(90):
        x, y = float(rng.uniform(0, width)), float(rng.uniform(horizon + 4, height))
        blade = height * 0.018
        pen.line((x, y, x + blade / 2, y - blade), fill=leaf, width=2)


def _city(
    pen: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    width: int,
    height: int,
    horizon: int,
    night: bool,
) -> None:
    x = -float(rng.uniform(0, 0.05)) * width
    while x < width:
        wide = float(rng.uniform(0.06, 0.12)) * width
        top = horizon - float(rng.uniform(0.10, 0.30)) * height
        grey = int(rng.integers(24, 44)) if night else int(rng.integers(120, 170))
        pen.rectangle((x, top, x + wide, horizon), fill=(grey, grey, grey + 14))
        step = height * 0.045
        for row in np.arange(top + step / 2, horizon - step / 2, step).tolist():
            for column in np.arange(x + step / 2, x + wide - step / 2, step).tolist():
                lit = rng.random() < 0.5
                pane = (236, 206, 120) if night and lit else (grey - 20, grey - 14, grey + 6)
                pen.rectangle((column, row, column + step * 0.45, row + step * 0.5), fill=pane)
        x += wide + width * 0.006
    kerb = (88, 82, 84) if night else (222, 214, 202)
    pen.rectangle((0, horizon, width, horizon + 0.03 * height), fill=kerb)


_GROUND = {"sea": _sea, "road": _road, "field": _field, "city": _city}
