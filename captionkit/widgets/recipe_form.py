"""RecipeForm: fields for a recipe, each with the bounds and the help of its setting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import ipywidgets as widgets
import traitlets

from captionkit import prompts, structured
from captionkit.models.variants import known_variants
from captionkit.recipe import DEFAULTS, SETTINGS, Recipe
from captionkit.sources import CUTS, Cut
from captionkit.widgets.fields import MOST, NARROW, WIDE_LABEL, number_field, pretty
from captionkit.widgets.form_view import FormView
from captionkit.widgets.parts import FULL, flow, wide
from captionkit.widgets.presets import PresetRow

OWN = "a text of your own"
BY_SPANS = "given spans"
_BY_SECONDS = "seconds"
_FREE = "free text"
_OWN_SCHEMA = "JSON by a schema of your own"
_FORMS = {_FREE: "", **{f"JSON: {name}": name for name in structured.EXAMPLES}, _OWN_SCHEMA: ""}
_SHORT = {"description_width": "6em"}

# What comes back as it was left when a workbench is opened again.
_KEPT = (
    "model", "prompt", "two_stages", "stage2", "batch_size", "max_tokens", "temperature", "fps",
    "cut_by", "window_size", "window_seconds", "fp8", "form", "schema", "pixel_budget", "top_p",
    "penalty", "seed", "repeats", "text_only",
)  # fmt: skip


class RecipeForm(FormView):
    """The fields of a recipe; ``recipe`` is what they say. A part of the tuner."""

    _filling = False
    #: Cuts the windows anew; shown where the form asks for other windows.
    recut: widgets.Button

    def _refresh(self) -> None:
        """Show what the form means by now."""
        raise NotImplementedError

    def _make_fields(self) -> None:
        broad = wide("21em")
        self.model = widgets.Combobox(
            description="Model", options=known_variants(), layout=broad, continuous_update=False,
            style=WIDE_LABEL, tooltip=SETTINGS["model"].help,
        )  # fmt: skip
        self.library = widgets.Dropdown(
            description="Prompt", options=[*prompts.PROMPTS, OWN], layout=wide("20em"), style=_SHORT,
            tooltip=SETTINGS["prompt"].help,
        )  # fmt: skip
        self.prompt = widgets.Textarea(description="Prompt text", layout=FULL, rows=2, style=_SHORT)
        self.two_stages = widgets.Checkbox(
            description="Second stage",
            indent=False,
            layout=wide("8.5em"),
            tooltip=SETTINGS["stage2"].help,
        )  # fmt: skip
        self.text_only = widgets.Checkbox(
            description="Stage 2 without video", indent=False, layout=wide("13em"),
            tooltip=SETTINGS["text_only"].help,
        )  # fmt: skip
        self.stage2 = widgets.Textarea(description="Stage-2 text", layout=FULL, rows=2, style=_SHORT)
        self.form = widgets.Dropdown(
            description="Captions as", options=list(_FORMS), layout=broad, style=WIDE_LABEL,
            tooltip=SETTINGS["schema"].help,
        )  # fmt: skip
        self.schema = widgets.Textarea(
            description="JSON schema", layout=FULL, rows=6, continuous_update=False, style=WIDE_LABEL
        )
        self.batch_size = widgets.BoundedIntText(
            description="Batch size", min=1, max=MOST, value=self.board.session.batch_size,
            layout=wide(NARROW), style=WIDE_LABEL, tooltip="captions that run at once",
        )  # fmt: skip
        self.max_tokens = number_field("max_tokens", "Max tokens")
        self.temperature = number_field("temperature", "Temperature")
        self.fps = number_field("sampling_fps", "Sampling fps")
        self.window_size = number_field("window_size", "Window frames")
        self.window_seconds = number_field("window_seconds", "Window seconds")
        self.window_seconds.value = 8.0
        self.cut_by = widgets.Dropdown(
            description="Cut by", options=[CUTS[0], _BY_SECONDS, *CUTS[1:]], style=WIDE_LABEL,
            layout=wide("17em"),
            tooltip="cut windows of some frames; by scenes, also at each shot",
        )  # fmt: skip
        self.fp8 = widgets.Checkbox(
            description="fp8 weights", indent=False, layout=wide("9em"), tooltip=SETTINGS["fp8"].help
        )
        self.fresh = widgets.Checkbox(
            description="Compute anew", indent=False, layout=wide("10em"),
            tooltip="also what the store holds already",
        )  # fmt: skip
        self.pixel_budget = number_field("pixel_budget", "Pixel budget")
        self.pixel_budget.min, self.pixel_budget.value = 0, 0
        self.pixel_budget.tooltip = f"{SETTINGS['pixel_budget'].help}; 0 is the model's own budget"
        self.top_p = number_field("top_p", "Top p")
        self.penalty = number_field("repetition_penalty", "Repetition")
        self.seed = widgets.Text(
            description="Seed", placeholder="none", layout=wide(NARROW), style=WIDE_LABEL,
            tooltip=SETTINGS["seed"].help, continuous_update=False,
        )  # fmt: skip
        self.repeats = widgets.BoundedIntText(
            description="Repeats", min=1, max=100, value=1, layout=wide(NARROW), style=WIDE_LABEL,
            tooltip="how often each window is captioned, each time with its own seed",
        )  # fmt: skip
        self.presets = PresetRow(self, flow())
        self._fields = [
            self.pixel_budget, self.top_p, self.penalty, self.seed, self.repeats, self.fresh,
            self.model, self.prompt, self.two_stages, self.stage2, self.batch_size, self.max_tokens,
            self.temperature, self.fps, self.cut_by, self.window_size, self.window_seconds,
            self.fp8, self.form, self.schema, self.text_only,
        ]  # fmt: skip

    @property
    def recipe(self) -> Recipe:
        """What the form says.

        Raises
        ------
        ValueError
            The form has a value that no recipe may have; the message names it.
        """
        text = self.prompt.value
        name = next((name for name, known in prompts.PROMPTS.items() if known == text), None)
        return replace(
            self.board.session.recipe,
            model=self.model.value.strip() or DEFAULTS["model"],
            prompt=name or text,
            stage2=self.stage2.value if self.two_stages.value else None,
            text_only=self.two_stages.value and self.text_only.value,
            max_tokens=self.max_tokens.value,
            temperature=self.temperature.value,
            sampling_fps=self.fps.value,
            window_size=self.window_size.value,
            window_seconds=self._recipe_seconds,
            fp8=self.fp8.value,
            pixel_budget=self.pixel_budget.value or None,
            top_p=self.top_p.value,
            repetition_penalty=self.penalty.value,
            seed=self._seed,
            schema=None if self.form.value == _FREE else self.schema.value,
        )

    @recipe.setter
    def recipe(self, recipe: Recipe) -> None:
        self._filling = True
        self.model.value = recipe.model
        self.prompt.value = recipe.prompt_text
        self.library.value = recipe.prompt if recipe.prompt in prompts.PROMPTS else OWN
        self.two_stages.value = recipe.stage2 is not None
        self.stage2.value = recipe.stage2 or prompts.STAGE2_DEFAULT
        self.text_only.value = recipe.text_only
        self.max_tokens.value = recipe.max_tokens
        self.temperature.value = recipe.temperature
        self.fps.value = recipe.sampling_fps
        self.window_size.value = recipe.window_size
        self._show_cut()
        self.fp8.value = recipe.fp8
        self.pixel_budget.value = recipe.pixel_budget or 0
        self.top_p.value = recipe.top_p
        self.penalty.value = recipe.repetition_penalty
        self.seed.value = "" if recipe.seed is None else str(recipe.seed)
        self.schema.value = pretty(recipe.schema) if recipe.schema else ""
        self.form.value = _form(recipe.schema)
        self._filling = False
        self._on_field()

    @property
    def _seed(self) -> int | None:
        text = self.seed.value.strip()
        try:
            return int(text) if text else None
        except ValueError:
            raise ValueError(f"the seed is {text!r}; give a whole number, or nothing") from None

    @property
    def state(self) -> dict[str, Any]:
        """The values of all fields, as JSON can hold them."""
        return {name: getattr(self, name).value for name in _KEPT}

    def take(self, state: Mapping[str, Any]) -> list[str]:
        """Put values into fields by their names; return the names of those that do not fit.

        A field stays as it is where its value does not fit, or is missing, as of an older version.
        """
        self._filling = True
        unfit = [name for name in _KEPT if name in state and not _put(getattr(self, name), state[name])]
        self._filling = False
        self._on_field()
        return unfit

    def _on_library(self, change: Any) -> None:
        if not self._filling and change["new"] != OWN:
            self.prompt.value = prompts.PROMPTS[change["new"]]

    def _on_form(self, change: Any) -> None:
        if not self._filling and (name := _FORMS[change["new"]]):
            self.schema.value = pretty(structured.canonical(name))

    def _on_field(self, _: Any = None) -> None:
        if self._filling:
            return
        text = self.prompt.value
        name = next((name for name, known in prompts.PROMPTS.items() if known == text), OWN)
        self._filling = True
        self.library.value = name
        self._filling = False
        self.schema.layout.display = "none" if self.form.value == _FREE else None
        for field in (self.stage2, self.text_only):
            field.layout.display = None if self.two_stages.value else "none"
        by_seconds = self.cut_by.value == _BY_SECONDS
        self.window_size.layout.display = "none" if by_seconds else None
        self.window_seconds.layout.display = None if by_seconds else "none"
        self.recut.layout.display = None if self._is_cut_otherwise else "none"
        self._refresh()

    @property
    def _is_cut_otherwise(self) -> bool:
        """Whether the form asks for other windows than the session has."""
        session = self.board.session
        if self.cut_by.value == BY_SPANS:
            return False
        size, cut, seconds = self._asked_cut
        made = session.recipe
        same = cut == session.cut and seconds == made.window_seconds
        return session.spans is not None or not same or size not in (None, made.window_size)

    @property
    def _recipe_seconds(self) -> float | None:
        keeps = self.cut_by.value in (BY_SPANS, *CUTS[1:])
        return self.board.session.recipe.window_seconds if keeps else self._asked_cut[2]

    @property
    def _asked_cut(self) -> tuple[int | None, Cut, float | None]:
        """Frames, rule and seconds that the form asks for."""
        if self.cut_by.value == _BY_SECONDS:
            return None, CUTS[0], self.window_seconds.value
        return self.window_size.value, self.cut_by.value, None

    def _show_cut(self) -> None:
        """Offer the session's own spans as a cut while it has them, and show how it is cut."""
        session = self.board.session
        own = [] if session.spans is None else [BY_SPANS]
        self.cut_by.options = [*own, CUTS[0], _BY_SECONDS, *CUTS[1:]]
        seconds = session.recipe.window_seconds
        by_length = session.cut if seconds is None else _BY_SECONDS
        self.cut_by.value = BY_SPANS if own else by_length
        if seconds is not None:
            self.window_seconds.value = seconds


def _put(field: widgets.ValueWidget, value: Any) -> bool:
    """Put a value into a field, unless the field refuses or changes it; return whether it fits."""
    before = field.value
    try:
        field.value = value
    except (traitlets.TraitError, TypeError, ValueError, OverflowError):
        return False
    if field.value == value:
        return True
    field.value = before
    return False


def _form(schema: str | None) -> str:
    """The entry of `_FORMS` that a recipe's schema is."""
    if schema is None:
        return _FREE
    named = {structured.canonical(name): form for form, name in _FORMS.items() if name}
    return named.get(schema, _OWN_SCHEMA)
