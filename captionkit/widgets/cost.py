"""What a change of the recipe will cost, told from what was measured; and the tokens of a prompt.

Imports the engine's client, variants and hardware; called by the tuner.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

from captionkit.system import hardware
from captionkit.engine.client import Engine
from captionkit.engine.protocol import EngineKey
from captionkit.models.variants import get_variant
from captionkit.models.weights import find_problem, weights_folder
from captionkit.recipe import Recipe
from captionkit.widgets.board import Board


def cost(board: Board, recipe: Recipe, places: Sequence[int]) -> str:
    """One sentence on what captioning some windows with a recipe will take.

    Raises
    ------
    ValueError
        It cannot run here: fp8 without a GPU that can, an unknown model.
    """
    if recipe.window_size != board.session.recipe.window_size:
        return "Other windows: cut anew first."
    if recipe.fp8:
        if board.session.endpoint:
            raise ValueError("fp8 is the server's to choose; leave it off here")
        _require_fp8()
    if not places:
        return "No window is chosen."
    count = len(places)
    windows = f"{count} window{'' if count == 1 else 's'}"
    if _stored(board, recipe, places) == count:
        return f"All of {windows} are in the store already: nothing to compute."
    if board.session.endpoint:
        return f"{windows} at {board.session.endpoint}."
    folder = weights_folder(get_variant(recipe.variant), board.session.model_dir).resolve()
    live = Engine.live()
    key = EngineKey(str(folder), recipe.fp8, False, None)
    if live is None or live.key != key:
        seconds = board.measured.get(f"start {key}")
        how_long = f"about {seconds:.0f} s" if seconds else "how long is not measured yet"
        return f"Needs a new engine: {how_long}."
    new = set(places) - board.seen(recipe)
    if not new:
        return f"Same windows, new text: fast{_about(board, 'known', count)}."
    if len(new) == count:
        return f"Same engine, {windows} new to it{_about(board, 'cold', count)}."
    return f"Same engine, {len(new)} of {windows} new to it{_about(board, 'cold', len(new))}."


def _about(board: Board, what: str, count: int) -> str:
    seconds = board.measured.get(what)
    return f", about {max(0.1, seconds * count):.1f} s for {count}" if seconds else ""


def _stored(board: Board, recipe: Recipe, places: Sequence[int]) -> int:
    ((total,),) = board.session.store.rows(
        "SELECT count(*) FROM results WHERE recipe_key = ? AND done AND error IS NULL", (recipe.key,)
    )
    if total < len(places):
        return 0
    known = board.session.store.rows(
        "SELECT DISTINCT window_key FROM results WHERE recipe_key = ? AND done AND error IS NULL",
        (recipe.key,),
    )
    keys = {key for (key,) in known}
    return sum(board.rows.rows[place].source.stored.key in keys for place in places)


@functools.cache
def _require_fp8() -> None:
    hardware.require_fp8()


def count_tokens(text: str, recipe: Recipe, model_dir: str) -> int | None:
    """Tokens of a text for a recipe's model; None while its tokenizer is not on this machine."""
    folder = weights_folder(get_variant(recipe.variant), model_dir)
    if find_problem(folder) or not (folder / "tokenizer.json").exists():
        return None
    tokenizer = _tokenizer(str(folder))
    # A placeholder stands for a number or a name; its own letters are not sent.
    plain = re.sub(r"\{(start|end|duration|video|caption)\}", "0", text)
    return None if tokenizer is None else len(tokenizer.encode(plain).ids)


@functools.lru_cache(maxsize=4)
def _tokenizer(folder: str) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return None
    return Tokenizer.from_file(f"{folder}/tokenizer.json")
