"""What is said about a film in training: prompts of every kind, each with its true answer."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from captionkit.demo.claims import claim, true_statement
from captionkit.demo.filled import READY, filled
from captionkit.demo.language import conversation, yes_no
from captionkit.demo.pairs import RUBRICS, pair
from captionkit.demo.scenes import Scene
from captionkit.demo.wordings import ready_wording
from captionkit.prompts import QUESTIONS, render

# Talks of each topic about a film. Questions with one word for an answer come often: as one talk in
# five, yes/no questions were answered at chance after 2,700 steps.
_ANSWERS, _QUESTIONS, _CLAIMS, _PAIRS = 2, 4, 9, 3
# Share of filled schemas whose prompt asks for them; others are asked anything, and the schema decides.
_ASKED = 0.5
# JSON as the engine's grammar writes it. Taught with spaces, a model had 98% of the words right in
# training, and 17% of the facts once the grammar left the spaces out.
_SEPARATORS = (",", ":")


@dataclass(frozen=True)
class Checked:
    """Part of a prompt that states something, in characters from ``start`` up to ``end``.

    ``wrong_from`` is where its words have become false, None if all are true.
    """

    start: int
    end: int
    wrong_from: int | None


@dataclass(frozen=True)
class Talk:
    """A prompt with its true answer.

    ``topic`` groups talks in the log. ``forced`` is the number of characters at the start of the
    answer that a schema forces: they are not learnt. ``checked`` are the parts of the prompt that may
    be false.
    """

    prompt: str
    answer: str
    topic: str = "answer"
    forced: int = 0
    checked: tuple[Checked, ...] = ()


def talks(scene: Scene, rng: np.random.Generator) -> list[Talk]:
    """Draw all talks about a scene."""
    asked = [conversation(scene, rng) for _ in range(_ANSWERS)]
    asked += [yes_no(scene, rng) for _ in range(_QUESTIONS)]
    said = [Talk(*each, "yesno" if each[1] in ("Yes.", "No.") else "answer") for each in asked]
    said += [_claim(scene, rng, subject) for subject in _subjects(scene, rng)]
    said += [_pair(scene, rng) for _ in range(_PAIRS)]
    said += [_ready(scene, rng, name) for name in ("events", str(rng.choice(READY)))]
    return said


def _subjects(scene: Scene, rng: np.random.Generator) -> list[str | None]:
    """Draw subjects of claims; the order and the times of events come wherever a scene has them."""
    rare = [name for name in ("order", "moment") if true_statement(scene, rng, name)]
    return [*rare, *[None] * (_CLAIMS - len(rare))]


def _claim(scene: Scene, rng: np.random.Generator, subject: str | None) -> Talk:
    made = claim(scene, rng, subject)
    prompt = render(QUESTIONS["claim"], {"claim": made.text})
    return Talk(
        prompt,
        "yes" if made.is_true else "no",
        "claim",
        checked=(_checked(prompt, "\nStatement: ", made.text, made.wrong_from),),
    )


def _pair(scene: Scene, rng: np.random.Generator) -> Talk:
    made = pair(scene, rng)
    rubric = str(rng.choice(list(RUBRICS), p=list(RUBRICS.values())))
    prompt = made.question(rubric)
    checked = (
        _checked(prompt, "\nA: ", made.a.text, made.a.wrong_from),
        _checked(prompt, "\nB: ", made.b.text, made.b.wrong_from),
    )
    return Talk(prompt, made.better(rubric), "judge", checked=checked)


def _checked(prompt: str, before: str, text: str, wrong_from: int | None) -> Checked:
    start = prompt.index(before + text) + len(before)
    return Checked(start, start + len(text), None if wrong_from is None else start + wrong_from)


def _ready(scene: Scene, rng: np.random.Generator, name: str) -> Talk:
    answer = json.dumps(filled(name, scene), separators=_SEPARATORS)
    if rng.random() < _ASKED:
        return Talk(ready_wording(name, rng), answer, name)
    # Serving restricts the answer to the schema whatever the prompt says. The property's name is not
    # learnt, or other prompts would lead to JSON.
    return Talk(conversation(scene, rng)[0], answer, name, forced=len(f'{{"{name}":'))
