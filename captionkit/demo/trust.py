"""How far the demo model's own checks can be trusted: claims, pairs, planted errors, filled schemas.

Each is asked of held-out scenes as `Run.verify` and `judge` ask, and marked by the scenes' truth.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from captionkit import structured
from captionkit.demo.claims import claim
from captionkit.demo.filled import READY, filled
from captionkit.demo.held_out import Film, Share
from captionkit.demo.language import answer, planted
from captionkit.demo.pairs import false_pair
from captionkit.pipeline.questions import A_B_TIE, YES_NO
from captionkit.prompts import QUESTIONS, render
from captionkit.recipe import Recipe
from captionkit.review.claims import split_claims

# Least values, for scenes of unseen seeds and of unseen combinations.
TRUST_BARS: dict[str, tuple[float, float]] = {
    "verdict of a claim": (0.95, 0.92),
    "area under the curve of p_true": (0.98, 0.96),
    "better caption of a pair, both orders": (0.95, 0.92),
    "facts in JSON of the ready schemas": (0.95, 0.90),
    "start and end of an event within 1 s": (0.90, 0.85),
    "planted errors found": (0.90, 0.90),
    "true claims not flagged": (0.97, 0.97),
}
_CLAIMS = 4
# Error of an event's start and of its end that counts as right, in seconds.
_NEAR = 1.0


@dataclass(frozen=True)
class Area:
    """Area under the ROC curve: how often a true claim is thought likelier than a false one."""

    value: float
    true: int
    false: int

    @classmethod
    def of(cls, p_true: Sequence[float], is_true: Sequence[bool]) -> Area:
        """Compute the area from probabilities; ties count half. 0 without claims of both kinds."""
        true = np.array([p for p, right in zip(p_true, is_true, strict=True) if right])
        false = np.array([p for p, right in zip(p_true, is_true, strict=True) if not right])
        if not len(true) or not len(false):
            return cls(0.0, len(true), len(false))
        above = (true[:, None] > false).mean() + (true[:, None] == false).mean() / 2
        return cls(float(above), len(true), len(false))

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval by the error of Hanley and McNeil (1982)."""
        if not self.true or not self.false:
            return 0.0, 1.0
        area = self.value
        pairs = area * (1 - area)
        pairs += (self.true - 1) * (area / (2 - area) - area**2)
        pairs += (self.false - 1) * (2 * area**2 / (1 + area) - area**2)
        reach = 1.959964 * math.sqrt(max(0.0, pairs) / (self.true * self.false))
        return max(0.0, area - reach), min(1.0, area + reach)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.3f} [{low:.3f}, {high:.3f}] of {self.true} true, {self.false} false"


def trust(film: Film, model: str) -> dict[str, Share | Area]:
    """Ask all questions of a film's scenes and return the figures of `TRUST_BARS`."""
    rng = np.random.default_rng(17)
    return {
        **claims_right(film, model, rng),
        "better caption of a pair, both orders": pairs_right(film, model, rng),
        **schemas_right(film, model),
        **planted_found(film, model, rng),
    }


def claims_right(film: Film, model: str, rng: np.random.Generator) -> dict[str, Share | Area]:
    """Ask about claims of which half are false."""
    made = [[claim(scene, rng) for _ in range(_CLAIMS)] for scene in film.scenes]
    p_true = _p_true(film, [[each.text for each in claims] for claims in made], model)
    is_true = [each.is_true for claims in made for each in claims]
    shown = [p for each in p_true for p in each]
    right = sum((p > 0.5) == true for p, true in zip(shown, is_true, strict=True))
    return {
        "verdict of a claim": Share(right, len(shown)),
        "area under the curve of p_true": Area.of(shown, is_true),
    }


def _p_true(film: Film, claims: Sequence[Sequence[str]], model: str) -> list[list[float]]:
    """Return the probability of each claim; 0.5 for one that is not answered."""
    asked = [[render(QUESTIONS["claim"], {"claim": text}) for text in texts] for texts in claims]
    replies = film.weigh(asked, YES_NO, model)
    shares = [[reply.shares(YES_NO) for reply in each] for each in replies]
    return [[share["yes"] if share else 0.5 for share in each] for each in shares]


def pairs_right(film: Film, model: str, rng: np.random.Generator) -> Share:
    """Ask which of two captions is better, one of them false; right only if both orders are."""
    pairs = [false_pair(scene, rng) for scene in film.scenes]
    asked = [[each.question(), each.swapped().question()] for each in pairs]
    said = film.weigh(asked, A_B_TIE, model)
    right = [
        [reply.answer(A_B_TIE) for reply in replies]
        == [pair.better().lower(), pair.swapped().better().lower()]
        for pair, replies in zip(pairs, said, strict=True)
    ]
    return Share(sum(right), len(right))


def planted_found(film: Film, model: str, rng: np.random.Generator) -> dict[str, Share | Area]:
    """Ask about each claim of captions with one planted error.

    An error counts as found if one of the claims that it makes false is flagged.
    """
    claims, errors = [], []
    for index, scene in enumerate(film.scenes):
        form = ("default", "dense")[index % 2]
        right = {each.text for each in split_claims(answer(form, scene))}
        made = [each.text for each in split_claims(answer(form, planted(scene, rng)))]
        claims.append(made)
        errors.append([text not in right for text in made])
    flagged = [[p < 0.5 for p in each] for each in _p_true(film, claims, model)]
    pairs = list(zip(flagged, errors, strict=True))
    found = [any(f and e for f, e in zip(*pair, strict=True)) for pair in pairs]
    spared = [not f for pair in pairs for f, e in zip(*pair, strict=True) if not e]
    return {
        "planted errors found": Share(sum(found), len(found)),
        "true claims not flagged": Share(sum(spared), len(spared)),
    }


def schemas_right(film: Film, model: str) -> dict[str, Share | Area]:
    """Fill each ready schema for each scene and compare with the truth."""
    facts, times = Share(0, 0), Share(0, 0)
    for name in READY:
        recipe = Recipe(model=model, temperature=0, schema=name)
        schema = structured.canonical(name)
        for text, scene in zip(film.captions(recipe), film.scenes, strict=True):
            said, violation = structured.read(text, schema)
            said = {} if violation else said
            facts += _same_facts(name, said, filled(name, scene))
            if name == "events":
                times += times_right(said.get("events", []), filled(name, scene)["events"])
    return {
        "facts in JSON of the ready schemas": facts,
        "start and end of an event within 1 s": times,
    }


def _same_facts(name: str, said: dict[str, Any], true: dict[str, Any]) -> Share:
    """Count facts that both have, out of those of the one that has more."""
    mine, theirs = (Counter(_facts(name, values)) for values in (said, true))
    return Share((mine & theirs).total(), max(mine.total(), theirs.total()))


def _facts(name: str, values: dict[str, Any]) -> list[str]:
    """List what a filled schema says, one text a thing, an action, a value."""
    if name == "events":
        return [each["text"] for each in values.get("events", [])]
    if name != "shot":
        return [str(each) for each in values.get(name, [])]
    things = str(values.get("subject", "")).replace(" and ", ", ").split(", ")
    actions = str(values.get("action", "")).split(", ")
    rest = [f"{key} {values[key]}" for key in ("shot", "setting") if key in values]
    return [each for each in (*things, *actions, *rest) if each]


def times_right(said: Sequence[dict[str, Any]], true: Sequence[dict[str, Any]]) -> Share:
    """Count true events that are said with their start and end within a second."""
    right = [
        any(
            each["text"] == event["text"]
            and abs(each["start"] - event["start"]) <= _NEAR
            and abs(each["end"] - event["end"]) <= _NEAR
            for each in said
        )
        for event in true
    ]
    return Share(sum(right), len(right))
