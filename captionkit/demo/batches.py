"""Endless training batches of rendered scenes, made in a process of their own beside the training.

Imports numpy, Pillow, torch's data loader and the demo world; called by `demo.train`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset

from captionkit.demo.language import conversation
from captionkit.demo.scenes import BACKGROUNDS, DIRECTIONS, SIZES, TIMES, Painter, Scene
from captionkit.demo.sprites import ASPECT, COLOURS, KINDS

# Training draws its seeds above this; evaluation and the sample videos stay below.
FIRST_TRAINING_SEED = 1_000_000
WIDTH, HEIGHT = 196, 112
# One video token covers 28 x 28 pixels.
TOKEN_ROWS, TOKEN_COLUMNS = HEIGHT // 28, WIDTH // 28
# The size of the sample videos; some scenes are drawn so and shrunk, as the served ones are.
_VIDEO_SIZE = (640, 360)

FACT_VALUES: dict[str, tuple[str, ...]] = {
    "kind": KINDS,
    "colour": tuple(COLOURS),
    "direction": DIRECTIONS,
    "size": SIZES,
    "background": BACKGROUNDS,
    "time": TIMES,
}


@dataclass(frozen=True)
class Batch:
    """Frames as uint8 of shape (batch, frames, 3, height, width), with what is true of them.

    ``places`` tells the video tokens of the first step that show the object, shape (batch, tokens).
    """

    frames: NDArray[np.uint8]
    places: NDArray[np.bool_]
    seconds_per_step: float
    facts: dict[str, NDArray[np.int64]]
    conversations: list[tuple[str, str]]


class SceneBatches(IterableDataset[Batch]):
    """Batches of fresh scenes; never the same scene twice.

    Parameters
    ----------
    batch_size
        Scenes a batch.
    frame_counts
        Even numbers of frames to draw from, one number a batch.
    first_seed
        Where to go on; a resumed training passes what it has seen.
    """

    def __init__(self, batch_size: int, frame_counts: tuple[int, ...], first_seed: int) -> None:
        self._batch_size = batch_size
        self._frame_counts = frame_counts
        self._first_seed = first_seed

    def __iter__(self) -> Iterator[Batch]:
        seed = self._first_seed
        while True:
            yield self._batch(seed)
            seed += self._batch_size

    def _batch(self, seed: int) -> Batch:
        rng = np.random.default_rng((seed, 2))
        count = int(rng.choice(self._frame_counts))
        scenes = [Scene.random(seed + offset) for offset in range(self._batch_size)]
        duration = scenes[0].duration
        gap = min(float(rng.uniform(0.35, 1.10)), duration / (count - 1))
        slack = max(0.0, duration - gap * (count - 1))
        begins = [float(rng.uniform(0, slack)) for _ in scenes]
        films = [
            _film(scene, [begin + gap * step for step in range(count)], rng)
            for scene, begin in zip(scenes, begins, strict=True)
        ]
        places = [_place(scene, begin + gap / 2) for scene, begin in zip(scenes, begins, strict=True)]
        facts = {
            name: np.array([values.index(_value(scene, name)) for scene in scenes])
            for name, values in FACT_VALUES.items()
        }
        talks = [conversation(scene, scenes[place - 1], rng) for place, scene in enumerate(scenes)]
        return Batch(np.stack(films), np.stack(places), 2 * gap, facts, talks)


def loader(batch_size: int, frame_counts: tuple[int, ...], first_seed: int) -> Iterator[Batch]:
    """`SceneBatches`, drawn ahead in one process of their own."""
    batches = SceneBatches(batch_size, frame_counts, first_seed)
    return iter(DataLoader(batches, batch_size=None, num_workers=1, prefetch_factor=4))


def _value(scene: Scene, name: str) -> Any:
    return getattr(scene if name in ("background", "time") else scene.objects[0], name)


def _place(scene: Scene, moment: float) -> NDArray[np.bool_]:
    """The tokens of which the object's box covers a good part, and the one at its centre."""
    thing = scene.objects[0]
    x, y = thing.centre(moment)
    half_y = thing.height / 2
    half_x = half_y * ASPECT[thing.kind] * HEIGHT / WIDTH
    across = _cover(x - half_x, x + half_x, TOKEN_COLUMNS)
    down = _cover(y - half_y, y + half_y, TOKEN_ROWS)
    covered = np.outer(down, across) > 0.4
    row = int(np.clip(y * TOKEN_ROWS, 0, TOKEN_ROWS - 1))
    column = int(np.clip(x * TOKEN_COLUMNS, 0, TOKEN_COLUMNS - 1))
    covered[row, column] = True
    return covered.ravel()


def _cover(low: float, high: float, cells: int) -> NDArray[np.float64]:
    """The part of each of ``cells`` equal cells of [0, 1] that [low, high] covers."""
    edges = np.arange(cells) / cells
    return ((np.minimum(high, edges + 1 / cells) - np.maximum(low, edges)) * cells).clip(0, 1)


def _film(scene: Scene, moments: list[float], rng: np.random.Generator) -> NDArray[np.uint8]:
    if rng.random() < 0.1:
        painter = Painter(scene, *_VIDEO_SIZE)
        pictures = [
            np.asarray(
                Image.fromarray(painter.frame(moment)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
            )
            for moment in moments
        ]
    else:
        painter = Painter(scene, WIDTH, HEIGHT)
        pictures = [painter.frame(moment) for moment in moments]
    film = np.stack(pictures).astype(np.float32)
    # What cameras and codecs do: other light, another contrast, grain.
    film = (film - 128) * rng.uniform(0.92, 1.06) + 128 + rng.uniform(-8, 8)
    film += rng.normal(0, rng.uniform(0, 3), film.shape[1:]).astype(np.float32)
    return np.ascontiguousarray(film.clip(0, 255).astype(np.uint8).transpose(0, 3, 1, 2))
