"""Endless training batches of rendered scenes, made in a process of their own beside the training."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset

from captionkit.demo.painter import Painter
from captionkit.demo.scenes import (
    BACKGROUNDS,
    CAMERAS,
    DIRECTIONS,
    EVENTS,
    SIZES,
    TIMES,
    Scene,
    held_out,
)
from captionkit.demo.sprites import COLOURS, KINDS
from captionkit.demo.talks import Talk, talks

# First seed of training; evaluation and the sample videos stay below.
FIRST_TRAINING_SEED = 1_000_000
# Sizes of a 16:9 and of a 4:3 video within the demo model's pixel budget.
SHAPES = ((196, 112), (168, 140))
# Side of the square that a video token covers, in pixels.
TOKEN = 28
# Height of the sample videos; some scenes are drawn in it and shrunk, as served ones are.
_VIDEO_HEIGHT = 360
_SCENE_SECONDS = 256 / 30
_SECOND_LESSON = 10_000_000
_GENERATION = 200_000_000
# Steps in which the first lesson goes from one thing before a still camera to random scenes. With
# random scenes from the start, kind and direction were at 48% after 500 steps.
_EASY_STEPS = 500
# Share of scenes with unrelated kind, colour and background. Without them the tower learns which
# combinations are likely: it took one in six unseen ones for another kind.
_ODD_FILMS = {"vision": 0.4, "answers": 0.15}
# Share of films that are wished to have an event: claims about order need two.
_EVENTFUL = 0.45
# Colours that captions have no name for.
_NAMELESS = (
    (240, 130, 20),
    (240, 140, 195),
    (30, 190, 190),
    (120, 72, 40),
    (128, 128, 128),
    (30, 30, 34),
    (160, 225, 50),
    (150, 200, 245),
)

OBJECT_FACTS: dict[str, tuple[str, ...]] = {
    "kind": KINDS,
    "colour": tuple(COLOURS),
    "direction": DIRECTIONS,
    "size": SIZES,
}
SCENE_FACTS: dict[str, tuple[str, ...]] = {
    "background": BACKGROUNDS,
    "time": TIMES,
    "camera": CAMERAS,
}
NOTHING = -100
# Moments that a video token is asked for, in steps of so many seconds.
MOMENT_S, MOMENTS = 0.5, 20


@dataclass(frozen=True)
class Batch:
    """Frames as uint8 of shape (films, frames, 3, height, width), with what is true of them.

    ``facts`` maps a fact to the index of its value at each video token, of shape (films, tokens),
    `NOTHING` where there is not a thing. In the second lesson these are moments: ``now``, and
    ``happened``, when the event of the thing here happened, 0 before. ``talks`` holds what is said
    about each film.
    """

    frames: NDArray[np.uint8]
    seconds_per_step: float
    facts: dict[str, NDArray[np.int64]]
    talks: list[list[Talk]]


class SceneBatches(IterableDataset[Batch]):
    """Batches of scenes; none comes twice.

    Parameters
    ----------
    lesson
        ``"vision"`` (pairs of frames with facts) or ``"answers"`` (films with talks).
    scenes
        Scenes in a batch.
    first_step
        Step of the first batch; a resumed training passes the steps that it has done.
    generation
        Trainings behind the weights that this training starts from; each has scenes of its own.
    """

    def __init__(self, lesson: str, scenes: int, first_step: int, generation: int = 0) -> None:
        self._make = _vision_batch if lesson == "vision" else _answer_batch
        self._scenes = scenes
        self._first_step = first_step
        self._first_seed = FIRST_TRAINING_SEED + (0 if lesson == "vision" else _SECOND_LESSON)
        self._first_seed += generation * _GENERATION

    def __iter__(self) -> Iterator[Batch]:
        for step in itertools.count(self._first_step):
            seed = self._first_seed + step * self._scenes
            rng = np.random.default_rng((seed, 2))
            yield self._make(rng, range(seed, seed + self._scenes), step)


def loader(lesson: str, scenes: int, first_step: int, generation: int) -> Iterator[Batch]:
    """Iterate over `SceneBatches`, made ahead in a process of their own."""
    batches = SceneBatches(lesson, scenes, first_step, generation)
    return iter(DataLoader(batches, batch_size=None, num_workers=1, prefetch_factor=4))


def _shape(rng: np.random.Generator) -> tuple[int, int]:
    return SHAPES[int(rng.random() < 0.15)]


def _vision_batch(rng: np.random.Generator, seeds: range, step: int) -> Batch:
    size = _shape(rng)
    films, facts = [], []
    for seed in seeds:
        easy = rng.random() < 1 - step / _EASY_STEPS
        like: dict[str, Any] = {"count": 1, "camera": "still"} if easy else {}
        scene = Scene.random(seed, float(rng.uniform(4, 9)), like=like)
        if rng.random() < _ODD_FILMS["vision"]:
            scene = odd(scene, rng, nameless=0.6)
        gap = float(rng.uniform(0.35, 1.30))
        first = float(rng.uniform(0, scene.duration - gap))
        films.append(_Look(scene, size, rng).film([first, first + gap]))
        facts.append(_facts(scene, first + gap / 2, size))
    joined = {name: np.stack([each[name] for each in facts]) for name in facts[0]}
    return Batch(np.stack(films), 1.0, joined, [])


def _answer_batch(rng: np.random.Generator, seeds: range, step: int) -> Batch:
    size = _shape(rng)
    duration, rate = _SCENE_SECONDS, 2.0
    draw = rng.random()
    if draw < 0.2:
        rate = 1.0
    elif draw < 0.5:
        duration, rate = float(rng.uniform(4, 9)), float(rng.uniform(1.0, 2.4))
    # Samples of a window: their number, spread from its first frame to its last.
    count = max(4, int(duration * rate) // 2 * 2)
    moments = np.linspace(0, duration - 1 / 30, count).tolist()
    films, facts, said = [], [], []
    for seed in seeds:
        scene = Scene.random(seed, duration, like=_eventful(rng))
        if rng.random() < _ODD_FILMS["answers"]:
            scene = odd(scene, rng, nameless=0.0)
        films.append(_Look(scene, size, rng).film(moments))
        facts.append(film_moments(scene, moments, size))
        said.append(talks(scene, rng))
    joined = {name: np.stack([each[name] for each in facts]) for name in facts[0]}
    # The processor's rule: a step's share of the window, not the gap between its frames.
    return Batch(np.stack(films), 2 * duration / count, joined, said)


def _eventful(rng: np.random.Generator) -> dict[str, Any]:
    """Wish, for some scenes, for an event, and for what it needs: mostly a still camera."""
    if rng.random() >= _EVENTFUL:
        return {}
    event = str(rng.choice(EVENTS))
    wish = {"event": event, "count": int(rng.integers(2, 4))}
    return wish if event in ("stops", "turns") else {**wish, "camera": "still"}


def odd(scene: Scene, rng: np.random.Generator, nameless: float) -> Scene:
    """Replace a scene's things by things of any kind, some in colours without a name.

    Combinations that are `held_out` stay out. A scene in which one thing overtakes another is returned
    unchanged: its captions name both.
    """
    if any(thing.event == "overtakes" for thing in scene.objects):
        return scene
    things = []
    for thing in scene.objects:
        kind, colour = str(rng.choice(KINDS)), thing.colour
        if rng.random() < nameless:
            base = _NAMELESS[int(rng.integers(len(_NAMELESS)))]
            red, green, blue = (int(np.clip(part + rng.integers(-15, 16), 0, 255)) for part in base)
            colour = f"#{red:02x}{green:02x}{blue:02x}"
        elif held_out(kind, colour, scene.background):
            kind = thing.kind
        things.append(replace(thing, kind=kind, colour=colour))
    order = {colour: index for index, colour in enumerate(COLOURS)}
    # The order in which captions name things.
    things.sort(key=lambda each: (KINDS.index(each.kind), order.get(each.colour, 0)))
    return replace(scene, objects=tuple(things))


class _Look:
    """A scene as one camera shows it: size, contrast and light drawn at random."""

    def __init__(self, scene: Scene, size: tuple[int, int], rng: np.random.Generator) -> None:
        self._size = size
        self._shrunk = rng.random() < 0.1
        wide, high = size
        drawn = (round(_VIDEO_HEIGHT * wide / high), _VIDEO_HEIGHT) if self._shrunk else size
        self._painter = Painter(scene, *drawn)
        self._contrast = float(rng.uniform(0.92, 1.06))
        self._light = float(rng.uniform(-8, 8))

    def film(self, moments: list[float]) -> NDArray[np.uint8]:
        """Frames of shape (frames, 3, height, width)."""
        film = np.stack([self._frame(moment) for moment in moments]).astype(np.float32)
        film = (film - 128) * self._contrast + 128 + self._light
        return np.ascontiguousarray(film.clip(0, 255).astype(np.uint8).transpose(0, 3, 1, 2))

    def _frame(self, moment: float) -> NDArray[np.uint8]:
        picture = Image.fromarray(self._painter.frame(moment))
        if self._shrunk:
            picture = picture.resize(self._size, Image.Resampling.BICUBIC)
        return np.asarray(picture)


def _facts(scene: Scene, moment: float, size: tuple[int, int]) -> dict[str, NDArray[np.int64]]:
    """Index of each fact's value by token: of the thing that covers most of it, and of the scene."""
    owner = _owners(scene, moment, size)
    facts = {}
    for name, values in OBJECT_FACTS.items():
        named = [
            thing.direction_at(moment) if name == "direction" else getattr(thing, name)
            for thing in scene.objects
        ]
        value = [values.index(each) if each in values else NOTHING for each in named]
        facts[name] = np.where(owner < 0, NOTHING, np.array(value)[owner.clip(0)])
    for name, values in SCENE_FACTS.items():
        facts[name] = np.full(len(owner), values.index(getattr(scene, name)))
    return facts


def film_moments(
    scene: Scene, frames: list[float], size: tuple[int, int]
) -> dict[str, NDArray[np.int64]]:
    """Return, by token of a film, the moment and when the event of the thing here happened."""
    now, happened = [], []
    events = [thing.moment if thing.event else np.inf for thing in scene.objects]
    for first, second in zip(frames[::2], frames[1::2], strict=True):
        owner = _owners(scene, (first + second) / 2, size)
        value = [0 if moment > second else round(moment / MOMENT_S) for moment in events]
        happened.append(np.where(owner < 0, NOTHING, np.array(value)[owner.clip(0)]))
        now.append(np.where(owner < 0, NOTHING, round(second / MOMENT_S)))
    return {"now": np.concatenate(now), "happened": np.concatenate(happened)}


def _owners(scene: Scene, moment: float, size: tuple[int, int]) -> NDArray[np.int64]:
    """Index of the thing that covers most of each token, `NOTHING` without one."""
    rows, columns = size[1] // TOKEN, size[0] // TOKEN
    owner = np.full((rows, columns), NOTHING)
    most = np.full((rows, columns), 0.4)
    for index, thing in enumerate(scene.objects):
        x, y = scene.centre(index, moment)
        half = thing.width / 2 * (16 / 9) * size[1] / size[0]
        across = _cover(x - half, x + half, columns)
        down = _cover(y - thing.height / 2, y + thing.height / 2, rows)
        covered = np.outer(down, across)
        if 0 <= x < 1 and 0 <= y < 1:
            covered[int(y * rows), int(x * columns)] = 1.0
        more = covered > most
        owner[more], most[more] = index, covered[more]
    return owner.ravel()


def _cover(low: float, high: float, cells: int) -> NDArray[np.float64]:
    """Share of each of ``cells`` equal cells of [0, 1] that [low, high] covers."""
    edges = np.arange(cells) / cells
    return ((np.minimum(high, edges + 1 / cells) - np.maximum(low, edges)) * cells).clip(0, 1)
