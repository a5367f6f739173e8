"""What a change of the recipe will cost, estimated from what was measured; and a prompt's tokens."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

from captionkit.engine import Engine
from captionkit.models.variants import get_variant
from captionkit.models.weights import find_problem, weights_folder
from captionkit.pipeline import engine_key
from captionkit.pipeline.prepared import window_tokens
from captionkit.recipe import Recipe
from captionkit.system import hardware
from captionkit.widgets.board import Board
from captionkit.widgets.parts import duration

#: Windows of a timed sample.
SAMPLE = 8
# Tokens are summed over so many windows, spread over all, and scaled.
_COUNTED = 200


def cost(board: Board, recipe: Recipe, indexes: Sequence[int]) -> str:
    """One sentence on what captioning some windows with a recipe will take.

    Raises
    ------
    ValueError
        It cannot run here: fp8 without a GPU that can, an unknown model.
    """
    own = board.session.recipe
    if (recipe.window_size, recipe.window_seconds) != (own.window_size, own.window_seconds):
        return "Other windows: cut anew first."
    if recipe.fp8:
        if board.session.endpoint:
            raise ValueError("fp8 is the server's to choose; leave it off here")
        _require_fp8()
    if not indexes:
        return "No window is chosen."
    count = len(indexes)
    windows = f"{count} window{'' if count == 1 else 's'}"
    session = board.session
    keys = [board.windows[index].window.key for index in indexes]
    if session.store.count_captioned(recipe.key, keys) == count:
        return f"All of {windows} are in the store already: nothing to compute."
    if session.backend is not None:
        return f"{windows} by the session's own backend."
    if session.endpoint:
        return f"{windows} at {session.endpoint}."
    key = engine_key(recipe, session.model_dir, **session.engine_options)
    live = Engine.live()
    if live is None or live.key != key:
        seconds = board.measured.get(f"start {key}")
        how_long = f"about {seconds:.0f} s" if seconds else "how long is not measured yet"
        return f"Needs a new engine: {how_long}."
    new = set(indexes) - board.seen(recipe)
    if not new:
        about = _about(board, "known", count)
        return f"Same windows, new text: fast{about}.{_whole(board, recipe, count)}"
    fresh = windows if len(new) == count else f"{len(new)} of {windows}"
    tokens = max(window_tokens(board.windows[index].window, recipe) for index in new)
    about = _about(board, "cold", len(new))
    return (
        f"Same engine, {fresh} new to it{about}, up to {tokens:,} video tokens each."
        f"{_whole(board, recipe, count)}"
    )


def frame_facts(board: Board, recipe: Recipe, index: int) -> str:
    """Return the size of a window's frames and its tokens, as the model gets them."""
    window = board.windows[index].window
    shown = window.source.metadata
    wide, high = get_variant(recipe.model).frame_size(shown.width, shown.height, recipe.pixel_budget)
    return f"frames of {wide} × {high} px, {window_tokens(window, recipe):,} video tokens a window"


def lacks_measure(board: Board, recipe: Recipe) -> bool:
    """Return whether the time of new windows is unknown, so that a timed sample would tell it."""
    return "cold" not in board.measured and len(board.seen(recipe)) < len(board.windows)


def _whole(board: Board, recipe: Recipe, count: int) -> str:
    """Return what the whole set takes, where that is more than the chosen windows."""
    total = len(board.windows)
    if count >= total:
        return ""
    known = len(board.seen(recipe))
    some = range(0, total, max(1, total // _COUNTED))
    each = sum(window_tokens(board.windows[index].window, recipe) for index in some) / len(some)
    times = [board.measured.get(what) for what in ("known", "cold")]
    cold = times[1]
    if cold is None:
        how_long = "time not measured yet"
    else:
        how_long = f"about {duration((times[0] or cold) * known + cold * (total - known))}"
    return f" The whole set of {total:,}: {how_long}, {each * total:,.0f} video tokens."


def _about(board: Board, what: str, count: int) -> str:
    seconds = board.measured.get(what)
    return f", about {max(0.1, seconds * count):.1f} s for {count}" if seconds else ""


@functools.cache
def _require_fp8() -> None:
    hardware.require_fp8()


def count_tokens(text: str, recipe: Recipe, model_dir: str) -> int | None:
    """Count a text's tokens for a recipe's model; None while its tokenizer is not on this machine."""
    folder = weights_folder(get_variant(recipe.model), model_dir)
    if find_problem(folder) or not (folder / "tokenizer.json").exists():
        return None
    tokenizer = _tokenizer(str(folder))
    # Count a placeholder as a number or a name; its own letters are not sent.
    plain = re.sub(r"\{(start|end|duration|video|caption)\}", "0", text)
    return None if tokenizer is None else len(tokenizer.encode(plain).ids)


@functools.lru_cache(maxsize=4)
def _tokenizer(folder: str) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return None
    return Tokenizer.from_file(f"{folder}/tokenizer.json")
