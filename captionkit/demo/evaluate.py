"""Marks the demo model on scenes that it never saw: ``python -m captionkit.demo.evaluate``.

Scenes are rendered, encoded as a film and captioned as any video is: by vLLM. Then the model is asked
about captions, see `trust`. Prints every figure with its 95% interval (Wilson); exit status 1 if a bar
is missed.
"""

from __future__ import annotations

import argparse
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
from captionkit.demo.held_out import FIRST_SEED, Film, Share, held_out_scenes
from captionkit.demo.language import altered, answer, yes_no
from captionkit.demo.marks import Marks, mark
from captionkit.demo.scenes import Scene
from captionkit.demo.trust import TRUST_BARS, Area, trust
from captionkit.models.variants import get_variant, register
from captionkit.prompts import PROMPTS, render
from captionkit.recipe import Recipe

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
    **TRUST_BARS,
}
OTHER_BARS = {
    "prompt kind obeyed, wordings as taught": 0.98,
    "prompt kind obeyed, wordings never taught": 0.98,
    "wrong caption repaired": 0.85,
}
# Kind and text of each library prompt.
LIBRARY = [(kind, PROMPTS[name]) for kind, names in wordings.OF_LIBRARY.items() for name in names]
# Least share of true facts that stage 2 adds, and the largest that it adds to the false ones.
GAIN, FALSE_GAIN = 0.10, (0.005, 0.01)
FIRST_FALSE, SECOND_FALSE = "false among told, short caption", "false among told, stage 2"


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
    columns: tuple[dict[str, Share | Area], dict[str, Share | Area]]
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
        for name, column, most in zip(COLUMNS, self.columns, FALSE_GAIN, strict=True):
            if column[SECOND_FALSE].value > column[FIRST_FALSE].value + most:
                missed.append(f"stage 2 tells at most {most:.1%} more false facts ({name})")
        return missed

    def print(self, console: Console) -> None:
        """Print the tables and the missed bars."""
        table = Table(title=f"Right in captions of {self.scenes} held-out scenes a column")
        for heading in ("fact", "bar", COLUMNS[0], "bar", COLUMNS[1]):
            table.add_column(heading)
        for fact, (first, second) in BARS.items():
            cells = [str(column[fact]) for column in self.columns]
            table.add_row(fact, f"{first:.0%}", cells[0], f"{second:.0%}", cells[1])
        for fact in (FIRST_FALSE, SECOND_FALSE):
            table.add_row(fact, "", str(self.columns[0][fact]), "", str(self.columns[1][fact]))
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
            for fact in column
        }
        figures |= {name: str(share) for name, share in self.others.items()}
        content = {"scenes": self.scenes, "figures": figures, "missed": self.missed}
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def evaluate(count: int, model: str) -> Report:
    """Caption ``count`` scenes of unseen seeds and as many of unseen combinations."""
    others: dict[str, Share] = {}
    strayed: Counter[str] = Counter()
    rng = np.random.default_rng(11)
    with Film(held_out_scenes(count)) as film:
        seeds, told = _column(film, model)
        others |= {f"facts told, {stage}": recall(marked) for stage, marked in told.items()}
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
    with Film(held_out_scenes(count, FIRST_SEED + count, unseen=True)) as film:
        combinations, _ = _column(film, model)
    return Report(count, (seeds, combinations), others, strayed)


def _column(film: Film, model: str) -> tuple[dict[str, Share | Area], dict[str, list[Marks]]]:
    """Fill one column of the table; also return what each stage tells."""
    plain = Recipe(model=model, temperature=0)
    short = replace(plain, prompt="short")
    told = {
        stage: marks(film.captions(recipe), film.scenes)
        for stage, recipe in (("short caption", short), ("stage 2", replace(short, stage2=ADD)))
    }
    column = {
        **shares(marks(film.captions(plain), film.scenes)),
        **{f"false among told, {stage}": false_facts(marked) for stage, marked in told.items()},
        **trust(film, model),
    }
    return column, told


def main(argv: list[str] | None = None) -> int:
    """Caption held-out scenes and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m captionkit.demo.evaluate", description=__doc__)
    parser.add_argument("--scenes", type=int, default=300, help="held-out scenes a column")
    parser.add_argument("--model", default="demo", help="a variant or a folder of a demo model")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    options = parser.parse_args(argv)
    if options.scenes < 1:
        parser.error(f"--scenes is {options.scenes}; give 1 or more")
    model = options.model
    if Path(model).is_dir():
        # A folder by itself has the frames of a Qwen2.5-VL, of which the model has learnt nothing.
        model = "demo of a folder"
        register(replace(get_variant("demo"), name=model, folder=Path(options.model).resolve()))
    report = evaluate(options.scenes, model)
    report.print(Console(width=120))
    if options.out:
        report.save(options.out)
    return 1 if report.missed else 0


if __name__ == "__main__":
    sys.exit(main())
