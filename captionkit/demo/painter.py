"""Draws demo scenes, at any size and moment."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captionkit.demo import backdrops, sprites
from captionkit.demo.scenes import Scene, SceneObject

# Drawn larger and shrunk afterwards: Pillow's shapes have no smooth edges of their own.
_OVERSAMPLE = 4
_GRAIN = 1.5


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
        self._size = width, height
        turn = scene.pan * scene.duration
        self._leftmost = min(0.0, turn)
        spare = round(abs(turn) * width) + 2 if turn else 0
        backdrop = backdrops.draw(scene.seed, scene.background, scene.time, width, height, spare)
        self._backdrop = np.asarray(backdrop)
        # One cloth of grain, shifted for each picture: drawing a new one is far slower.
        rng = np.random.default_rng((scene.seed, 3))
        cloth = rng.normal(0.0, _GRAIN, (height + 32, width + 32, 1))
        self._grain = cloth.round().astype(np.int16)
        self._sprites: dict[tuple[int, int, bool, int, int], Image.Image] = {}

    def frame(self, seconds: float) -> NDArray[np.uint8]:
        """Draw the picture at a moment, uint8 of shape (height, width, 3)."""
        wide, high = self._size
        picture = Image.fromarray(self._view(seconds))
        nearest_last = sorted(
            range(len(self._scene.objects)),
            key=lambda index: self._scene.objects[index].y + self._scene.objects[index].height / 2,
        )
        for index in nearest_last:
            thing = self._scene.objects[index]
            x, y = self._scene.centre(index, seconds)
            left = x * wide - thing.height * high * sprites.ASPECT[thing.kind] / 2
            top = (y - thing.height / 2) * high
            sprite = self._sprite(index, thing, seconds, left % 1, top % 1)
            picture.paste(sprite, (int(left // 1), int(top // 1)), sprite)
        shift = np.random.default_rng((self._scene.seed, 4, round(seconds * 1000))).integers(0, 32, 2)
        grain = self._grain[shift[0] : shift[0] + high, shift[1] : shift[1] + wide]
        return (np.asarray(picture) + grain).clip(0, 255).astype(np.uint8)

    def _view(self, seconds: float) -> NDArray[np.uint8]:
        """Cut out what the camera sees of the backdrop, to a fraction of a pixel."""
        wide = self._size[0]
        left = (self._scene.pan * seconds - self._leftmost) * wide
        first = min(max(int(left), 0), self._backdrop.shape[1] - wide)
        view = self._backdrop[:, first : first + wide]
        part = round((left - first) * 256)
        if part <= 0 or first + wide >= self._backdrop.shape[1]:
            return view
        beside = self._backdrop[:, first + 1 : first + 1 + wide].astype(np.uint16)
        return ((view.astype(np.uint16) * (256 - part) + beside * part) >> 8).astype(np.uint8)

    def _sprite(
        self, index: int, thing: SceneObject, seconds: float, right: float, down: float
    ) -> Image.Image:
        """Draw a thing as it looks at a moment, moved by a fraction of a pixel."""
        phase = int(seconds * 4) % 2 if thing.kind in sprites.LIVELY else 0
        if thing.kind == "dog" and thing.direction_at(seconds) == "still":
            phase = 0
        offset = round(right * (_OVERSAMPLE - 1)), round(down * (_OVERSAMPLE - 1))
        left = thing.faces_left_at(seconds)
        key = (index, phase, left, *offset)
        if key not in self._sprites:
            drawn = sprites.draw(
                thing.kind,
                thing.colour,
                height=round(thing.height * self._size[1] * _OVERSAMPLE),
                faces_left=left,
                phase=phase,
                light=backdrops.LIGHT[self._scene.time],
            )
            canvas = Image.new("RGBA", (drawn.width + 2 * _OVERSAMPLE, drawn.height + 2 * _OVERSAMPLE))
            canvas.paste(drawn, offset)
            # Premultiply: edges would turn black, the colour of transparent pixels.
            self._sprites[key] = canvas.convert("RGBa").reduce(_OVERSAMPLE).convert("RGBA")
        return self._sprites[key]
