"""Marks for captions of demo scenes: which true facts a caption states, and which false ones.

Works on any caption in plain sentences or JSON, not only on the demo model's.
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
# A thing behind these words has been named before.
_AGAIN = re.compile(r"\bovertak(?:es|ing) the (?:\w+ )?$")


@dataclass(frozen=True)
class Mention:
    """A thing as a caption describes it; None where the caption does not say."""

    kind: str
    colour: str | None = None
    direction: str | None = None
    event: str | None = None


@dataclass(frozen=True)
class Claims:
    """Everything that a caption states."""

    things: tuple[Mention, ...]
    backgrounds: frozenset[str]
    times: frozenset[str]


@dataclass
class Marks:
    """A caption compared with the truth.

    ``facts`` maps each true fact, say ``("colour", 1)`` for the second thing or ``("time", 0)``, to
    whether the caption states it. ``stated`` counts the facts that the caption states, ``false`` the
    wrong ones among them. ``number`` says whether the number of things is right, ``invented`` whether
    a thing is named that is not there.
    """

    facts: dict[tuple[str, int], bool] = field(default_factory=dict)
    stated: int = 0
    false: int = 0
    number: bool = False
    invented: bool = False

    @property
    def recall(self) -> float:
        """Share of true facts that are stated."""
        return sum(self.facts.values()) / len(self.facts)

    @property
    def f1(self) -> float:
        """Harmonic mean of recall and of the share of right facts among the stated ones."""
        return 2 * sum(self.facts.values()) / (len(self.facts) + self.stated)

    def count(self, name: str, index: int, stated: object, true: object) -> None:
        """Count one fact, stated as None where the caption does not say."""
        self.facts[name, index] = stated == true
        if stated is not None:
            self.stated += 1
            self.false += stated != true


def claims(caption: str) -> Claims:
    """Read what a caption states from its words."""
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
        # Words about a thing end with its sentence, or where the next thing is named.
        rest = re.split(r"[.;\n]", text[mention.end() : following.start() if following else None])[0]
        way = _WAY.search(rest)
        direction = way.group(1) if way else "still" if _STILL.search(rest) else None
        event = next((name for name, form in _EVENTS.items() if form.search(rest)), None)
        things.append(Mention(mention["kind"], mention["colour"], direction, event))
    words = set(re.findall(r"[a-z]+", text))
    return Claims(tuple(things), frozenset(words & set(BACKGROUNDS)), frozenset(words & set(TIMES)))


def _claims_of_json(parsed: dict[str, Any]) -> Claims:
    listed = parsed.get("objects")
    things = [
        Mention(str(each["kind"]), each.get("colour"), each.get("motion"), each.get("event"))
        for each in (listed if isinstance(listed, list) else [])
        if isinstance(each, dict) and "kind" in each
    ]
    one = {name: {str(parsed[name])} if name in parsed else set() for name in ("background", "time")}
    return Claims(tuple(things), frozenset(one["background"]), frozenset(one["time"]))


def mark(caption: str, truth: dict[str, Any]) -> Marks:
    """Compare a caption with a scene's truth (`Scene.truth`, an entry of a truth file).

    Mentions are matched with true things so that most facts are right. A motion is right if both
    direction and event are, and not stated if the right direction lacks its event: "moves left" is true
    of what moves left and stops. A background or time is right if it alone is named.
    """
    claimed, true = claims(caption), truth["objects"]
    marks = Marks(number=len(claimed.things) == len(true))
    for index, (thing, mention) in enumerate(zip(true, _match(claimed.things, true), strict=True)):
        marks.count("kind", index, mention.kind if mention else None, thing["kind"])
        marks.count("colour", index, mention.colour if mention else None, thing["colour"])
        said = (mention.direction, mention.event) if mention and mention.direction else None
        moves = (thing["direction"], thing["event"])
        lacks_event = moves[1] is not None and said == (moves[0], None)
        marks.count("motion", index, None if lacks_event else said, moves)
    # A mention beyond the number of things is one wrong fact.
    surplus = max(0, len(claimed.things) - len(true))
    marks.stated += surplus
    marks.false += surplus
    left = [thing["kind"] for thing in true]
    for mention in claimed.things:
        if mention.kind in left:
            left.remove(mention.kind)
        else:
            marks.invented = True
    for name, named in (("background", claimed.backgrounds), ("time", claimed.times)):
        stated = None if not named else next(iter(named)) if len(named) == 1 else "several"
        marks.count(name, 0, stated, truth[name])
    return marks


def _match(mentions: tuple[Mention, ...], true: list[dict[str, Any]]) -> list[Mention | None]:
    """Find the mention of each true thing, None for a thing without one."""

    def likeness(mention: Mention | None, thing: dict[str, Any]) -> int:
        if mention is None:
            return 0
        same = 4 * (mention.kind == thing["kind"]) + 4 * (mention.colour == thing["colour"])
        return 1 + same + (mention.direction == thing["direction"]) + (mention.event == thing["event"])

    # Try all pairings of few things; mentions beyond the sixth are cut, most being wrong anyway.
    pool: list[Mention | None] = [*mentions[:6], *[None] * max(0, len(true) - len(mentions))]
    best = max(
        itertools.permutations(pool, len(true)),
        key=lambda chosen: sum(map(likeness, chosen, true)),
    )
    return list(best)
