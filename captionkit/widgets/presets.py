"""Presets: settings that go together, by what they are for; a menu of them, and of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import ipywidgets as widgets

from captionkit.display import visible
from captionkit.recipe import DEFAULTS, Recipe
from captionkit.store import Shelf, StoreError
from captionkit.widgets.board import Board
from captionkit.widgets.parts import left_out, wide

_SAMPLING = ("temperature", "top_p", "repetition_penalty")

#: Settings by the name of the preset; each sets only what it names.
PRESETS: dict[str, dict[str, Any]] = {
    "as the reference": {
        name: DEFAULTS[name]
        for name in (*_SAMPLING, "max_tokens", "sampling_fps", "pixel_budget", "seed")
    },
    "repeatable": {"temperature": 0.0, "top_p": 1.0, "seed": 0},
    "varied": {"temperature": 0.8, "top_p": 0.9, "repetition_penalty": 1.05},
    "quick look": {"max_tokens": 64, "sampling_fps": 1.0, "pixel_budget": 196 * 196},
    "fine detail": {"max_tokens": 1024, "sampling_fps": 4.0, "pixel_budget": 768 * 768},
}

# Name of one's own presets in the store.
_KEPT = "presets"
# Prompts are saved by name in a view of their own.
_TEXTS = ("prompt", "two_stages", "stage2")
_MOST = 500


class Form(Protocol):
    """The form that a preset fills."""

    board: Board
    recipe: Recipe

    @property
    def state(self) -> dict[str, Any]:
        """The values of all fields by their names."""

    def take(self, state: Mapping[str, Any]) -> list[str]:
        """Put values into fields; return the names of those that do not fit."""

    def report(self, problem: str) -> None:
        """Show a problem."""


class PresetRow(widgets.HBox):
    """A menu of the ready presets and one's own, and a name to save the form's settings by.

    Parameters
    ----------
    form
        The form that is filled and saved; all but its prompts.
    layout
        Of the row.
    """

    def __init__(self, form: Form, layout: widgets.Layout) -> None:
        self._form = form
        style = {"description_width": "8em"}
        self.menu = widgets.Dropdown(
            description="Preset", layout=wide("21em"), style=style, tooltip="set several values at once"
        )
        self.name = widgets.Text(
            placeholder="a name", layout=wide("11em"), tooltip="name of a preset of your own"
        )
        self.save = widgets.Button(
            description="Save as preset", layout=wide("auto"),
            tooltip="keep all settings of the form but its prompts in the store, by this name",
        )  # fmt: skip
        self.delete = widgets.Button(
            description="Delete", layout=wide("auto"), tooltip="delete your preset of this name"
        )
        super().__init__([self.menu, self.name, self.save, self.delete], layout=layout)
        self._list()
        self.menu.observe(self._on_menu, names="value")
        self.save.on_click(lambda _: self._try(self._save))
        self.delete.on_click(lambda _: self._try(self._delete))

    @property
    def own(self) -> dict[str, dict[str, Any]]:
        """One's own presets: values of fields, by the preset's name."""
        return {name: each for name, each in self._entries()[0].items() if name not in PRESETS}

    @property
    def damaged(self) -> str:
        """Sentence on presets of the store that cannot be read; empty without any."""
        found, names = self._entries()
        names += [name for name in found if name in PRESETS]
        return left_out("preset", names) if names else ""

    @property
    def _shelf(self) -> Shelf:
        return self._form.board.session.store.shelf

    def _entries(self) -> tuple[dict[str, dict[str, Any]], list[str]]:
        return self._shelf.entries(_KEPT)

    def _list(self) -> None:
        own = [(f"{visible(name)} (own)", name) for name in list(self.own)[:_MOST]]
        # A page names a choice by its place: what is saved must not move the ready ones.
        self.menu.options = [("choose…", ""), *((each, each) for each in PRESETS), *own]
        self.menu.value = ""

    def _on_menu(self, change: Any) -> None:
        if change["new"]:
            self._try(lambda: self._use(change["new"]))
            self.menu.value = ""

    def _use(self, name: str) -> str:
        if name in PRESETS:
            self._form.recipe = replace(self._form.recipe, **PRESETS[name])
            return ""
        self.name.value = name
        # Another notebook may have deleted it meanwhile.
        kept = self.own.get(name, {})
        unfit = self._form.take({each: kept[each] for each in kept if each not in _TEXTS})
        return f"of the preset {name!r} these values do not fit: {', '.join(unfit)}" if unfit else ""

    def _save(self) -> str:
        name = self.name.value.strip()
        if not name:
            raise ValueError("the preset has no name; write one beside the button")
        if name in PRESETS:
            raise ValueError(f"{name!r} is a ready preset; choose another name")
        state = {each: value for each, value in self._form.state.items() if each not in _TEXTS}
        self._shelf.keep_entry(_KEPT, name, state)
        self._list()
        return ""

    def _delete(self) -> str:
        name = self.name.value.strip()
        if name not in self.own:
            raise ValueError(f"you have no preset {name!r}; choose one of your own, then delete it")
        self._shelf.keep_entry(_KEPT, name, None)
        self.name.value = ""
        self._list()
        return ""

    def _try(self, act: Any) -> None:
        try:
            self._form.report(act())
        except (ValueError, StoreError) as error:
            self._form.report(str(error))
