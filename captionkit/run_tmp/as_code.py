"""A run as the Python and the command line that repeat it.

Imports recipe; called by the command line (names of options) and the tuner.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from captionkit.recipe import Recipe

# Options whose names read better than their recipe field's.
OPTIONS = {"variant": "--model", "stage2_prompt": "--stage2", "max_output_tokens": "--max-tokens"}


def option(name: str) -> str:
    """The command line's option for a field of `Recipe`."""
    return OPTIONS.get(name, f"--{name.replace('_', '-')}")


def _changed(recipe: Recipe) -> dict[str, object]:
    return {
        each.name: getattr(recipe, each.name)
        for each in fields(recipe)
        if getattr(recipe, each.name) != each.default
    }


def python(source: object, recipe: Recipe, batch_size: int, places: Sequence[int] | None = None) -> str:
    """Python that repeats a run; ``places`` are rows of the session's windows, None means all."""
    if isinstance(source, list):
        source = [str(each) for each in source]
    elif isinstance(source, Path):
        source = str(source)
    changed = "".join(f"\n    {name}={value!r}," for name, value in _changed(recipe).items())
    made = f"ck.Recipe({changed}\n)" if changed else "ck.Recipe()"
    windows = "" if places is None else f", windows=session.windows.iloc[{list(places)}]"
    return (
        f"import captionkit as ck\n\nrecipe = {made}\n"
        f"session = ck.Session({source!r}, recipe=recipe)\n"
        f"run = session.caption(batch_size={batch_size}{windows})\n"
    )


def command(paths: Sequence[str], recipe: Recipe, batch_size: int) -> str:
    """The command that captions all windows of some videos with a recipe."""
    words = ["captionkit", "caption", *paths]
    for name, value in _changed(recipe).items():
        words += [option(name)] if value is True else [option(name), str(value)]
    return shlex.join([*words, "--batch-size", str(batch_size)])
