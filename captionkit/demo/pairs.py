"""Pairs of captions of a demo scene, and which of the two describes it better."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from captionkit.demo.claims import first_wrong
from captionkit.demo.language import answer, planted
from captionkit.demo.marks import mark
from captionkit.demo.scenes import Scene
from captionkit.prompts import QUESTIONS, render

# Forms of captions from the least to the most that they say.
_FORMS = ("short", "default", "dense")
# Rubrics of `captionkit.prompts.QUESTIONS`, and how often training asks each.
RUBRICS = {"judge": 0.6, "judge-truth": 0.2, "judge-detail": 0.2}
# Shares of pairs of which one caption is false, of true captions of different forms, and of the same
# caption twice; the rest are a false one and a true one of different forms.
_SHARES = (0.62, 0.16, 0.12, 0.10)
# How often a false caption has one error, two, and three.
_ERRORS = (0.6, 0.25, 0.15)


@dataclass(frozen=True)
class Told:
    """A caption with the numbers of true and of false facts that it states.

    ``detail`` is the rank of its form: a dense caption also says sizes and the camera. ``wrong_from``
    is where its words have become false, None if all are true.
    """

    text: str
    true: int
    false: int
    detail: int
    wrong_from: int | None


@dataclass(frozen=True)
class Pair:
    """Two captions of one scene."""

    a: Told
    b: Told

    def better(self, rubric: str = "judge") -> str:
        """Return "A", "B" or "tie" by a rubric of `RUBRICS`.

        The caption with fewer false facts is better; among equals, the one that says more. The rubric
        ``judge-truth`` asks for the first alone, ``judge-detail`` for the second alone.
        """

        def worth(told: Told) -> tuple[int, ...]:
            said = (told.true, told.detail)
            if rubric == "judge-detail":
                return said
            return (-told.false,) if rubric == "judge-truth" else (-told.false, *said)

        a, b = worth(self.a), worth(self.b)
        return "tie" if a == b else "A" if a > b else "B"

    def question(self, rubric: str = "judge") -> str:
        """Ask which caption is better, by a rubric of `RUBRICS`."""
        return render(QUESTIONS[rubric], {"a": self.a.text, "b": self.b.text})

    def swapped(self) -> Pair:
        """Return the pair in the other order."""
        return Pair(self.b, self.a)


def _told(form: str, given: Scene, scene: Scene) -> Told:
    """Caption ``given`` and mark the caption by the truth of ``scene``."""
    text = answer(form, given)
    marks = mark(text, scene.truth())
    wrong = first_wrong(text, answer(form, scene)) if marks.false else None
    return Told(text, sum(marks.facts.values()), marks.false, _FORMS.index(form), wrong)


def false_pair(scene: Scene, rng: np.random.Generator, form: str | None = None) -> Pair:
    """Draw a true caption and one with false facts, in an order drawn at random.

    Both have the same form, drawn from the default and the dense one where it is not given.
    """
    form = form or str(rng.choice(_FORMS[1:]))
    right = _told(form, scene, scene)
    wrong = right
    while not wrong.false:
        given = scene
        for _ in range(int(rng.choice((1, 2, 3), p=_ERRORS))):
            given = planted(given, rng)
        wrong = _told(form, given, scene)
    return Pair(right, wrong) if rng.random() < 0.5 else Pair(wrong, right)


def pair(scene: Scene, rng: np.random.Generator) -> Pair:
    """Draw a pair for training: of any forms, true or false, also one caption twice."""
    draw = rng.random()
    first, second = (str(each) for each in rng.choice(_FORMS, 2, replace=False))
    if draw < _SHARES[0]:
        return false_pair(scene, rng, str(rng.choice(_FORMS, p=(0.2, 0.45, 0.35))))
    a = _told(first, scene, scene)
    if draw < sum(_SHARES[:2]):
        return Pair(a, _told(second, scene, scene))
    if draw < sum(_SHARES[:3]):
        return Pair(a, a)
    made = false_pair(scene, rng, second)
    wrong = made.a if made.a.false else made.b
    return Pair(a, wrong) if rng.random() < 0.5 else Pair(wrong, a)
