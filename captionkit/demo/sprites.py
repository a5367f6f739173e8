"""The things that move through a demo scene, drawn as transparent pictures.

Each drawing fills a box with x and y from 0 to 1, so that the caller decides its size, and looks to the
right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PIL import Image, ImageColor, ImageDraw

Rgb = tuple[int, int, int]

COLOURS: dict[str, Rgb] = {
    "red": (214, 40, 40),
    "blue": (36, 70, 220),
    "green": (24, 150, 60),
    "yellow": (246, 208, 30),
    "white": (246, 246, 246),
    "purple": (140, 50, 170),
}
KINDS = ("boat", "car", "bus", "dog", "balloon", "bird", "plane", "kite")

# Width of each drawing as a multiple of its height.
ASPECT = {
    "boat": 1.25,
    "car": 1.9,
    "bus": 1.7,
    "dog": 1.4,
    "balloon": 0.72,
    "bird": 1.5,
    "plane": 1.9,
    "kite": 0.8,
}
_DARK: Rgb = (34, 34, 40)
_WOOD: Rgb = (120, 78, 46)
_GLASS: Rgb = (176, 208, 226)
_STEEL: Rgb = (170, 170, 176)


class _Pen:
    """ImageDraw in unit coordinates."""

    def __init__(self, image: Image.Image, light: Sequence[float]) -> None:
        self._draw = ImageDraw.Draw(image)
        self._width, self._height = image.size
        self._light = light
        self._edge = max(1, image.height // 60)

    def _points(self, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(x * (self._width - 1), y * (self._height - 1)) for x, y in points]

    def _lit(self, colour: Rgb) -> Rgb:
        red, green, blue = (
            min(255, round(part * light)) for part, light in zip(colour, self._light, strict=True)
        )
        return red, green, blue

    def polygon(self, points: Sequence[tuple[float, float]], colour: Rgb) -> None:
        self._draw.polygon(
            self._points(points), fill=self._lit(colour), outline=_DARK, width=self._edge
        )

    def ellipse(self, x0: float, y0: float, x1: float, y1: float, colour: Rgb) -> None:
        (a, b), (c, d) = self._points([(x0, y0), (x1, y1)])
        self._draw.ellipse((a, b, c, d), fill=self._lit(colour), outline=_DARK, width=self._edge)

    def line(self, points: Sequence[tuple[float, float]], colour: Rgb, width: float) -> None:
        pixels = max(1, round(width * self._height))
        self._draw.line(self._points(points), fill=self._lit(colour), width=pixels, joint="curve")


def _darker(colour: Rgb) -> Rgb:
    return colour[0] * 3 // 4, colour[1] * 3 // 4, colour[2] * 3 // 4


def _wheel(pen: _Pen, x: float, radius: float, high: float) -> None:
    pen.ellipse(x - radius, 1 - 2 * high, x + radius, 1.0, _DARK)
    pen.ellipse(x - radius * 0.45, 1 - 1.45 * high, x + radius * 0.45, 1 - 0.55 * high, _STEEL)


def _boat(pen: _Pen, colour: Rgb, phase: int) -> None:
    pen.line([(0.50, 0.02), (0.50, 0.72)], _WOOD, 0.035)
    pen.polygon([(0.54, 0.06), (0.54, 0.64), (0.95, 0.64)], colour)
    pen.polygon([(0.46, 0.16), (0.46, 0.64), (0.14, 0.64)], _darker(colour))
    pen.polygon([(0.02, 0.70), (0.98, 0.70), (0.84, 0.98), (0.16, 0.98)], colour)
    pen.line([(0.05, 0.77), (0.95, 0.77)], _DARK, 0.03)


def _car(pen: _Pen, colour: Rgb, phase: int) -> None:
    pen.polygon([(0.22, 0.42), (0.34, 0.06), (0.68, 0.06), (0.82, 0.42)], colour)
    pen.polygon([(0.29, 0.40), (0.38, 0.14), (0.49, 0.14), (0.49, 0.40)], _GLASS)
    pen.polygon([(0.53, 0.40), (0.53, 0.14), (0.65, 0.14), (0.75, 0.40)], _GLASS)
    pen.polygon([(0.01, 0.42), (0.94, 0.42), (0.99, 0.58), (0.99, 0.80), (0.01, 0.80)], colour)
    for x in (0.24, 0.76):
        _wheel(pen, x, 0.11, 0.21)
    pen.ellipse(0.93, 0.48, 0.99, 0.60, (255, 244, 190))


def _bus(pen: _Pen, colour: Rgb, phase: int) -> None:
    pen.polygon([(0.01, 0.04), (0.94, 0.04), (0.99, 0.12), (0.99, 0.84), (0.01, 0.84)], colour)
    for x in (0.05, 0.22, 0.39, 0.56):
        pen.polygon([(x, 0.14), (x + 0.14, 0.14), (x + 0.14, 0.42), (x, 0.42)], _GLASS)
    pen.polygon([(0.76, 0.14), (0.97, 0.14), (0.97, 0.48), (0.76, 0.48)], _GLASS)
    pen.line([(0.02, 0.56), (0.98, 0.56)], _darker(colour), 0.06)
    for x in (0.22, 0.78):
        _wheel(pen, x, 0.09, 0.15)
    pen.ellipse(0.94, 0.62, 0.99, 0.71, (255, 244, 190))


def _dog(pen: _Pen, colour: Rgb, phase: int) -> None:
    stride = 0.06 if phase else -0.02
    for x, swing in ((0.24, -stride), (0.34, stride), (0.60, -stride), (0.70, stride)):
        pen.line([(x, 0.58), (x + swing, 0.98)], _darker(colour), 0.10)
    pen.line([(0.18, 0.46), (0.03, 0.20 + stride)], colour, 0.09)
    pen.ellipse(0.12, 0.36, 0.78, 0.72, colour)
    pen.polygon([(0.64, 0.48), (0.70, 0.16), (0.84, 0.16), (0.80, 0.56)], colour)
    pen.ellipse(0.66, 0.06, 0.94, 0.40, colour)
    pen.polygon([(0.84, 0.20), (1.0, 0.25), (1.0, 0.33), (0.84, 0.38)], colour)
    pen.polygon([(0.68, 0.08), (0.62, 0.34), (0.73, 0.28)], _darker(colour))
    pen.ellipse(0.82, 0.15, 0.86, 0.21, _DARK)
    pen.ellipse(0.96, 0.24, 1.0, 0.29, _DARK)


def _balloon(pen: _Pen, colour: Rgb, phase: int) -> None:
    pen.line([(0.30, 0.62), (0.42, 0.86)], _DARK, 0.012)
    pen.line([(0.70, 0.62), (0.58, 0.86)], _DARK, 0.012)
    pen.polygon([(0.12, 0.50), (0.88, 0.50), (0.60, 0.76), (0.40, 0.76)], colour)
    pen.ellipse(0.02, 0.0, 0.98, 0.68, colour)
    pen.ellipse(0.36, 0.0, 0.64, 0.68, _darker(colour))
    pen.polygon([(0.36, 0.84), (0.64, 0.84), (0.60, 0.99), (0.40, 0.99)], _WOOD)


def _bird(pen: _Pen, colour: Rgb, phase: int) -> None:
    tip, root = (0.02, 0.50) if phase == 0 else (0.98, 0.56)
    pen.polygon([(0.02, 0.40), (0.30, 0.48), (0.30, 0.60), (0.02, 0.66)], colour)
    pen.ellipse(0.20, 0.36, 0.78, 0.72, colour)
    pen.ellipse(0.66, 0.26, 0.90, 0.58, colour)
    pen.polygon([(0.40, root), (0.62, root), (0.42, tip), (0.22, tip)], _darker(colour))
    pen.polygon([(0.88, 0.36), (1.0, 0.44), (0.88, 0.48)], (240, 150, 30))
    pen.ellipse(0.79, 0.33, 0.84, 0.41, _DARK)


def _plane(pen: _Pen, colour: Rgb, phase: int) -> None:
    pen.polygon([(0.03, 0.04), (0.13, 0.04), (0.26, 0.44), (0.05, 0.44)], colour)
    pen.polygon([(0.03, 0.40), (0.84, 0.36), (0.99, 0.52), (0.86, 0.62), (0.10, 0.60)], colour)
    pen.polygon([(0.40, 0.50), (0.64, 0.50), (0.34, 0.98), (0.24, 0.98)], _darker(colour))
    for x in (0.30, 0.40, 0.50, 0.60, 0.70):
        pen.ellipse(x, 0.41, x + 0.035, 0.48, _GLASS)
    pen.polygon([(0.82, 0.40), (0.88, 0.40), (0.93, 0.47), (0.82, 0.47)], _GLASS)


def _kite(pen: _Pen, colour: Rgb, phase: int) -> None:
    sway = 0.10 if phase else -0.10
    pen.line([(0.5, 0.66), (0.5 + sway, 0.80), (0.5 - sway, 0.90), (0.5, 0.99)], _DARK, 0.02)
    for y, x in ((0.80, 0.5 + sway), (0.90, 0.5 - sway)):
        pen.polygon(
            [(x - 0.12, y - 0.03), (x + 0.12, y + 0.03), (x + 0.12, y - 0.03), (x - 0.12, y + 0.03)],
            colour,
        )
    pen.polygon([(0.5, 0.0), (0.98, 0.26), (0.5, 0.68), (0.02, 0.26)], colour)
    pen.polygon([(0.5, 0.0), (0.98, 0.26), (0.5, 0.26)], _darker(colour))
    pen.polygon([(0.02, 0.26), (0.5, 0.26), (0.5, 0.68)], _darker(colour))


_DRAW: dict[str, Callable[[_Pen, Rgb, int], None]] = {
    "boat": _boat,
    "car": _car,
    "bus": _bus,
    "dog": _dog,
    "balloon": _balloon,
    "bird": _bird,
    "plane": _plane,
    "kite": _kite,
}
# Kinds that beat wings, move legs or sway.
LIVELY = ("dog", "bird", "kite")


def draw(
    kind: str,
    colour: str,
    *,
    height: int,
    faces_left: bool,
    phase: int,
    light: Sequence[float] = (1.0, 1.0, 1.0),
) -> Image.Image:
    """Draw one thing as an RGBA picture ``height`` pixels high.

    ``colour`` is one of `COLOURS` or ``#rrggbb``, ``phase`` (0 or 1) that of wings, legs or tail,
    ``light`` a factor for each colour channel.
    """
    width = max(2, round(height * ASPECT[kind]))
    image = Image.new("RGBA", (width, max(2, height)))
    red, green, blue = COLOURS.get(colour) or ImageColor.getrgb(colour)[:3]
    _DRAW[kind](_Pen(image, light), (red, green, blue), phase)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if faces_left else image
