"""Captions again with another seed, for those that have a fault."""

from __future__ import annotations

from dataclasses import replace

from captionkit.recipe import Recipe

# A recipe that takes nearly always the likeliest token would write the same caption again.
_TEMPERATURE, _TOP_P = 0.7, 0.9


def reroll_recipe(recipe: Recipe, number: int) -> Recipe:
    """Return a recipe for the ``number``-th new try, 1 for the first: another seed, and drawn tokens.

    Temperature and top_p are raised to 0.7 and 0.9 where they are lower: without that, no seed changes
    a text.
    """
    return replace(
        recipe,
        seed=(recipe.seed or 0) + number,
        temperature=max(recipe.temperature, _TEMPERATURE),
        top_p=max(recipe.top_p, _TOP_P),
    )
