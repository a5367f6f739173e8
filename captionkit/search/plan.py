"""What a search compares, and on how many windows: its settings and its rounds."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from captionkit.prompts import PROMPTS
from captionkit.recipe import Recipe

#: Fewest windows of a first round.
LEAST_WINDOWS = 2
# Windows of a first round that no budget narrows: fewer have no interval at all, see `paired`.
_FIRST_WINDOWS = 6
_LONGEST_NAME = 40


@dataclass(frozen=True)
class Setting:
    """One setting of a search.

    Parameters
    ----------
    name
        What tables and figures call the setting: the values that vary.
    recipe
        All settings.
    values
        The values that vary, by name.
    """

    name: str
    recipe: Recipe
    values: Mapping[str, Any]


def settings_of(
    axes: Mapping[str, Any], make_recipe: Callable[..., Recipe]
) -> tuple[list[Setting], dict[str, str]]:
    """Return the settings of a grid; and what cannot be a recipe, with the reason, by name.

    Parameters
    ----------
    axes
        Fields of `Recipe`, each with a list of values, or with one value for all.
    make_recipe
        As `session.Session.make_recipe`.

    Raises
    ------
    ValueError
        If a list is empty, or nothing varies.
    TypeError
        If a field is unknown.
    """
    lists = {name: list(each) if _is_list(each) else [each] for name, each in axes.items()}
    for name, values in lists.items():
        if not values:
            raise ValueError(f"{name} is empty; give at least one value")
    varying = [name for name, values in lists.items() if len(values) > 1]
    recipes: dict[str, tuple[Recipe, dict[str, Any]]] = {}
    refused: dict[str, str] = {}
    for combination in itertools.product(*lists.values()):
        value = dict(zip(lists, combination, strict=True))
        varied = {name: value[name] for name in varying}
        # For a recipe, None leaves the second stage as it is; here it is the value "one stage".
        given = {**value, "stage2": value["stage2"] or False} if "stage2" in value else value
        try:
            recipe = make_recipe(**given)
        except ValueError as error:
            refused[_name(varied)] = str(error)
            continue
        # Two texts of the same content are one setting.
        recipes.setdefault(recipe.key, (recipe, varied))
    if len(recipes) + len(refused) < 2:
        raise ValueError(
            "nothing varies: give at least two values of something, such as "
            'prompts=["short", "dense"] or sampling_fps=[1, 2]'
        )
    names = Counter[str]()
    made = []
    for recipe, varied in recipes.values():
        name = _name(varied)
        names[name] += 1
        made.append(Setting(f"{name} #{names[name]}" if names[name] > 1 else name, recipe, varied))
    # Settings that share an engine stand together, and among them those that share frames.
    return sorted(made, key=_order(made)), refused


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _order(made: Sequence[Setting]) -> Callable[[Setting], tuple[int, int]]:
    engines = list(dict.fromkeys((each.recipe.model, each.recipe.fp8) for each in made))
    frames = list(dict.fromkeys(each.recipe.frames_key for each in made))
    return lambda each: (
        engines.index((each.recipe.model, each.recipe.fp8)),
        frames.index(each.recipe.frames_key),
    )


def _name(values: Mapping[str, Any]) -> str:
    return ", ".join(_shown(name, value) for name, value in values.items())


def _shown(name: str, value: Any) -> str:
    if name == "prompt":
        return _short(value)
    if name == "stage2":
        if not value:
            return "one stage"
        return "two stages" if value is True else f"then {_short(value)}"
    if name == "sampling_fps":
        return f"{value:g} fps"
    if name == "pixel_budget":
        return "the model's pixels" if value is None else f"{value:,} px"
    if name == "fp8":
        return "fp8" if value else "bf16"
    return f"{name} {_short(str(value))}"


def _short(text: str) -> str:
    if text in PROMPTS:
        return text
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_NAME else line[: _LONGEST_NAME - 1] + "…"


@dataclass(frozen=True)
class Round:
    """A round of a search: so many settings, each on so many windows (earlier rounds' included)."""

    settings: int
    windows: int


def rounds(settings: int, windows: int, budget: int | None = None, *, apart: int = 0) -> list[Round]:
    """Plan successive halving: many settings on few windows, the better half on twice as many.

    Windows of an earlier round count again, without being captioned again. The last round has all
    windows, for two settings or more.

    Parameters
    ----------
    settings
        Their number, two or more.
    windows
        Windows of the last round.
    budget
        Most captioned windows of all settings together; None sets no limit. A small budget starts with
        fewer windows, then ends with fewer.
    apart
        Captioned windows of the budget that are not for the rounds.

    Raises
    ------
    ValueError
        If the budget is too small; the message has the numbers.
    """
    halvings = max(1, math.ceil(math.log2(settings)))
    first = min(windows, max(_FIRST_WINDOWS, math.ceil(windows / 2 ** (halvings - 1))))
    if budget is None:
        return _halved(settings, windows, first)
    for most in range(windows, LEAST_WINDOWS - 1, -1):
        for begin in range(min(first, most), LEAST_WINDOWS - 1, -1):
            plan = _halved(settings, most, begin)
            if cost(plan) + apart <= budget:
                return plan
    least = settings * LEAST_WINDOWS + apart
    fitting = (budget - apart) // LEAST_WINDOWS
    beside = f", and to hold some out ({apart})" if apart else ""
    instead = f"; or give {fitting} settings at most" if fitting >= 2 else ""
    raise ValueError(
        f"a budget of {budget} windows is too small to compare {settings} settings on "
        f"{LEAST_WINDOWS} windows each{beside}: give {least} or more{instead}"
    )


def _halved(settings: int, windows: int, first: int) -> list[Round]:
    plan = [Round(settings, first)]
    while plan[-1].windows < windows:
        last = plan[-1]
        left = max(2, math.ceil(last.settings / 2))
        plan.append(Round(left, min(windows, 2 * last.windows)))
    return plan


def cost(plan: Sequence[Round]) -> int:
    """Return the windows that a plan captions, of all settings together."""
    before = [0, *(each.windows for each in plan)]
    return sum(
        each.settings * (each.windows - known) for each, known in zip(plan, before, strict=False)
    )
