"""Marks for captions of demo scenes: which true facts a caption names, and which false ones.

Works on any caption in plain sentences or JSON, not only on the demo model's. Imports `demo.scenes`;
called by `demo.evaluate`, sessions and tests.
"""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass, field
from typing import Any

from captionkit.demo.scenes import BACKGROUNDS, TIMES
from captionkit.demo.sprites import COLOURS, KINDS

_KIND = "|".join(KINDS)
_COLOUR = "|".join(COLOURS)
_MENTION = re.compile(rf"\b(?:(?P<colour>{_COLOUR})\s+)?(?P<kind>{_KIND})s?\b")
_WAY = re.compile(r"\b(?:mov(?:es|ing)|go(?:es|ing))\s+(left|right|up|down)\b")
_STILL = re.compile(r"\b(?:stays?|staying|stands?|standing|is) still\b")
_EVENTS = {
    "appears": re.compile(r"\bappear(?:s|ing)\b"),
    "leaves": re.compile(r"\bleav(?:es|ing)\b"),
    "stops": re.compile(r"\bstop(?:s|ping)\b"),
    "turns": re.compile(r"\bturn(?:s|ing) (?:around|back)\b"),
    "overtakes": re.compile(r"\bovertak(?:es|ing)\b"),
}
# What stands behind these is named a second time.
_AGAIN = re.compile(r"\bovertak(?:es|ing) the (?:\w+ )?$")


@dataclass(frozen=True)
class Told:
    """A thing as a caption tells of it; None where it does not say."""

    kind: str
    colour: str | None = None
    direction: str | None = None
    event: str | None = None


@dataclass(frozen=True)
class Claims:
    """All that a caption claims."""

    things: tuple[Told, ...]
    backgrounds: frozenset[str]
    times: frozenset[str]


@dataclass
class Marks:
    """How a caption compares with the truth.

    ``facts`` maps each true fact, say ``("colour", 1)`` for the second thing or ``("time", 0)``, to
    whether the caption tells it. ``told`` counts the facts that it tells, ``false`` those of them that
    are not so.
    """

    facts: dict[tuple[str, int], bool] = field(default_factory=dict)
    told: int = 0
    false: int = 0
    number: bool = False
    invented: bool = False

    @property
    def recall(self) -> float:
        """The share of true facts that are told."""
        return sum(self.facts.values()) / len(self.facts)

    def tell(self, name: str, index: int, said: object, true: object) -> None:
        """Count one fact."""
        self.facts[name, index] = said == true
        if said is not None:
            self.told += 1
            self.false += said != true


def claims(caption: str) -> Claims:
    """What a caption claims, from its words."""
    try:
        parsed = json.loads(caption)
    except ValueError:
        parsed = None
    if isinstance(parsed, dict):
        return _claims_of_json(parsed)
    text = caption.lower()
    found = [each for each in _MENTION.finditer(text) if not _AGAIN.search(text[: each.start()])]
    things = []
    for mention, following in itertools.zip_longest(found, found[1:]):
        # What is said of a thing ends with its sentence, or where the next thing is named.
        rest = re.split(r"[.;\n]", text[mention.end() : following.start() if following else None])[0]
        way = _WAY.search(rest)
        direction = way.group(1) if way else "still" if _STILL.search(rest) else None
        event = next((name for name, form in _EVENTS.items() if form.search(rest)), None)
        things.append(Told(mention["kind"], mention["colour"], direction, event))
    words = set(re.findall(r"[a-z]+", text))
    return Claims(tuple(things), frozenset(words & set(BACKGROUNDS)), frozenset(words & set(TIMES)))


def _claims_of_json(parsed: dict[str, Any]) -> Claims:
    listed = parsed.get("objects")
    things = [
        Told(str(each["kind"]), each.get("colour"), each.get("motion"), each.get("event"))
        for each in (listed if isinstance(listed, list) else [])
        if isinstance(each, dict) and "kind" in each
    ]
    one = {name: {str(parsed[name])} if name in parsed else set() for name in ("background", "time")}
    return Claims(tuple(things), frozenset(one["background"]), frozenset(one["time"]))


def mark(caption: str, truth: dict[str, Any]) -> Marks:
    """Compare a caption with a scene's truth (`Scene.truth`, an entry of a truth file).

    Told things are matched with true ones so that most is right. A motion is right where both
    direction and event are; a background or time is right where it alone is named.
    """
    told, true = claims(caption), truth["objects"]
    marks = Marks(number=len(told.things) == len(true))
    for index, (thing, said) in enumerate(zip(true, _match(told.things, true), strict=True)):
        marks.tell("kind", index, said.kind if said else None, thing["kind"])
        marks.tell("colour", index, said.colour if said else None, thing["colour"])
        motion = (said.direction, said.event) if said and said.direction else None
        marks.tell("motion", index, motion, (thing["direction"], thing["event"]))
    # One more than there are is wrong in all that it says.
    surplus = max(0, len(told.things) - len(true))
    marks.told += surplus
    marks.false += surplus
    left = [thing["kind"] for thing in true]
    for said in told.things:
        if said.kind in left:
            left.remove(said.kind)
        else:
            marks.invented = True
    for name, named in (("background", told.backgrounds), ("time", told.times)):
        said_value = None if not named else next(iter(named)) if len(named) == 1 else "several"
        marks.tell(name, 0, said_value, truth[name])
    return marks


def _match(told: tuple[Told, ...], true: list[dict[str, Any]]) -> list[Told | None]:
    """For each true thing the told one that is meant."""

    def likeness(said: Told | None, thing: dict[str, Any]) -> int:
        if said is None:
            return 0
        same = 4 * (said.kind == thing["kind"]) + 4 * (said.colour == thing["colour"])
        return 1 + same + (said.direction == thing["direction"]) + (said.event == thing["event"])

    # Few things: all pairings can be tried. More than six told are cut, as most are wrong anyway.
    pool: list[Told | None] = [*told[:6], *[None] * max(0, len(true) - len(told))]
    best = max(
        itertools.permutations(pool, len(true)),
        key=lambda chosen: sum(map(likeness, chosen, true)),
    )
    return list(best)
