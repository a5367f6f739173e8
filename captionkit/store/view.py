"""The state of a window: its stages in the newest run with a result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class StoredStage:
    """A stage's caption with its figures and a person's review.

    ``prompt`` is the prompt in the model's chat format, ``prompt_text`` its readable part; ``schema``
    comes from the recipe.
    """

    schema: str | None
    stage: int
    text: str
    finish_reason: str
    prompt_text: str
    rating: int | None
    edited_text: str | None
    prompt: str
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int
    first_token_s: float
    seconds: float
    note: str | None
    tags: str | None


@dataclass(frozen=True)
class WindowState:
    """A run's result for a window: its id, its stages so far, and its error or None."""

    run: int
    result: int
    stages: tuple[StoredStage, ...]
    error: str | None
    done: bool


def window_states(rows: Iterable[Sequence[Any]]) -> dict[str, WindowState]:
    """Group rows of `queries.STATES` by window key."""
    found: dict[str, WindowState] = {}
    for key, run, result, error, done, schema, *facts in rows:
        stages = () if facts[0] is None else (StoredStage(schema, *facts),)
        before = found[key].stages if key in found else ()
        found[key] = WindowState(run, result, before + stages, error, bool(done))
    return found
