"""What a window browser lists: one row a window, with its caption so far; filtered and sorted.

No widget and no thread in here. Imports checks and store; called by `widgets.board`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from captionkit.review import checks
from captionkit.sources.collection import SourceWindow
from captionkit.store import Store

STATES = ("new", "waiting", "running", "done", "failed", "truncated", "looping")
SORTS = ("order", "state", "rating", "longest", "shortest")
FILTERS = ("search", "state", "video", "check", "rating", "sort")
_AT_ONCE = 500
# Of each window the newest run that has something of it, and all stages of that.
_LATEST = """
SELECT newest.window_key, newest.run, error, done, stage, text, finish_reason, prompt_text, rating,
    edited_text, prompt, prompt_tokens, output_tokens, cached_tokens, first_token_s, seconds,
    captions.note, json_extract(recipe, '$.schema')
FROM (
    SELECT window_key, run, result, max(run * 1000 + repeat) FROM jobs
    WHERE result NOT NULL {only} GROUP BY window_key
) AS newest
JOIN runs ON runs.id = newest.run JOIN results ON results.id = newest.result
LEFT JOIN captions ON captions.result = newest.result
ORDER BY newest.window_key, stage
"""
_STAGE = (
    "stage", "text", "finish_reason", "prompt_text", "rating", "edited_text", "prompt", "prompt_tokens",
    "output_tokens", "cached_tokens", "first_token_s", "seconds", "note", "schema",
)  # fmt: skip


@dataclass(frozen=True)
class Told:
    """What a run says of a window: its stages (dicts by `_STAGE`), or its error."""

    run: int
    stages: tuple[dict[str, Any], ...]
    error: str | None
    done: bool


def told(store: Store, keys: Sequence[str], run: int) -> dict[str, Told]:
    """What a run says of some windows, by window key."""
    found: dict[str, Told] = {}
    for begin in range(0, len(keys), _AT_ONCE):
        some = keys[begin : begin + _AT_ONCE]
        only = f"AND run = ? AND window_key IN ({','.join('?' * len(some))})"
        found |= _told(store, only, (run, *some))
    return found


def _told(store: Store, only: str = "", values: Sequence[object] = ()) -> dict[str, Told]:
    found: dict[str, Told] = {}
    for key, number, error, done, *facts in store.rows(_LATEST.format(only=only), values):
        stage = () if facts[0] is None else (dict(zip(_STAGE, facts, strict=True)),)
        before = found[key].stages if key in found else ()
        found[key] = Told(number, before + stage, error, bool(done))
    return found


def stage_checks(stage: dict[str, Any]) -> dict[str, Any]:
    """What `checks.check` finds in a stage of `Told`."""
    return checks.check(
        stage["text"],
        finish_reason=stage["finish_reason"],
        prompt=stage["prompt_text"] or "",
        schema=stage["schema"],
    )


@dataclass
class Row:
    """A window in the list.

    ``state`` is one of the first five of `STATES`, ``wanted`` the run that it is to show (None: the
    newest that has something of it), ``run`` the one that it shows.
    """

    source: SourceWindow
    state: str = "new"
    text: str = ""
    error: str = ""
    faults: tuple[str, ...] = ()
    rating: int | None = None
    edited: bool = False
    wanted: int | None = None
    run: int | None = None
    stage: int = 0

    @property
    def name(self) -> tuple[str, int]:
        """Video and window number."""
        return self.source.stored.video, self.source.stored.number

    @property
    def states(self) -> set[str]:
        """All states that a filter finds it by."""
        marks = {"truncated": "truncated", "looping": "repeats"}
        return {self.state} | {state for state, fault in marks.items() if fault in self.faults}

    def tell(self, told: Told | None) -> None:
        """Take over what the store knows."""
        self.state, self.text, self.error, self.faults = "new", "", "", ()
        self.rating, self.edited, self.run, self.stage = None, False, None, 0
        if told is None or not (told.done or told.stages):
            return
        self.run, self.error = told.run, told.error or ""
        self.state = "failed" if told.error else "done" if told.done else "waiting"
        if told.stages:
            last = told.stages[-1]
            self.rating, self.stage = last["rating"], last["stage"]
            self.edited = last["edited_text"] is not None
            self.text = last["edited_text"] if self.edited else last["text"]
            found = stage_checks(last)
            self.faults = tuple(name for name in checks.FAULTS if found[name])


@dataclass
class Rows:
    """All rows of a session; ``places`` are indexes into ``rows``."""

    rows: list[Row]
    by_name: dict[tuple[str, int], int] = field(init=False)

    def __post_init__(self) -> None:
        self.by_name = {row.name: place for place, row in enumerate(self.rows)}

    def load(self, store: Store, places: Iterable[int]) -> None:
        """Take over what the store knows of some windows."""
        by_run: dict[int | None, list[Row]] = {}
        for place in places:
            by_run.setdefault(self.rows[place].wanted, []).append(self.rows[place])
        for run, rows in by_run.items():
            keys = [row.source.stored.key for row in rows]
            found = _told(store) if run is None else told(store, keys, run)
            for key, row in zip(keys, rows, strict=True):
                row.tell(found.get(key))

    def view(self, wanted: Mapping[str, Any]) -> list[int]:
        """The places that a filter leaves, sorted; see `check_filter`."""
        words = str(wanted.get("search") or "").lower().split()
        state, video = wanted.get("state"), wanted.get("video")
        check, rating = wanted.get("check"), wanted.get("rating")
        left = [
            place
            for place, row in enumerate(self.rows)
            if (not state or state in row.states)
            and (not video or row.name[0] == video)
            and (not check or check in row.faults)
            and (not rating or (row.rating or 0) >= rating)
            and all(word in row.text.lower() for word in words)
        ]
        match wanted.get("sort"):
            case "state":
                left.sort(key=lambda place: STATES.index(self.rows[place].state))
            case "rating":
                left.sort(key=lambda place: -(self.rows[place].rating or 0))
            case "longest":
                left.sort(key=lambda place: -len(self.rows[place].text))
            case "shortest":
                left.sort(key=lambda place: len(self.rows[place].text))
        return left


def check_filter(wanted: Mapping[str, Any], videos: Iterable[str]) -> dict[str, Any]:
    """A filter without its empty entries.

    Keys: ``search`` (words that the caption holds), ``state`` (`STATES`), ``video``, ``check`` (one of
    `checks.FAULTS`), ``rating`` (at least), ``sort`` (`SORTS`).

    Raises
    ------
    ValueError
        An unknown key or value; lists the known ones.
    """
    known: dict[str, Sequence[Any]] = {
        "state": STATES,
        "video": list(videos),
        "check": checks.FAULTS,
        "rating": range(1, 6),
        "sort": SORTS,
    }
    for name, value in wanted.items():
        if name not in FILTERS:
            raise ValueError(f"the filter has no {name!r}; there are: {', '.join(FILTERS)}")
        if value and name in known and value not in known[name]:
            listed = ", ".join(map(str, known[name]))
            raise ValueError(f"the filter's {name} is {value!r}; give one of {listed}")
    return {name: value for name, value in wanted.items() if value}
