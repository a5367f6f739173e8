"""Write a run as Python or as a command line that repeats the run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from captionkit.recipe import DEFAULTS, Recipe


def option(name: str) -> str:
    """Return the option of the command line for a field of `Recipe`."""
    return f"--{name.replace('_', '-')}"


def _changed(recipe: Recipe) -> dict[str, object]:
    return {
        name: getattr(recipe, name)
        for name, default in DEFAULTS.items()
        if getattr(recipe, name) != default
    }


def python(
    source: object,
    recipe: Recipe,
    batch_size: int,
    indexes: Sequence[int] | None = None,
    run: Mapping[str, object] | None = None,
    **how: object,
) -> str:
    """Return Python that repeats a run.

    ``indexes`` are rows of the session's windows, None for all; ``run`` are other arguments of
    `caption`, and ``how`` of the session, those that are None left out.
    """
    if isinstance(source, list):
        source = [str(each) for each in source]
    elif isinstance(source, Path):
        source = str(source)
    changed = "".join(f"\n    {name}={value!r}," for name, value in _changed(recipe).items())
    made = f"ck.Recipe({changed}\n)" if changed else "ck.Recipe()"
    given = {name: value for name, value in how.items() if value is not None}
    others = "".join(f", {name}={_shown(name, value)}" for name, value in given.items())
    calls = {name: value for name, value in (run or {}).items() if value is not None}
    rest = "".join(f", {name}={value!r}" for name, value in calls.items())
    windows = "" if indexes is None else f", windows=session.windows.iloc[{list(indexes)}]"
    return (
        f"import captionkit as ck\n\nrecipe = {made}\n"
        f"session = ck.Session({source!r}, recipe=recipe{others})\n"
        f"run = session.caption(batch_size={batch_size}{windows}{rest})\n"
    )


def _shown(name: str, value: object) -> str:
    """Return a value as Python; a table has no short form and stands as its argument's name."""
    return repr(str(value)) if isinstance(value, (str, Path)) else name


def command(paths: Sequence[str], recipe: Recipe, batch_size: int, **how: object) -> str:
    """Return the command that captions all windows of some videos; ``how`` as in `python`."""
    words = ["captionkit", "caption", *paths]
    given = {name: value for name, value in how.items() if value is not None}
    for name, value in given.items():
        # A table has to be saved before a command can read it.
        words += [option(name), str(value) if isinstance(value, (str, Path)) else f"{name}.csv"]
    for name, value in _changed(recipe).items():
        words += [option(name)] if value is True else [option(name), str(value)]
    return shlex.join([*words, "--batch-size", str(batch_size)])
