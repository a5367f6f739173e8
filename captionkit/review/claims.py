"""What a caption says, statement by statement: sentences and clauses by rule, or values of JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from captionkit import structured

# Begins of a statement of its own behind a comma.
_SUBJECT = (
    r"(?:a|an|the|another|one|two|three|four|five|six|seven|eight|nine|ten|several|some|many|both|each|"
    r"no|his|her|their|its|it|he|she|they|there|this|that|these|those)\b"
)
# Says where in the picture or when something is: with a comma and a subject behind it, it begins a
# statement. Where the film plays ("At sea by day, …") is a statement of its own.
_PLACE = (
    r"(?:(?:on|to) the (?:left|right)|in the (?:foreground|background|middle|cent(?:er|re)|distance)|"
    r"in front|behind|beside|next to|near|above|below|under|opposite|"
    r"(?:at|from|after|around|until) \d[\d:.,]*)\b"
)
# A mark within a number or a name ("3.5", "e.g.") ends no sentence.
_SENTENCE = re.compile(r"(?:[^.!?。！？…।\u06d4؟\n]|[.!?](?=[^\s.!?\"'”’)\]*]))+[.!?。！？…।\u06d4؟]*")
_CLAUSE = re.compile(
    r";\s*|(?<!\s)\s+(?:[—\u2013]+|--)\s+"
    rf"|,\s+(?:(?:and|but|while|whereas|then|as|plus|or)\s+)?"
    rf"(?={_SUBJECT}|{_PLACE}(?:[^,;.!?\n]|\.\d){{0,60}},\s+{_SUBJECT})"
    rf"|(?<!\s)\s+(?:while|whereas)\s+(?={_SUBJECT})",
    re.IGNORECASE,
)
# Says when or how, and stays with its clause.
_ADVERBIAL = re.compile(
    r"(?:initially|at first|first|then|next|later|afterwards?|eventually|finally|lastly|meanwhile|"
    r"suddenly|soon|now|again|overall|additionally|also|however|"
    rf"(?:as|with|without|because|if|when|once|since|although|though|{_PLACE})\b[^,;]*)",
    re.IGNORECASE,
)
# A subject with a capital begins a sentence, also behind "etc." or an initial.
_BEGINNING = re.compile(rf"\s+(?=[A-Z])(?i:{_SUBJECT})")
# The last one is an initial of a name.
_ABBREVIATION = re.compile(
    r"\b(?:(?:st|mt|jr|vs|inc|e\.g|i\.e|[ap]\.m|etc)\.|(?-i:[A-Z]\.))$", re.IGNORECASE
)
# A name follows a title, a number the others.
_TITLE = re.compile(r"\b(?:mr|mrs|ms|dr|prof|sr|sra|sgt|col|capt|lt|gen|gov|rev|sen)\.$", re.IGNORECASE)
_BEFORE_NUMBER = re.compile(
    r"\b(?:no|nr|vol|fig|ch|pp?|ca?|approx|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\.$",
    re.IGNORECASE,
)
_NUMBER_NEXT = re.compile(r"\s+\d")
_EDGES = " \t\r\xa0\u3000\ufeff\u200b,;:*_#>-•–—\"'“”‘’()[]"  # noqa: RUF001 (quotation marks of captions)
_NUMBERING = re.compile(r"\s*(?:[-+*•>#]+|\(?\d{1,2}[.)](?=\s)|\(?[a-h]\)(?=\s))\s*")
_POINTING = re.compile(
    r"(?:(?:and|but|so|then|next|later|finally|suddenly|soon|now|again|also|eventually|meanwhile|"
    r"afterwards?|still),?\s+)*(?:it|he|she|they|its|his|her|their|this|these|those|both)\b"
    rf"|{_PLACE}\s+(?:him|her|it|them|this|that)\b",
    re.IGNORECASE,
)
_END = (".", "!", "?", "。", "！", "？", "…", "।", "\u06d4", "؟")
_WORD = re.compile(r"\d+(?:[.,:]\d+)+|\w+(?:['’]\w+)*")
# Words that state nothing themselves.
_SMALL = frozenset(
    re.findall(
        r"\w+",
        """
        a an the and or but of in on at to by with from for as is are was were be been being it its he
        she they them his her their this that these those there here then while which who whose has have
        had do does did can may will would onto off so also just very both each
        some any one video clip scene shot footage image frame seen shown visible shows appears
        """,
    )
)
_VOWEL = re.compile(r"[aeiouy]")
# Words whose plural has "es".
_HISSES = ("s", "x", "z", "ch", "sh")
# No statement: a heading, a bold label, a fence of code.
_HEADING = re.compile(
    r"^[ \t]*(?:#{1,6}[ \t].*|\*\*[^*\n]+(?:\*\*[ \t]*:|:\*\*)[ \t]*|[^\n.!?]*:[ \t]*|```.*)$",
    re.MULTILINE,
)
# What is denied is denied up to the end of the sentence.
_DENIES = re.compile(r"\b(?:no|not|neither|nor|without|never)\b|n['’]t\b", re.IGNORECASE)
# Longest text that is looked through for where a clause, a quotation or a bracket begins.
_FAR = 400
# A word in the middle of a sentence, also behind a quotation in Japanese.
_GOES_ON = re.compile(r"[\s,]*(?:[a-z]|と)")
_QUOTES = re.compile(r"(?<![\w.,!?;:])\"(?=\w)")
_OPENING, _CLOSING = "([{（【“「", ")]}）】”」"  # noqa: RUF001 (brackets of captions)
_DOUBLED = re.compile(r"(\w)\1\Z")


@dataclass(frozen=True)
class Claim:
    """A statement of a caption.

    Parameters
    ----------
    text
        The statement as it is asked: a clause that points back ("It stops.") stands behind the one
        that it points to.
    start, end
        Its place in the caption, in characters; None if it is not there word by word.
    said
        What the caption itself says, without what makes a question of it: the name of a value, the
        times of an event, the clause that it points to.
    """

    text: str
    start: int | None
    end: int | None
    said: str


def split_claims(text: str, schema: str | None = None) -> list[Claim]:
    """Return the statements of a caption, in order.

    Sentences are cut at ``;``, at dashes, and at commas before a new subject. Of a caption in JSON,
    each value is a statement: ``colour: red``, a list's objects as one each, an event with its times.

    Parameters
    ----------
    text
        The caption.
    schema
        Schema of the recipe, or None for free text.
    """
    found = None
    if schema is not None:
        values, _ = structured.read(text, schema)
        found = list(_of_values(values, _Places(text))) if values else None
        if found is None and text.lstrip().startswith(("{", "[")):
            # JSON that was cut off: its parts are no statements.
            found = []
    return _of_text(text) if found is None else found


def _of_text(text: str) -> list[Claim]:
    claims: list[Claim] = []
    before = ""
    # Places stay: what states nothing becomes blank.
    text = _HEADING.sub(lambda match: " " * len(match[0]), text)
    for start, end in _sentences(text):
        borders = [start]
        cuts = list(_CLAUSE.finditer(text, start, end))
        for number, cut in enumerate(cuts):
            behind = text[cut.end() : cuts[number + 1].start() if number + 1 < len(cuts) else end]
            near = max(start, cut.start() - _FAR)
            part = text[max(borders[-1], near) : cut.start()]
            if _divides(cut, part, behind, text[near : cut.start()]):
                borders += [cut.start(), cut.end()]
        borders.append(end)
        for first, last in zip(borders[::2], borders[1::2], strict=True):
            first, last = _trimmed(text, first, last)
            said = text[first:last].replace("**", "")
            if not any(each.isalpha() for each in said):
                continue
            asked = said[0].upper() + said[1:]
            asked = asked if asked.rstrip('"”').endswith(_END) else f"{asked}."
            if before and _POINTING.match(said):
                asked = f"{before} {asked}"
            else:
                before = asked
            claims.append(Claim(asked, first, last, said))
    return claims


def _divides(cut: re.Match[str], part: str, behind: str, sentence: str) -> bool:
    """Return whether a clause ends here, rather than a thing of a list, or what is in brackets."""
    if _ADVERBIAL.fullmatch(part.strip()) or _open_marks(sentence):
        return False
    if not cut[0].startswith(","):
        return True
    # An article and a noun have no verb; nor has what comes behind them in a list.
    return not (
        _DENIES.search(sentence) or _is_thing(part.rpartition(",")[2].strip()) or _is_thing(behind)
    )


def _is_thing(part: str) -> bool:
    return len(_WORD.findall(part)) < 3 and not _POINTING.match(part) and not part.startswith("there")


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    """Yield where sentences begin and end."""
    open_at: int | None = None
    for match in _SENTENCE.finditer(text):
        start = match.start() if open_at is None else open_at
        open_at = start if _goes_on(text, start, match.end()) else None
        if open_at is None:
            yield start, match.end()
    if open_at is not None:
        yield open_at, len(text)


def _goes_on(text: str, start: int, end: int) -> bool:
    """Return whether a sentence goes on behind a mark that could end it."""
    said = text[max(start, end - _FAR) : end]
    if _TITLE.search(said) or (_BEFORE_NUMBER.search(said) and _NUMBER_NEXT.match(text, end)):
        return True
    if _ABBREVIATION.search(said):
        return not _BEGINNING.match(text, end)
    return end - start < _FAR and _is_open(said, text[end : end + _FAR].split("\n")[0])


def _is_open(said: str, rest: str) -> bool:
    """Return whether a quotation or a bracket of a sentence is still open, and closes in the rest."""
    places = [at for closing in _open_marks(said) if (at := rest.find(closing)) >= 0]
    # What ends with the quotation goes on only in the middle of a sentence.
    return any(at > 0 or _GOES_ON.match(rest, 1) for at in places)


def _open_marks(text: str) -> list[str]:
    """Return the marks that would close what a text has opened."""
    quotes = len(_QUOTES.findall(text))
    half = ['"'] if 2 * quotes > text.count('"') else []
    return half + [
        closing
        for opening, closing in zip(_OPENING, _CLOSING, strict=True)
        if text.count(opening) > text.count(closing)
    ]


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the borders of a statement without marks of lists and spaces around it."""
    if numbering := _NUMBERING.match(text, start, end):
        start = numbering.end()
    first, last = start, end
    while first < last and text[first] in _EDGES:
        first += 1
    while last > first and text[last - 1] in _EDGES:
        last -= 1
    # What is quoted or in brackets within a statement keeps both marks: "Hello," says a man.
    for opening, closing in ('""', "“”", "()", "[]"):
        said = text[first:last]
        half = said.count('"') % 2 if opening == closing else said.count(opening) - said.count(closing)
        if half and first > start and text[first - 1] == opening:
            first -= 1
        elif half and text[last : last + 1] == closing:
            last += 1
    return first, last


def _of_values(values: Any, places: _Places, name: str = "") -> Iterator[Claim]:
    """Yield the statements of nested values, with their places in the JSON text."""
    if isinstance(values, dict) and not name:
        for key, value in values.items():
            yield from _of_values(value, places, key)
    elif isinstance(values, dict):
        stated = {key: value for key, value in values.items() if value not in (None, "", [], {})}
        told = _event(values) or ", ".join(f"{key} {_plain(value)}" for key, value in stated.items())
        if told:
            said = values["text"] if _event(values) else " ".join(map(_plain, stated.values()))
            found = [(each, places.next(each)) for each in values.values()]
            place = next((at for each, at in found if isinstance(each, str)), (None, None))
            yield Claim(told if told.endswith(_END) else f"{told}.", *place, said)
    elif isinstance(values, list):
        for each in values:
            yield from _of_values(each, places, name)
    elif values is not None and values != "":
        said, (start, end) = _plain(values), places.next(values)
        parts = _of_text(said) if isinstance(values, str) else []
        if len(parts) < 2:
            parts = [Claim(said, start, end, said)]
        elif start is not None and end is not None and end - start == len(said):
            parts = [
                replace(part, start=start + (part.start or 0), end=start + (part.end or 0))
                for part in parts
            ]
        else:
            # Letters that JSON escapes have other places.
            parts = [replace(part, start=None, end=None) for part in parts]
        for part in parts:
            told = f"{name}: {part.text}"
            yield replace(part, text=told if told.endswith(_END) else f"{told}.")


def _event(values: dict[str, Any]) -> str | None:
    """Return an event of the ready schema as a sentence."""
    if set(values) != {"start", "end", "text"} or not isinstance(values["text"], str):
        return None
    return f"From {values['start']} to {values['end']} seconds: {values['text']}"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


class _Places:
    """Finds the values of a JSON text one after another, as they stand in it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._behind = 0

    def next(self, value: Any) -> tuple[int | None, int | None]:
        """Return where a value stands behind the last one, without its quotation marks."""
        if value is None:
            return None, None
        for packed in (json.dumps(value, ensure_ascii=False), json.dumps(value)):
            # A name of a value stands before a colon.
            pattern = re.compile(rf"(?<![\w.-]){re.escape(packed)}(?![\w.-])(?!\s*:)")
            if found := pattern.search(self._text, self._behind):
                self._behind = found.end()
                inner = int(isinstance(value, str))
                return found.start() + inner, found.end() - inner
        return None, None


def placed(statement: str, text: str) -> Claim:
    """Return a statement that a model made of a caption, with its place if it stands there."""
    words = r"\s+".join(map(re.escape, statement.strip(_EDGES + ".").split()))
    found = re.search(rf"(?<!\w){words}(?!\w)", text, re.IGNORECASE) if words else None
    start, end = found.span() if found else (None, None)
    return Claim(statement, start, end, statement)


def content_words(text: str) -> set[str]:
    """Return the words of a text that state something, without their endings."""
    words = (word.lower() for word in _WORD.findall(text))
    return {_stem(word) for word in words if word not in _SMALL}


def _stem(word: str) -> str:
    """Return what the forms of a word share: "hors" of horses, "stop" of stopped, "citi" of city."""
    stem = word
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        stem = word[:-1]
        if stem.endswith("ie") and len(stem) > 3:
            stem = stem[:-2] + "y"
        elif stem.endswith("e") and stem[:-1].endswith(_HISSES):
            stem = stem[:-1]
    for ending in ("ing", "ed"):
        bare = stem.removesuffix(ending)
        if bare != stem and len(bare) > 2 and _VOWEL.search(bare) and not stem.endswith("eed"):
            stem = bare
            break
    stem = re.sub("y$", "i", stem.rstrip("e"))
    return _DOUBLED.sub(r"\1", stem) or word


def missing_words(statement: str, text: str) -> list[str]:
    """Return the words of a statement that a text lacks, in the statement's order."""
    known = content_words(text)
    words = [word for word in _WORD.findall(statement) if word.lower() not in _SMALL]
    return list(dict.fromkeys(word.lower() for word in words if _stem(word.lower()) not in known))
