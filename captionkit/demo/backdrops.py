"""The backgrounds of the demo world: sky and ground, by day, at dusk and at night."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from captionkit.demo.sprites import Rgb

# Factors of red, green and blue by time of day.
LIGHT: dict[str, tuple[float, float, float]] = {
    "day": (1.0, 1.0, 1.0),
    "dusk": (0.97, 0.86, 0.82),
    "night": (0.80, 0.82, 0.88),
}
# Darker than the light on things, which would vanish at night otherwise.
_GROUND_LIGHT = {"day": (1.0, 1.0, 1.0), "dusk": (0.82, 0.62, 0.60), "night": (0.26, 0.30, 0.42)}
_SKY: dict[str, tuple[Rgb, Rgb]] = {
    "day": ((92, 160, 228), (200, 226, 244)),
    "dusk": ((74, 62, 122), (250, 158, 92)),
    "night": ((8, 10, 34), (34, 38, 82)),
}
_GROUND: dict[str, tuple[Rgb, Rgb]] = {
    "sea": ((62, 142, 192), (20, 84, 148)),
    "river": ((126, 180, 96), (92, 148, 70)),
    "field": ((150, 196, 92), (88, 150, 60)),
    "city": ((132, 132, 138), (96, 96, 104)),
    "desert": ((232, 200, 140), (206, 164, 100)),
    "snow": ((236, 242, 248), (206, 218, 232)),
}
_HORIZON = 0.52
# Drawn larger and shrunk afterwards: Pillow's shapes have no smooth edges of their own.
_OVERSAMPLE = 2


@dataclass(frozen=True)
class _Canvas:
    """What every drawing draws with, and the picture's measures in pixels."""

    pen: ImageDraw.ImageDraw
    rng: np.random.Generator
    width: int
    height: int
    horizon: int
    time: str
    light: tuple[float, float, float]

    def lit(self, colour: Rgb) -> Rgb:
        red, green, blue = (round(part * light) for part, light in zip(colour, self.light, strict=True))
        return red, green, blue

    def across(self, share: float) -> int:
        """Scale a number of things in a 16:9 picture to this canvas; at least 1."""
        return max(1, round(share * self.width / self.height * 9 / 16))

    def low(self) -> float:
        """Draw a random y on the ground."""
        return float(self.rng.uniform(self.horizon + 0.03 * self.height, self.height))


def draw(seed: int, background: str, time: str, width: int, height: int, spare: int) -> Image.Image:
    """Draw a backdrop of ``width + spare`` by ``height`` pixels; a panning camera needs the spare."""
    rng = np.random.default_rng((seed, 1))
    wide, high = (width + spare) * _OVERSAMPLE, height * _OVERSAMPLE
    horizon = round(high * _HORIZON)
    shift = rng.integers(-7, 8, 3)

    def tint(colour: Rgb) -> Rgb:
        red, green, blue = (int(np.clip(c + s, 0, 255)) for c, s in zip(colour, shift, strict=True))
        return red, green, blue

    picture = Image.new("RGB", (wide, high))
    pen = ImageDraw.Draw(picture)
    canvas = _Canvas(pen, rng, wide, high, horizon, time, _GROUND_LIGHT[time])
    top, bottom = _SKY[time]
    picture.paste(_gradient(tint(top), tint(bottom), wide, horizon), (0, 0))
    _sky(canvas)
    near, far = (tint(canvas.lit(colour)) for colour in _GROUND[background])
    picture.paste(_gradient(near, far, wide, high - horizon), (0, horizon))
    _DRAW[background](canvas)
    return picture.reduce(_OVERSAMPLE)


def _gradient(top: Rgb, bottom: Rgb, width: int, height: int) -> Image.Image:
    share = np.linspace(0.0, 1.0, max(height, 1))[:, None]
    column = (1 - share) * np.array(top) + share * np.array(bottom)
    return Image.fromarray(np.repeat(column[:, None, :], width, axis=1).astype(np.uint8))


def _sky(canvas: _Canvas) -> None:
    pen, rng, height = canvas.pen, canvas.rng, canvas.height
    radius = height * 0.06
    x = float(rng.uniform(0.08, 0.92)) * canvas.width
    y = float(rng.uniform(0.09, 0.16)) * height
    if canvas.time == "night":
        for _ in range(canvas.across(36)):
            a, b = float(rng.uniform(0, canvas.width)), float(rng.uniform(0, canvas.horizon))
            dot = height * 0.003
            pen.ellipse((a - dot, b - dot, a + dot, b + dot), fill=(210, 214, 230))
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(232, 232, 214))
        shadow = (x - radius * 0.4, y - radius * 1.1, x + radius * 1.4, y + radius * 0.8)
        pen.ellipse(shadow, fill=(12, 14, 40))
        return
    if canvas.time == "dusk":
        y, radius = canvas.horizon - height * 0.04, height * 0.09
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(255, 206, 120))
    else:
        for step in range(12):
            angle = step * math.pi / 6
            tip = (x + 1.7 * radius * math.cos(angle), y + 1.7 * radius * math.sin(angle))
            pen.line((x, y, *tip), fill=(255, 226, 130), width=max(1, round(height * 0.008)))
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(255, 236, 150))
    cloud = (240, 246, 250) if canvas.time == "day" else (214, 140, 130)
    for _ in range(canvas.across(float(rng.integers(1, 4)))):
        a, b = float(rng.uniform(0, canvas.width)), float(rng.uniform(0.2, 0.38)) * height
        for puff in range(4):
            r = height * (0.022 + 0.012 * (puff % 2))
            c = a + puff * height * 0.04
            pen.ellipse((c - r, b - r, c + r, b + r), fill=cloud)


def _waves(canvas: _Canvas, top: float, bottom: float, share: float) -> None:
    crest = canvas.lit((170, 216, 236))
    for _ in range(canvas.across(share)):
        y = float(canvas.rng.uniform(top, bottom))
        x, near = float(canvas.rng.uniform(0, canvas.width)), (y - canvas.horizon) / canvas.height
        half = canvas.height * (0.015 + 0.09 * near)
        box = (x - half, y - half / 3, x + half, y + half / 3)
        canvas.pen.arc(box, 200, 340, fill=crest, width=max(1, canvas.height // 150))


def _sea(canvas: _Canvas) -> None:
    _waves(canvas, canvas.horizon + 3, canvas.height, 50)
    for _ in range(canvas.across(1)):
        x, half = float(canvas.rng.uniform(0, canvas.width)), canvas.height * 0.14
        rise = canvas.height * float(canvas.rng.uniform(0.03, 0.07))
        box = (x - half, canvas.horizon - rise, x + half, canvas.horizon + rise)
        canvas.pen.pieslice(box, 180, 360, fill=canvas.lit((96, 128, 110)))


def _river(canvas: _Canvas) -> None:
    top, bottom = canvas.horizon + canvas.height * 0.10, canvas.height * 0.95
    canvas.pen.rectangle((0, top, canvas.width, bottom), fill=canvas.lit((56, 128, 176)))
    bank = canvas.lit((150, 122, 84))
    for y in (top, bottom):
        canvas.pen.line((0, y, canvas.width, y), fill=bank, width=max(2, canvas.height // 50))
    _waves(canvas, top + canvas.height * 0.03, bottom - canvas.height * 0.03, 26)
    for _ in range(canvas.across(9)):
        x, r = float(canvas.rng.uniform(0, canvas.width)), canvas.height * 0.045
        y = canvas.horizon + canvas.height * float(canvas.rng.uniform(-0.03, 0.02))
        canvas.pen.rectangle((x - r / 5, y, x + r / 5, y + 1.6 * r), fill=canvas.lit((104, 76, 50)))
        canvas.pen.ellipse((x - r, y - 1.6 * r, x + r, y + r / 2), fill=canvas.lit((50, 112, 54)))


def _field(canvas: _Canvas) -> None:
    rng, height = canvas.rng, canvas.height
    for _ in range(canvas.across(3)):
        x, half = float(rng.uniform(0, canvas.width)), float(rng.uniform(0.35, 0.7)) * height
        rise = float(rng.uniform(0.05, 0.11)) * height
        box = (x - half, canvas.horizon - rise, x + half, canvas.horizon + rise)
        canvas.pen.pieslice(box, 180, 360, fill=canvas.lit((118, 172, 84)))
    for _ in range(canvas.across(90)):
        x, y, blade = float(rng.uniform(0, canvas.width)), canvas.low(), height * 0.018
        stroke = max(1, height // 180)
        canvas.pen.line((x, y, x + blade / 2, y - blade), fill=canvas.lit((62, 126, 52)), width=stroke)
    for _ in range(canvas.across(16)):
        x, y, r = float(rng.uniform(0, canvas.width)), canvas.low(), height * 0.006
        canvas.pen.ellipse((x - r, y - r, x + r, y + r), fill=canvas.lit((250, 236, 160)))


def _city(canvas: _Canvas) -> None:
    pen, rng, height, horizon = canvas.pen, canvas.rng, canvas.height, canvas.horizon
    x = -float(rng.uniform(0, 0.1)) * height
    while x < canvas.width:
        wide = float(rng.uniform(0.11, 0.22)) * height
        top = horizon - float(rng.uniform(0.10, 0.32)) * height
        grey = int(rng.integers(120, 175))
        wall = canvas.lit((grey, grey, grey + 14))
        pen.rectangle((x, top, x + wide, horizon), fill=wall)
        step = height * 0.05
        for row in np.arange(top + step / 2, horizon - step / 2, step).tolist():
            for column in np.arange(x + step / 2, x + wide - step / 2, step).tolist():
                lit = canvas.time != "day" and rng.random() < 0.45
                pane = (240, 206, 120) if lit else canvas.lit((grey - 40, grey - 30, grey - 4))
                pen.rectangle((column, row, column + step * 0.45, row + step * 0.5), fill=pane)
        x += wide + height * 0.01
    pen.rectangle((0, horizon, canvas.width, horizon + 0.04 * height), fill=canvas.lit((206, 200, 192)))
    y, dash = height * 0.80, height * 0.12
    x = -float(rng.uniform(0, 2 * dash))
    while x < canvas.width:
        pen.rectangle((x, y, x + dash, y + height * 0.016), fill=canvas.lit((240, 240, 232)))
        x += 2 * dash


def _desert(canvas: _Canvas) -> None:
    pen, rng, height = canvas.pen, canvas.rng, canvas.height
    for _ in range(canvas.across(3)):
        x, half = float(rng.uniform(0, canvas.width)), float(rng.uniform(0.3, 0.6)) * height
        rise = float(rng.uniform(0.06, 0.16)) * height
        tip = (x + half * float(rng.uniform(-0.3, 0.3)), canvas.horizon - rise)
        left, right = (x - half, canvas.horizon), (x + half, canvas.horizon)
        pen.polygon([left, tip, right], fill=canvas.lit((216, 176, 116)))
        pen.polygon(
            [tip, right, (tip[0] + half * 0.1, canvas.horizon)], fill=canvas.lit((190, 146, 92))
        )
    for _ in range(canvas.across(26)):
        x, y, half = float(rng.uniform(0, canvas.width)), canvas.low(), height * 0.05
        box = (x - half, y - half / 4, x + half, y + half / 4)
        pen.arc(box, 190, 350, fill=canvas.lit((188, 146, 88)), width=max(1, height // 180))
    for _ in range(canvas.across(5)):
        x, y, tall = float(rng.uniform(0, canvas.width)), canvas.low(), height * 0.07
        stem, green = max(2, round(height * 0.016)), canvas.lit((70, 122, 70))
        pen.line((x, y, x, y - tall), fill=green, width=stem)
        arm = [(x, y - tall * 0.4), (x + tall * 0.3, y - tall * 0.4), (x + tall * 0.3, y - tall * 0.8)]
        pen.line(arm, fill=green, width=stem)


def _snow(canvas: _Canvas) -> None:
    pen, rng, height = canvas.pen, canvas.rng, canvas.height
    for _ in range(canvas.across(4)):
        x, half = float(rng.uniform(0, canvas.width)), float(rng.uniform(0.2, 0.4)) * height
        rise = float(rng.uniform(0.14, 0.28)) * height
        tip = (x, canvas.horizon - rise)
        pen.polygon(
            [(x - half, canvas.horizon), tip, (x + half, canvas.horizon)],
            fill=canvas.lit((128, 140, 160)),
        )
        cap = [(x - half * 0.4, canvas.horizon - rise * 0.6), tip]
        cap.append((x + half * 0.4, canvas.horizon - rise * 0.6))
        pen.polygon(cap, fill=canvas.lit((250, 252, 255)))
    for _ in range(canvas.across(12)):
        x, y, tall = float(rng.uniform(0, canvas.width)), canvas.low(), height * 0.06
        tree = [(x - tall * 0.35, y), (x, y - tall), (x + tall * 0.35, y)]
        pen.polygon(tree, fill=canvas.lit((60, 104, 88)))
    for _ in range(canvas.across(24)):
        x, y, half = float(rng.uniform(0, canvas.width)), canvas.low(), height * 0.06
        box = (x - half, y - half / 5, x + half, y + half / 5)
        pen.arc(box, 190, 350, fill=canvas.lit((176, 194, 216)), width=max(1, height // 180))


_DRAW: dict[str, Callable[[_Canvas], None]] = {
    "sea": _sea,
    "river": _river,
    "field": _field,
    "city": _city,
    "desert": _desert,
    "snow": _snow,
}
