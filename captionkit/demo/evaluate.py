"""Marks the demo model on scenes that it never saw: ``python -m captionkit.demo.evaluate``.

Scenes are rendered, encoded as a film and captioned as any video is: by vLLM. Prints every figure with
its 95% interval (Wilson); exit status 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from captionkit.demo import forms, wordings
from captionkit.demo.language import altered, answer, yes_no
from captionkit.demo.marks import Marks, mark
from captionkit.demo.scenes import Scene
from captionkit.demo.videos import write_film
from captionkit.display import wilson
from captionkit.pipeline import PreparedWindow, WindowDone, caption, open_backend, prepare
from captionkit.pipeline.flow import caption_stages
from captionkit.prompts import PROMPTS, render
from captionkit.recipe import Recipe
from captionkit.sources import PlannedWindow, SourceClip, plan
from captionkit.system.temp import TempFolder
from captionkit.video import DecodePool

# Fewer frames than the sample videos have: the model sees sixteen of a scene, at nearly the same times.
FPS = 6
FRAMES_A_SCENE = 51
_SIZE = (448, 252)
# Seeds below those of training, apart from those of the sample videos.
_FIRST_SEED = 900_000
ADD = "Add what is missing: {caption}"
CORRECT = "Correct this caption: {caption}"

COLUMNS = ("unseen seeds", "unseen combinations")
# Least share of right facts, for scenes of unseen seeds and of unseen combinations.
BARS: dict[str, tuple[float, float]] = {
    "object kind": (0.97, 0.92),
    "colour": (0.97, 0.92),
    "direction and event": (0.95, 0.90),
    "background and time of day": (0.97, 0.92),
    "number of objects": (0.92, 0.85),
    "no object named that is not there": (0.97, 0.92),
}
OTHER_BARS = {
    "prompt kind obeyed, wordings as taught": 0.98,
    "prompt kind obeyed, wordings never taught": 0.98,
    "wrong caption repaired": 0.85,
}
# Kind and text of each library prompt.
LIBRARY = [(kind, PROMPTS[name]) for kind, names in wordings.OF_LIBRARY.items() for name in names]
# Least share of true facts that stage 2 adds.
GAIN = 0.10


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

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.1%} [{low:.1%}, {high:.1%}] of {self.asked}"


def held_out_scenes(count: int, first_seed: int = _FIRST_SEED, *, unseen: bool = False) -> list[Scene]:
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


def marks(captions: Sequence[str], scenes: Sequence[Scene]) -> list[Marks]:
    """Mark the captions of scenes, in order."""
    pairs = zip(captions, scenes, strict=True)
    return [mark(caption, scene.truth()) for caption, scene in pairs]


def shares(marked: Sequence[Marks]) -> dict[str, Share]:
    """Compute the rows of the table: shares of all things in all scenes, or of all scenes."""

    def facts(*names: str) -> Share:
        found = [right for each in marked for (name, _), right in each.facts.items() if name in names]
        return Share(sum(found), len(found))

    count = len(marked)
    return {
        "object kind": facts("kind"),
        "colour": facts("colour"),
        "direction and event": facts("motion"),
        "background and time of day": facts("background", "time"),
        "number of objects": Share(sum(each.number for each in marked), count),
        "no object named that is not there": Share(sum(not each.invented for each in marked), count),
    }


def recall(marked: Sequence[Marks]) -> Share:
    """Share of all true facts that are stated."""
    return Share(
        sum(sum(each.facts.values()) for each in marked), sum(len(each.facts) for each in marked)
    )


def false_facts(marked: Sequence[Marks]) -> Share:
    """Share of all stated facts that are wrong."""
    return Share(sum(each.false for each in marked), sum(each.stated for each in marked))


def is_repaired(given: Marks, repaired: Marks) -> bool:
    """Whether every wrong fact of a caption is right now, and nothing is invented."""
    mended = all(repaired.facts[fact] for fact, right in given.facts.items() if not right)
    return mended and repaired.number and not repaired.invented


def obedience(film: Film, model: str, taught: bool) -> tuple[Share, Counter[str]]:
    """Count answers in the form that their prompt asks for, and the prompts of all others.

    Every kind of prompt is asked of many scenes; all wordings differ.
    """
    rng = np.random.default_rng(7)
    pool: list[tuple[str, str]] = []
    if taught:
        for kind in wordings.TEMPLATES:
            pool += [(kind, wordings.wording(kind, rng)) for _ in range(12)]
        pool += LIBRARY
    else:
        pool = [(kind, text) for kind, texts in forms.NEVER_TAUGHT.items() for text in texts]
    scenes = film.scenes
    asked = [pool[index % len(pool)] for index in range(len(scenes))]
    if taught:
        asked = [
            ("yesno", yes_no(scene, rng)[0]) if index % 11 == 0 else each
            for index, (scene, each) in enumerate(zip(scenes, asked, strict=True))
        ]
    answers = film.ask([text for _, text in asked], model)
    wrong = Counter(
        f"{kind}: {text}"
        for (kind, text), given in zip(asked, answers, strict=True)
        if not forms.has_form(kind, given)
    )
    return Share(len(asked) - sum(wrong.values()), len(asked)), wrong


@dataclass(frozen=True)
class Report:
    """Figures of `evaluate`.

    ``columns`` holds the two columns of the table (unseen seeds, unseen combinations), ``others`` all
    other shares by name, ``strayed`` the prompts whose answers had another form.
    """

    scenes: int
    columns: tuple[dict[str, Share], dict[str, Share]]
    others: dict[str, Share]
    strayed: Counter[str]

    @property
    def missed(self) -> list[str]:
        """Names of the bars that are missed."""
        missed = [
            f"{fact} ({name})"
            for fact, bars in BARS.items()
            for name, bar, column in zip(COLUMNS, bars, self.columns, strict=True)
            if column[fact].value < bar
        ]
        others = self.others
        missed += [name for name, bar in OTHER_BARS.items() if others[name].value < bar]
        if others["facts told, stage 2"].value < others["facts told, short caption"].value + GAIN:
            missed.append(f"stage 2 tells {GAIN:.0%} more")
        if others["false among told, stage 2"].value > others["false among told, short caption"].value:
            missed.append("stage 2 tells no more false facts")
        return missed

    def print(self, console: Console) -> None:
        """Print the tables and the missed bars."""
        table = Table(title=f"Right in captions of {self.scenes} held-out scenes a column")
        for heading in ("fact", "bar", COLUMNS[0], "bar", COLUMNS[1]):
            table.add_column(heading)
        for fact, (first, second) in BARS.items():
            cells = [str(column[fact]) for column in self.columns]
            table.add_row(fact, f"{first:.0%}", cells[0], f"{second:.0%}", cells[1])
        rest = Table("figure", "bar", "")
        for name, share in self.others.items():
            rest.add_row(name, f"{OTHER_BARS[name]:.0%}" if name in OTHER_BARS else "", str(share))
        console.print(table, rest)
        if self.strayed:
            listed = "; ".join(self.strayed)
            console.print(f"answers of another kind than asked for: {listed}", markup=False)
        console.print(f"missed: {'; '.join(self.missed)}" if self.missed else "no bar missed")

    def save(self, path: Path) -> None:
        """Write all figures as JSON."""
        figures = {
            f"{fact}, {name}": str(column[fact])
            for name, column in zip(COLUMNS, self.columns, strict=True)
            for fact in BARS
        }
        figures |= {name: str(share) for name, share in self.others.items()}
        content = {"scenes": self.scenes, "figures": figures, "missed": self.missed}
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def evaluate(count: int, model: str) -> Report:
    """Caption ``count`` scenes of unseen seeds and as many of unseen combinations."""
    plain = Recipe(model=model, temperature=0)
    short = replace(plain, prompt="short")
    others: dict[str, Share] = {}
    strayed: Counter[str] = Counter()
    rng = np.random.default_rng(11)
    with Film(held_out_scenes(count)) as film:
        seeds = shares(marks(film.captions(plain), film.scenes))
        first = marks(film.captions(short), film.scenes)
        second = marks(film.captions(replace(short, stage2=ADD)), film.scenes)
        for name, marked in (("short caption", first), ("stage 2", second)):
            others[f"facts told, {name}"] = recall(marked)
            others[f"false among told, {name}"] = false_facts(marked)
        given = [answer("default", altered(scene, rng)) for scene in film.scenes]
        said = film.ask([render(CORRECT, {"caption": each}) for each in given], model)
        pairs = zip(marks(given, film.scenes), marks(said, film.scenes), strict=True)
        others["wrong caption repaired"] = Share(sum(is_repaired(*pair) for pair in pairs), count)
        asked = [yes_no(scene, rng) for scene in film.scenes]
        said = film.ask([question for question, _ in asked], model)
        right = sum(answer == true for answer, (_, true) in zip(said, asked, strict=True))
        others["yes/no questions answered right"] = Share(right, count)
        for taught, name in ((True, "as taught"), (False, "never taught")):
            share, wrong = obedience(film, model, taught)
            others[f"prompt kind obeyed, wordings {name}"] = share
            strayed += wrong
    with Film(held_out_scenes(count, _FIRST_SEED + count, unseen=True)) as film:
        combinations = shares(marks(film.captions(plain), film.scenes))
    return Report(count, (seeds, combinations), others, strayed)


def main(argv: list[str] | None = None) -> int:
    """Caption held-out scenes and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m captionkit.demo.evaluate", description=__doc__)
    parser.add_argument("--scenes", type=int, default=300, help="held-out scenes a column")
    parser.add_argument("--model", default="demo", help="a variant or a folder with weights")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    options = parser.parse_args(argv)
    if options.scenes < 1:
        parser.error(f"--scenes is {options.scenes}; give 1 or more")
    report = evaluate(options.scenes, options.model)
    report.print(Console(width=120))
    if options.out:
        report.save(options.out)
    return 1 if report.missed else 0


if __name__ == "__main__":
    sys.exit(main())
