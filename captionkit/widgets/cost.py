"""What a change of the recipe will cost, estimated from what was measured; and a prompt's tokens."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from captionkit.engine import Engine
from captionkit.models.variants import get_variant
from captionkit.models.weights import find_problem, weights_folder
from captionkit.pipeline import engine_key
from captionkit.pipeline.prepared import window_tokens
from captionkit.recipe import Recipe
from captionkit.system import hardware
from captionkit.widgets.board import Board
from captionkit.widgets.parts import counted, duration

#: Windows of a timed sample.
SAMPLE = 8
# Tokens are summed over so many windows, spread over all, and scaled.
_COUNTED = 200


@dataclass(frozen=True)
class Estimate:
    """What captioning some windows will take; ``seconds`` is None until a rate was measured.

    ``stored`` windows need no work, and ``new`` ones are new to the engine. ``tokens`` are those of the
    frames of the windows that need work, without prompts and captions.
    """

    windows: int
    stored: int
    new: int
    tokens: int
    seconds: float | None

    def __str__(self) -> str:
        how_long = "time not measured yet"
        if self.seconds is not None:
            how_long = "about " + (
                duration(self.seconds) if self.seconds >= 10 else f"{max(0.1, self.seconds):.1f} s"
            )
        stored = f", {self.stored:,} in the store already" if self.stored else ""
        return f"{counted(self.windows, 'window')}{stored}: {how_long}, {self.tokens:,} video tokens"


def estimate(board: Board, recipe: Recipe, indexes: Sequence[int], *, fresh: bool = False) -> Estimate:
    """Estimate from measured rates what captioning some windows will take.

    ``fresh`` counts windows whose captions the store has, too.
    """
    keys = {board.windows[index].window.key: index for index in indexes}
    texts = board.session.texts(recipe, [board.windows[index].window for index in keys.values()])
    stored = set() if fresh else board.session.store.captioned_by(recipe.key, keys, texts.known())
    left = [index for key, index in keys.items() if key not in stored]
    new = len(set(left) - board.rates.seen(recipe))
    seconds = board.rates.seconds(recipe, len(left) - new, new)
    some = left[:: max(1, len(left) // _COUNTED)]
    each = sum(window_tokens(board.windows[index].window, recipe) for index in some)
    tokens = round(each / len(some) * len(left)) if some else 0
    return Estimate(len(keys), len(stored), new, tokens, seconds)


def cost(board: Board, recipe: Recipe, indexes: Sequence[int], *, fresh: bool = False) -> str:
    """Say what captioning some windows with a recipe will take, and what all windows would.

    Raises
    ------
    ValueError
        It cannot run here: fp8 without a GPU that can, an unknown model.
    """
    own, session = board.session.recipe, board.session
    if (recipe.window_size, recipe.window_seconds) != (own.window_size, own.window_seconds):
        return "Other windows: cut anew first."
    if recipe.fp8:
        if session.endpoint:
            raise ValueError("fp8 is the server's to choose; leave it off here")
        _require_fp8()
    if not indexes:
        return "No window is chosen."
    these = estimate(board, recipe, indexes, fresh=fresh)
    if these.stored == these.windows:
        return (
            f"All of {counted(these.windows, 'window')} are in the store already: nothing to compute."
        )
    known = "Same windows, new text: fast; " if these.new == 0 else ""
    lines = [f"{known or where(board, recipe)}{these}"]
    if these.windows < len(board.windows):
        whole = estimate(board, recipe, range(len(board.windows)), fresh=fresh)
        lines.append(f"Whole set: {whole}")
    return ". ".join(lines) + "."


def where(board: Board, recipe: Recipe) -> str:
    """Say which engine would caption, as the beginning of a sentence."""
    session = board.session
    if session.backend is not None:
        return "By the session's own backend: "
    if session.endpoint:
        return f"At {session.endpoint}: "
    key = engine_key(recipe, session.model_dir, **session.engine_options).anywhere
    if (live := Engine.live()) is not None and live.key.anywhere == key:
        return "Same engine: "
    seconds = board.rates.starts.get(key)
    how_long = f"about {seconds:.0f} s" if seconds else "how long is not measured yet"
    return f"Needs a new engine ({how_long}): "


def frame_facts(board: Board, recipe: Recipe, index: int) -> str:
    """Return the size of a window's frames and its tokens, as the model gets them."""
    window = board.windows[index].window
    shown = window.source.metadata
    wide, high = get_variant(recipe.model).frame_size(shown.width, shown.height, recipe.pixel_budget)
    return f"frames of {wide} by {high} px, {window_tokens(window, recipe):,} video tokens a window"


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
