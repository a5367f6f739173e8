"""Fields of forms, made from a recipe's settings, and rows of them."""

from __future__ import annotations

import json

import ipywidgets as widgets

from captionkit.recipe import SETTINGS
from captionkit.widgets.parts import flow, wide

WIDE_LABEL = {"description_width": "8em"}
NARROW = "15em"
#: Largest whole number that a page keeps exact; stands for no bound.
MOST = 2**53 - 1


def row_of(parts: list[widgets.Widget], name: str) -> widgets.HBox:
    """Make a row that breaks where the page ends, with a class for its style."""
    made = widgets.HBox(parts, layout=flow())
    made.add_class(name)
    return made


def number_field(name: str, label: str) -> widgets.BoundedIntText | widgets.BoundedFloatText:
    """A field with a setting's bounds, step and help; the recipe refuses an excluded bound."""
    setting = SETTINGS[name]
    least = setting.above if setting.least is None else setting.least
    field = widgets.BoundedIntText if setting.kind is int else widgets.BoundedFloatText
    return field(
        description=label,
        min=-MOST if least is None else least,
        max=MOST if setting.most is None else setting.most,
        step=setting.step,
        tooltip=setting.help,
        layout=wide(NARROW),
        style=WIDE_LABEL,
    )


def offer_runs(
    run_a: widgets.Dropdown, run_b: widgets.Dropdown, options: list[tuple[str, int]]
) -> bool:
    """Offer runs, the newest first: A stays what a person chose, B follows what was captioned last.

    Returns whether there is a run that was not there before.
    """
    values = [value for _, value in options]
    grew = bool(values) and values[0] not in {value for _, value in run_b.options}
    for control, rank in ((run_a, 1), (run_b, 0)):
        kept = control.value
        control.options = options
        default = values[min(rank, len(values) - 1)] if values else None
        stays = kept in values and not (grew and (rank == 0 or kept == values[0]))
        control.value = kept if stays else default
    if run_a.value == run_b.value and len(values) > 1:
        run_a.value = values[1]
    return grew


def pretty(schema: str) -> str:
    """Write a JSON schema over several lines."""
    return json.dumps(json.loads(schema), indent=1, ensure_ascii=False)
