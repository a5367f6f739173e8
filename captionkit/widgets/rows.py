"""What a window browser lists: one row a window, with its caption so far; filtered and sorted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from captionkit.review import FAULTS, UNSUPPORTED, check
from captionkit.sources import PlannedWindow
from captionkit.store import BEST, Store, StoredStage, WindowState
from captionkit.store.reviews import split
from captionkit.system.hints import hint
from captionkit.widgets.verdicts import Verdict, shown_verdicts

#: The states that a filter finds, each with its mark in the list.
STATES = {
    "new": "○", "waiting": "◔", "running": "◑", "done": "●", "failed": "✕", "truncated": "",
    "looping": "",
}  # fmt: skip
#: The orders of a list, each with its label; without one the windows stand in their own order.
SORTS = {
    "state": "by state", "rating": "best rated", "lowest": "lowest rated first",
    "apart": "furthest apart first", "supported": "least supported first",
    "longest": "longest", "shortest": "shortest",
}  # fmt: skip
#: How far people have reviewed captions, each with its label.
REVIEWS = {
    "open": "not reviewed", "done": "reviewed", "accepted": "accepted", "edited": "edited",
    "faulty": "with a fault", "faulty-open": "with a fault, not reviewed",
    "noted": "with a note", "elsewhere": "reviewed in another run",
}  # fmt: skip
#: The tag of an accepted caption.
ACCEPTED = "accepted"
FILTERS = ("search", "state", "video", "check", "rating", "review", "tag", "run", "sort")
#: What a search looks through.
SEARCHED = "captions, names, notes and tags"
_RATINGS = range(1, 6)
_NUMBERS = ("rating", "run")
# Faults that a filter also finds as states, in the words of the list.
_FAULT_STATES = {"truncated": "truncated", "repeats": "looping"}
_ORDER = tuple(STATES)


@dataclass
class Row:
    """A window in the list.

    ``state`` is one of the first five of `STATES`, ``wanted`` the run that the row is to show (None:
    the newest that has something of the window), ``run`` the run that it shows with its ``result``.
    ``tags`` and ``note`` are of the caption, ``window_tags`` and ``window_note`` of the window.
    ``elsewhere`` are other runs in which a person reviewed the window, ``apart`` is how little two
    chosen runs share (None where no two were chosen), ``supported`` the share of the shown caption's
    claims that are true (None where they were not asked).
    """

    window: PlannedWindow
    state: str = "new"
    text: str = ""
    error: str = ""
    faults: tuple[str, ...] = ()
    rating: int | None = None
    edited: bool = False
    wanted: int | None = None
    run: int | None = None
    stage: int = 0
    result: int | None = None
    tags: tuple[str, ...] = ()
    note: str = ""
    window_tags: tuple[str, ...] = ()
    window_note: str = ""
    elsewhere: tuple[int, ...] = ()
    apart: float | None = None
    supported: float | None = None

    @property
    def reviewed(self) -> bool:
        """Whether a person rated, edited or accepted the shown caption."""
        return self.rating is not None or self.edited or ACCEPTED in self.tags

    @property
    def open(self) -> bool:
        """Whether it has a caption that nobody reviewed."""
        return bool(self.text) and not self.reviewed

    @property
    def reviews(self) -> set[str]:
        """All entries of `REVIEWS` that a filter finds it by."""
        marks = {
            "open": self.open, "done": self.reviewed, "accepted": ACCEPTED in self.tags,
            "edited": self.edited, "faulty": bool(self.faults),
            "faulty-open": bool(self.faults) and self.open, "elsewhere": bool(self.elsewhere),
            "noted": bool(self.note or self.window_note),
        }  # fmt: skip
        return {name for name, on in marks.items() if on}

    @property
    def searched(self) -> str:
        """What a search looks through, in small letters: see `SEARCHED`."""
        tags = (*self.tags, *self.window_tags)
        parts = (self.text, f"{self.name[0]} {self.name[1]}", self.note, self.window_note, *tags)
        return "\n".join(parts).lower()

    @property
    def name(self) -> tuple[str, int]:
        """Video and window number."""
        return self.window.video, self.window.number

    @property
    def states(self) -> set[str]:
        """All states that a filter finds it by."""
        return {self.state} | {state for fault, state in _FAULT_STATES.items() if fault in self.faults}

    @property
    def marks(self) -> list[str]:
        """Its faults, in the words of the list."""
        return [_FAULT_STATES.get(fault, fault) for fault in self.faults]

    def load(self, stored: WindowState | None, verdict: Verdict | None = None) -> None:
        """Show what the store holds of the window; ``verdict`` is the one on its last stage."""
        verdict = verdict or Verdict()
        self.state, self.text, self.error, self.faults = "new", "", "", ()
        self.rating, self.edited, self.run, self.stage = None, False, None, 0
        self.result, self.tags, self.note, self.supported = None, (), "", None
        if stored is None or not (stored.done or stored.stages):
            return
        self.run, self.result, self.error = stored.run, stored.result, stored.error or ""
        self.state = "failed" if stored.error else "done" if stored.done else "waiting"
        if stored.stages:
            last = stored.stages[-1]
            self.rating, self.stage = last.rating, last.stage
            self.edited = last.edited_text is not None
            self.tags, self.note = tuple(split(last.tags)), last.note or ""
            self.text = last.text if last.edited_text is None else last.edited_text
            found = stage_checks(last, verdict)
            self.supported = verdict.supported
            self.faults = tuple(name for name in FAULTS if found[name])


class Rows(list[Row]):
    """The rows of a board's windows, found by key and by name; rows are only added."""

    def __init__(self) -> None:
        super().__init__()
        #: Indexes by window key.
        self.by_key: dict[str, int] = {}
        self._by_name: dict[tuple[str, int], int] = {}

    def add(self, rows: Sequence[Row]) -> None:
        """Append rows."""
        for index, row in enumerate(rows, len(self)):
            self.by_key[row.window.key] = self._by_name[row.name] = index
        self += rows

    def index_of(self, video: str, number: int) -> int:
        """The index of a window.

        Raises
        ------
        KeyError
            No such window is opened.
        """
        if (video, number) not in self._by_name:
            raise KeyError(f"there is no window {number} of {video!r} in this session")
        return self._by_name[video, number]


def load_stored(store: Store, rows: Iterable[Row]) -> None:
    """Show in some rows what the store holds of their windows."""
    by_run: dict[int | None, list[Row]] = {}
    rows = list(rows)
    marks, reviewed = store.window_marks([row.window.key for row in rows]), store.reviewed()
    for row in rows:
        by_run.setdefault(row.wanted, []).append(row)
    for run, some in by_run.items():
        states = store.states([row.window.key for row in some], run)
        found = shown_verdicts(store, states)
        for row in some:
            row.load(states.get(row.window.key), found.get(row.window.key))
            row.window_note, tags = marks.get(row.window.key, ("", ""))
            row.window_tags = tuple(split(tags))
            others = reviewed.get(row.window.key, {})
            row.elsewhere = tuple(
                sorted(number for number, result in others.items() if result != row.result)
            )


def load_before(store: Store, row: Row) -> Row | None:
    """Return a window as the newest run before the shown one left it; None without such a run."""
    newest = row.run if row.wanted in (None, BEST) else row.wanted
    if newest is None:
        return None
    stored = store.states([row.window.key], before=newest).get(row.window.key)
    if stored is None or not stored.stages:
        return None
    earlier = Row(row.window)
    earlier.load(stored, shown_verdicts(store, {row.window.key: stored}).get(row.window.key))
    return earlier


def stage_checks(stage: StoredStage, verdict: Verdict) -> dict[str, Any]:
    """Return the findings of a stored caption: those of `review.check`, and ``unsupported``."""
    by_rule = check(
        stage.text,
        finish_reason=stage.finish_reason,
        prompt=stage.prompt_text or "",
        schema=stage.schema,
    )
    return {**by_rule, UNSUPPORTED: verdict.unsupported}


def listed(rows: Sequence[Row], wanted: Mapping[str, Any]) -> list[int]:
    """Indexes of the rows that a filter leaves, sorted; see `check_filter`."""
    words = str(wanted.get("search") or "").lower().split()
    state, video = wanted.get("state"), wanted.get("video")
    check, rating = wanted.get("check"), wanted.get("rating")
    review, tag = wanted.get("review"), wanted.get("tag")
    left = [
        index
        for index, row in enumerate(rows)
        if (not state or state in row.states)
        and (not video or row.name[0] == video)
        and (not check or check in row.faults)
        and (not rating or (row.rating or 0) >= rating)
        and (not review or review in row.reviews)
        and (not tag or tag in row.tags or tag in row.window_tags)
        and (not words or _found(row, words))
    ]
    match wanted.get("sort"):
        case "state":
            left.sort(key=lambda index: _ORDER.index(rows[index].state))
        case "rating":
            left.sort(key=lambda index: -(rows[index].rating or 0))
        case "lowest":
            left.sort(key=lambda index: rows[index].rating or _RATINGS.stop)
        case "apart":
            # Windows that the two runs do not share come last.
            left.sort(key=lambda index: -_at_least_zero(rows[index].apart))
        case "supported":
            # Captions that were not verified come last.
            left.sort(key=lambda index: _verified_first(rows[index].supported))
        case "longest":
            left.sort(key=lambda index: -len(rows[index].text))
        case "shortest":
            left.sort(key=lambda index: len(rows[index].text))
    return left


def _found(row: Row, words: Sequence[str]) -> bool:
    searched = row.searched
    return all(word in searched for word in words)


def _at_least_zero(apart: float | None) -> float:
    return -1.0 if apart is None else apart


def _verified_first(supported: float | None) -> float:
    return 2.0 if supported is None else supported


def all_tags(rows: Iterable[Row]) -> list[str]:
    """Return the tags of windows and their captions, sorted."""
    return sorted({tag for row in rows for tag in (*row.tags, *row.window_tags)})


def choices(
    videos: Iterable[str], runs: Iterable[int] = (), tags: Iterable[str] = ()
) -> dict[str, list[dict[str, Any]]]:
    """What the page offers for each entry of a filter: ``value``, ``label`` and a state's ``mark``."""
    stars = [(each, "★" * each + (" or more" if each < _RATINGS[-1] else "")) for each in _RATINGS]
    return {
        "state": [
            _choice("", "any state"),
            *({**_choice(state, state), "mark": mark} for state, mark in STATES.items()),
        ],
        "video": [_choice("", "all videos"), *(_choice(each, each) for each in videos)],
        "check": [_choice("", "any check"), *(_choice(each, each) for each in FAULTS)],
        "rating": [_choice("", "any rating"), *(_choice(*each) for each in stars)],
        "review": [_choice("", "any review"), *(_choice(*each) for each in REVIEWS.items())],
        "tag": [_choice("", "any tag"), *(_choice(each, each) for each in tags)],
        "run": [
            _choice("", "newest run"),
            _choice(BEST, "best rated"),
            *(_choice(each, f"run {each}") for each in runs),
        ],
        "sort": [_choice("", "in order"), *(_choice(*each) for each in SORTS.items())],
    }


def _choice(value: str | int, label: str) -> dict[str, Any]:
    return {"value": value, "label": label}


def check_filter(
    wanted: Mapping[str, Any], videos: Iterable[str], runs: Iterable[int] = ()
) -> dict[str, Any]:
    """A filter without its empty entries.

    Keys: ``search`` (words of captions, names, notes or tags), ``state`` (`STATES`), ``video``,
    ``check`` (one of `review.FAULTS`), ``rating`` (at least), ``review`` (`REVIEWS`), ``tag``, ``run``
    (whose captions are shown, else each window's newest; `BEST` for the best rated), ``sort``
    (`SORTS`).

    Raises
    ------
    ValueError
        An unknown key or value; lists the known ones.
    """
    known: dict[str, Sequence[Any]] = {
        "state": list(STATES),
        "video": list(videos),
        "check": FAULTS,
        "rating": _RATINGS,
        "review": list(REVIEWS),
        "run": [BEST, *runs],
        "sort": list(SORTS),
    }
    for name, value in wanted.items():
        if name not in FILTERS:
            raise ValueError(
                f"the filter has no {name!r}{hint(name, FILTERS)}; there are: {', '.join(FILTERS)}"
            )
        kind, said = (int, "a whole number") if name in _NUMBERS else (str, "a text")
        if value and not isinstance(value, kind):
            raise ValueError(f"the filter's {name} is {value!r}; give {said}")
        if value and name in known and value not in known[name]:
            listed_values = ", ".join(map(str, known[name]))
            near = hint(value, known[name])
            raise ValueError(f"the filter's {name} is {value!r}{near}; give one of {listed_values}")
    return {name: value for name, value in wanted.items() if value}


def is_filter(wanted: Mapping[str, Any]) -> bool:
    """Whether a saved filter can be read, be it of other videos and runs."""
    try:
        check_filter(wanted, [wanted.get("video", "")], [wanted.get("run", 0)])
    except ValueError:
        return False
    return True
