"""The things that move through a demo scene, drawn as transparent pictures.

Each drawing lives in a box of its own with x and y from 0 to 1, so that the size is decided by the
caller alone. Imports Pillow only; called by `demo.scenes`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw

Rgb = tuple[int, int, int]

COLOURS: dict[str, Rgb] = {
    "red": (214, 40, 40),
    "blue": (36, 70, 220),
    "green": (24, 150, 60),
    "yellow": (246, 208, 30),
    "white": (246, 246, 246),
    "purple": (140, 50, 170),
}
KINDS = ("boat", "car", "balloon", "bird")

# Width of each drawing in its heights.
ASPECT = {"boat": 1.25, "car": 1.9, "balloon": 0.72, "bird": 1.5}
_DARK: Rgb = (34, 34, 40)
_WOOD: Rgb = (120, 78, 46)
_GLASS: Rgb = (176, 208, 226)


class _Pen:
    """ImageDraw in unit coordinates."""

    def __init__(self, image: Image.Image, dimmed: bool) -> None:
        self._draw = ImageDraw.Draw(image)
        self._width, self._height = image.size
        self._light = 0.82 if dimmed else 1.0

    def _points(self, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(x * (self._width - 1), y * (self._height - 1)) for x, y in points]

    def _lit(self, colour: Rgb) -> Rgb:
        red, green, blue = (round(part * self._light) for part in colour)
        return red, green, blue

    def polygon(self, points: Sequence[tuple[float, float]], colour: Rgb) -> None:
        self._draw.polygon(self._points(points), fill=self._lit(colour), outline=_DARK)

    def ellipse(self, x0: float, y0: float, x1: float, y1: float, colour: Rgb) -> None:
        (a, b), (c, d) = self._points([(x0, y0), (x1, y1)])
        self._draw.ellipse((a, b, c, d), fill=self._lit(colour), outline=_DARK)

    def line(self, points: Sequence[tuple[float, float]], colour: Rgb, width: float) -> None:
        pixels = max(1, round(width * self._height))
        self._draw.line(self._points(points), fill=self._lit(colour), width=pixels)


def _boat(pen: _Pen, colour: Rgb, phase: int) -> None:
    pen.line([(0.50, 0.02), (0.50, 0.72)], _WOOD, 0.035)
    pen.polygon([(0.54, 0.06), (0.54, 0.64), (0.95, 0.64)], colour)
    pen.polygon([(0.46, 0.16), (0.46, 0.64), (0.14, 0.64)], colour)
    pen.polygon([(0.02, 0.70), (0.98, 0.70), (0.84, 0.98), (0.16, 0.98)], colour)
    pen.line([(0.05, 0.77), (0.95, 0.77)], _DARK, 0.03)


def _car(pen: _Pen, colour: Rgb, phase: int) -> None:
    pen.polygon([(0.22, 0.42), (0.34, 0.06), (0.68, 0.06), (0.82, 0.42)], colour)
    pen.polygon([(0.29, 0.40), (0.38, 0.14), (0.49, 0.14), (0.49, 0.40)], _GLASS)
    pen.polygon([(0.53, 0.40), (0.53, 0.14), (0.65, 0.14), (0.75, 0.40)], _GLASS)
    pen.polygon([(0.01, 0.42), (0.94, 0.42), (0.99, 0.58), (0.99, 0.80), (0.01, 0.80)], colour)
    for x in (0.24, 0.76):
        pen.ellipse(x - 0.11, 0.58, x + 0.11, 1.0, _DARK)
        pen.ellipse(x - 0.05, 0.70, x + 0.05, 0.88, (170, 170, 176))
    pen.ellipse(0.93, 0.48, 0.99, 0.60, (255, 244, 190))


def _balloon(pen: _Pen, colour: Rgb, phase: int) -> None:
    pen.line([(0.30, 0.62), (0.42, 0.86)], _DARK, 0.012)
    pen.line([(0.70, 0.62), (0.58, 0.86)], _DARK, 0.012)
    pen.polygon([(0.12, 0.50), (0.88, 0.50), (0.60, 0.76), (0.40, 0.76)], colour)
    pen.ellipse(0.02, 0.0, 0.98, 0.68, colour)
    darker = (colour[0] * 3 // 4, colour[1] * 3 // 4, colour[2] * 3 // 4)
    pen.ellipse(0.36, 0.0, 0.64, 0.68, darker)
    pen.polygon([(0.36, 0.84), (0.64, 0.84), (0.60, 0.99), (0.40, 0.99)], _WOOD)


def _bird(pen: _Pen, colour: Rgb, phase: int) -> None:
    tip, root = (0.02, 0.50) if phase == 0 else (0.98, 0.56)
    pen.polygon([(0.40, root), (0.62, root), (0.42, tip), (0.22, tip)], colour)
    pen.polygon([(0.02, 0.40), (0.30, 0.48), (0.30, 0.60), (0.02, 0.66)], colour)
    pen.ellipse(0.20, 0.36, 0.78, 0.72, colour)
    pen.ellipse(0.66, 0.26, 0.90, 0.58, colour)
    pen.polygon([(0.88, 0.36), (1.0, 0.44), (0.88, 0.48)], (240, 150, 30))
    pen.ellipse(0.79, 0.33, 0.84, 0.41, _DARK)


_DRAW: dict[str, Callable[[_Pen, Rgb, int], None]] = {
    "boat": _boat,
    "car": _car,
    "balloon": _balloon,
    "bird": _bird,
}


def draw(
    kind: str, colour: str, *, height: int, facing_left: bool, phase: int, dimmed: bool
) -> Image.Image:
    """One thing as an RGBA picture ``height`` pixels high; ``phase`` 1 is a bird's lowered wing."""
    width = max(2, round(height * ASPECT[kind]))
    image = Image.new("RGBA", (width, max(2, height)))
    _DRAW[kind](_Pen(image, dimmed), COLOURS[colour], phase)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if facing_left else image
