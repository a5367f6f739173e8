"""Held-out scenes as an encoded film, and what a model says of them: shares with their intervals."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from captionkit.demo.scenes import Scene
from captionkit.demo.videos import write_film
from captionkit.display import wilson
from captionkit.pipeline import PreparedWindow, WindowDone, caption, open_backend, prepare
from captionkit.pipeline.flow import caption_stages
from captionkit.pipeline.questions import Reply, Words, ask
from captionkit.recipe import Recipe
from captionkit.sources import PlannedWindow, SourceClip, plan
from captionkit.system.temp import TempFolder
from captionkit.video import DecodePool

# Fewer frames than the sample videos have: the model sees sixteen of a scene, at nearly the same times.
FPS = 6
FRAMES_A_SCENE = 51
_SIZE = (448, 252)
# Seeds below those of training, apart from those of the sample videos.
FIRST_SEED = 900_000


@dataclass(frozen=True)
class Share:
    """A number of right answers out of all that were asked for."""

    right: int
    asked: int

    @property
    def value(self) -> float:
        """Share between 0 and 1."""
        return self.right / self.asked if self.asked else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95% interval."""
        return wilson(self.value, self.asked)

    def __add__(self, other: Share) -> Share:
        return Share(self.right + other.right, self.asked + other.asked)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.1%} [{low:.1%}, {high:.1%}] of {self.asked}"


def held_out_scenes(count: int, first_seed: int = FIRST_SEED, *, unseen: bool = False) -> list[Scene]:
    """Draw scenes that training never saw, each one window long."""
    seeds = range(first_seed, first_seed + count)
    return [Scene.random(seed, FRAMES_A_SCENE / FPS, unseen=unseen) for seed in seeds]


class Film:
    """Scenes as an encoded film in a temporary folder; a context manager."""

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self.scenes = list(scenes)
        self._folder = TempFolder("films")
        self._path = self._folder.path / "scenes.mp4"
        write_film(self._path, scenes, size=_SIZE, fps=FPS)
        self._prepared: list[PreparedWindow] = []

    def __enter__(self) -> Film:
        return self

    def __exit__(self, *error: object) -> None:
        self._folder.remove()

    def captions(self, recipe: Recipe) -> list[str]:
        """Caption each scene and return the final texts."""
        return caption_film(self._path, recipe.cut_by(FRAMES_A_SCENE))

    def ask(self, prompts: Sequence[str], model: str) -> list[str]:
        """Ask each scene a prompt of its own and return the answers."""
        recipe = Recipe(model=model, temperature=0, window_size=FRAMES_A_SCENE)
        backend = open_backend(recipe, model_dir="")
        if not self._prepared:
            with DecodePool() as pool:
                windows = windows_of(self._path, recipe, pool)
                self._prepared = [prepare(each, recipe, pool) for each in windows]

        async def ask_one(prepared: PreparedWindow, prompt: str) -> str:
            asked = replace(prepared, prompt=prompt)
            (answer,) = [each.text async for each in caption_stages(asked, recipe, backend)]
            return answer

        async def ask_all() -> list[str]:
            pairs = zip(self._prepared, prompts, strict=True)
            return await asyncio.gather(*(ask_one(*pair) for pair in pairs))

        return asyncio.run(ask_all())

    def weigh(self, questions: Sequence[Sequence[str]], words: Words, model: str) -> list[list[Reply]]:
        """Ask each scene questions of its own and return the replies, with their probabilities.

        Raises
        ------
        RuntimeError
            If a question could not be answered.
        """
        recipe = Recipe(model=model, temperature=0, window_size=FRAMES_A_SCENE)
        replies: dict[tuple[int, str], Reply] = {}

        async def follow(windows: list[PlannedWindow], pool: DecodePool) -> None:
            asked = zip(windows, questions, strict=True)
            backend = open_backend(recipe, model_dir="")
            async for each in ask(asked, words, recipe, backend, pool):
                if each.reply is None:
                    raise RuntimeError(f"scene {each.window.number}: {each.error}")
                replies[each.window.number, each.question] = each.reply

        with DecodePool() as pool:
            windows = windows_of(self._path, recipe, pool)
            asyncio.run(follow(windows, pool))
        pairs = zip(windows, questions, strict=True)
        return [[replies[window.number, text] for text in texts] for window, texts in pairs]


def windows_of(path: Path, recipe: Recipe, pool: DecodePool) -> list[PlannedWindow]:
    """Cut a film into the windows of a recipe."""
    clip = SourceClip.open(pool, str(path), str(path))
    spans = clip.cut(recipe.window_size, recipe.remainder_threshold, recipe.window_seconds)
    return plan(clip, spans, path.stem)


def caption_film(path: Path, recipe: Recipe) -> list[str]:
    """Caption each window of a film and return the final texts.

    Raises
    ------
    RuntimeError
        If a window could not be captioned.
    """
    texts: dict[int, str] = {}

    async def follow(windows: list[PlannedWindow], pool: DecodePool) -> None:
        async for event in caption(windows, recipe, open_backend(recipe, model_dir=""), pool):
            if isinstance(event, WindowDone):
                if event.error:
                    raise RuntimeError(f"{path}, window {event.window.number}: {event.error}")
                texts[event.window.number] = event.captions[-1].text

    with DecodePool() as pool:
        asyncio.run(follow(windows_of(path, recipe, pool), pool))
    return [texts[number] for number in sorted(texts)]
