"""Tuner: a form for the recipe, and the buttons that caption with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from captionkit import prompts, structured
from captionkit.display import escape
from captionkit.models.variants import known_variants
from captionkit.recipe import DEFAULTS, SETTINGS, Recipe
from captionkit.run import as_code
from captionkit.session import Session
from captionkit.sources import CUTS, Cut
from captionkit.widgets.board import Board
from captionkit.widgets.browser import Browser
from captionkit.widgets.change import Change
from captionkit.widgets.cost import cost, count_tokens
from captionkit.widgets.fields import MOST, NARROW, WIDE_LABEL, number_field, pretty, row_of
from captionkit.widgets.form_view import FormView
from captionkit.widgets.parts import FULL, bad, flow, wide
from captionkit.widgets.standing import bar

_OWN = "a text of your own"
_BY_SPANS = "given spans"
_BY_SECONDS = "seconds"
_FREE = "free text"
_OWN_SCHEMA = "JSON by a schema of your own"
_FORMS = {_FREE: "", **{f"JSON: {name}": name for name in structured.EXAMPLES}, _OWN_SCHEMA: ""}
_SHORT = {"description_width": "6em"}
_SETTLE_S = 0.15


class Tuner(FormView):
    """Model, prompts and settings; ``tuner.recipe`` is what the form says.

    Parameters
    ----------
    session
        A session, or the board that a workbench's views share.
    browser
        Whose windows "This window" and "Selected" mean; without one there is only "All windows".
    """

    name = "tuner"

    def __init__(self, session: Session | Board, browser: Browser | None = None) -> None:
        super().__init__(session, browser)
        self._filling = False
        self._make_fields()
        self._make_buttons()
        self.note = widgets.HTML()
        self.cost = widgets.HTML()
        self.code = widgets.HTML()
        self.progress = widgets.HTML()
        self._code_button = widgets.ToggleButton(
            description="As code", icon="code", layout=wide("auto")
        )
        self._more = widgets.ToggleButton(description="More", icon="sliders", layout=wide("auto"))
        self.code.layout.display = "none"
        self.add_class("ck-tuner")
        self.recipe = self.board.session.recipe
        for field in self._fields:
            field.observe(self._on_field, names="value")
        self.library.observe(self._on_library, names="value")
        self.form.observe(self._on_form, names="value")
        self._code_button.observe(self._on_code, names="value")
        self._more.observe(self._on_more, names="value")
        self.board.recipe = lambda: self.recipe
        self.board.batch_size = lambda: int(self.batch_size.value)
        if browser is not None:
            browser.observe(self._on_browser, names=["value", "selection"])
        numbers = [self.batch_size, self.max_tokens, self.temperature, self.fps]
        numbers += [self.cut_by, self.window_size, self.window_seconds]
        #: What is changed seldom: folded.
        self.drawer = widgets.VBox(
            [
                widgets.HBox([self.model, self.form], layout=flow()),
                self.schema,
                widgets.HBox(numbers, layout=flow()),
                widgets.HBox([self.fp8, self._cut], layout=flow()),
            ],
            layout=widgets.Layout(width="100%", display="none"),
        )
        self.drawer.add_class("ck-drawer")
        row = [self.library, self.two_stages, self.fresh, self._more, self._code_button]
        self.lay_out(
            [
                row_of([*self._buttons, self.progress], "ck-run"),
                self.problem,
                self.prompt,
                self.stage2,
                row_of(row, "ck-options"),
                self.cost,
                self.note,
                self.drawer,
                self.code,
            ]
        )

    def _make_fields(self) -> None:
        broad = wide("21em")
        self.model = widgets.Combobox(
            description="Model", options=known_variants(), layout=broad, continuous_update=False,
            style=WIDE_LABEL, tooltip=SETTINGS["model"].help,
        )  # fmt: skip
        self.library = widgets.Dropdown(
            description="Prompt", options=[*prompts.PROMPTS, _OWN], layout=wide("17em"), style=_SHORT,
            tooltip=SETTINGS["prompt"].help,
        )  # fmt: skip
        self.prompt = widgets.Textarea(description="Prompt text", layout=FULL, rows=2, style=_SHORT)
        self.two_stages = widgets.Checkbox(
            description="Second stage",
            indent=False,
            layout=wide("8.5em"),
            tooltip=SETTINGS["stage2"].help,
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
            layout=wide(NARROW),
            tooltip="cut windows of some frames; by scenes, also at each shot",
        )  # fmt: skip
        self.fp8 = widgets.Checkbox(
            description="fp8 weights", indent=False, layout=wide("9em"), tooltip=SETTINGS["fp8"].help
        )
        self.fresh = widgets.Checkbox(
            description="Compute anew", indent=False, layout=wide("10em"),
            tooltip="also what the store holds already",
        )  # fmt: skip
        self._fields = [
            self.model, self.prompt, self.two_stages, self.stage2, self.batch_size, self.max_tokens,
            self.temperature, self.fps, self.cut_by, self.window_size, self.window_seconds,
            self.fp8, self.form, self.schema,
        ]  # fmt: skip

    def _make_buttons(self) -> None:
        def button(text: str, act: Any, **looks: Any) -> widgets.Button:
            made = widgets.Button(description=text, layout=wide("auto"), **looks)
            made.on_click(act)
            return made

        self.run_this = button("This window", lambda _: self._run("this"))
        self.run_selected = button("Selected", lambda _: self._run("selected"))
        self.run_all = button("All windows", lambda _: self._run("all"), button_style="primary")
        self.stop = button("Stop", lambda _: self.board.stop(), disabled=True)
        self._cut = button("Cut windows anew", lambda _: self._recut())
        self._buttons = [self.run_all, self.stop]
        if self.browser is not None:
            self._buttons = [self.run_this, self.run_selected, self.run_all, self.stop]

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
            max_tokens=self.max_tokens.value,
            temperature=self.temperature.value,
            sampling_fps=self.fps.value,
            window_size=self.window_size.value,
            window_seconds=self._recipe_seconds,
            fp8=self.fp8.value,
            schema=None if self.form.value == _FREE else self.schema.value,
        )

    @recipe.setter
    def recipe(self, recipe: Recipe) -> None:
        self._filling = True
        self.model.value = recipe.model
        self.prompt.value = recipe.prompt_text
        self.library.value = recipe.prompt if recipe.prompt in prompts.PROMPTS else _OWN
        self.two_stages.value = recipe.stage2 is not None
        self.stage2.value = recipe.stage2 or prompts.STAGE2_DEFAULT
        self.max_tokens.value = recipe.max_tokens
        self.temperature.value = recipe.temperature
        self.fps.value = recipe.sampling_fps
        self.window_size.value = recipe.window_size
        self._show_cut()
        self.fp8.value = recipe.fp8
        self.schema.value = pretty(recipe.schema) if recipe.schema else ""
        self.form.value = _form(recipe.schema)
        self._filling = False
        self._on_field()

    def _on_library(self, change: Any) -> None:
        if not self._filling and change["new"] != _OWN:
            self.prompt.value = prompts.PROMPTS[change["new"]]

    def _on_form(self, change: Any) -> None:
        if not self._filling and (name := _FORMS[change["new"]]):
            self.schema.value = pretty(structured.canonical(name))

    def _on_field(self, _: Any = None) -> None:
        if self._filling:
            return
        text = self.prompt.value
        name = next((name for name, known in prompts.PROMPTS.items() if known == text), _OWN)
        self._filling = True
        self.library.value = name
        self._filling = False
        self.schema.layout.display = "none" if self.form.value == _FREE else None
        self.stage2.layout.display = None if self.two_stages.value else "none"
        by_seconds = self.cut_by.value == _BY_SECONDS
        self.window_size.layout.display = "none" if by_seconds else None
        self.window_seconds.layout.display = None if by_seconds else "none"
        self._cut.layout.display = None if self._is_cut_otherwise else "none"
        self._refresh()

    def _on_browser(self, _: Any) -> None:
        self._refresh()

    def on_change(self, change: Change) -> None:
        """Let a run be stopped while one is under way; estimate the cost again when one ended."""
        super().on_change(change)
        self.stop.disabled = not (self.board.busy or self.board.opening)
        self.progress.value = bar(self.board)
        if change.ended or change.grown or change.recut:
            self._refresh()

    def _refresh(self) -> None:
        self.board.work.submit("tuner", self._explain, delay_s=_SETTLE_S)

    def indexes(self, which: str) -> list[int]:
        """The windows that a button means: ``this``, ``selected`` or ``all``."""
        if which == "all" or self.browser is None:
            return list(range(len(self.board.windows)))
        if which == "selected":
            return self.browser.indexes
        return [] if self.browser.index is None else [self.browser.index]

    def _explain(self) -> None:
        """Write below the form what it means; in a job thread, since a tokenizer is read from disk."""
        try:
            recipe = self.recipe
            chosen = self.indexes("selected") or self.indexes("all")
            text = escape(cost(self.board, recipe, chosen))
            self.note.value = self._note(recipe)
        except ValueError as error:
            text = bad(str(error))
        self.cost.value = f'<div role="status" aria-live="polite">{text}</div>'
        selected, total = len(self.indexes("selected")), len(self.indexes("all"))
        self.run_selected.description = f"Selected ({selected})"
        self.run_all.description = f"All windows ({total})"
        if self._code_button.value:
            self.code.value = self._as_code()

    def _note(self, recipe: Recipe) -> str:
        stages: list[tuple[str, str, tuple[str, ...]]] = [
            ("prompt", recipe.prompt_text, prompts.STAGE1_PLACEHOLDERS)
        ]
        if recipe.stage2 is not None:
            stages.append(("stage 2", recipe.stage2, prompts.STAGE2_PLACEHOLDERS))
        lines = []
        for name, text, known in stages:
            tokens = count_tokens(text, recipe, self.board.session.model_dir)
            counted = (
                f"{tokens} tokens" if tokens is not None else "tokens: not known before the download"
            )
            used = prompts.placeholders(text)
            marks = " ".join(f"<b>{{{each}}}</b>" if each in used else f"{{{each}}}" for each in known)
            lines.append(f"{name}: {counted}; may hold {marks}")
        return f'<div class="ck-note">{"<br>".join(lines)}</div>'

    def _run(self, which: str) -> None:
        try:
            recipe = self.recipe
            if self._is_cut_otherwise:
                raise ValueError("the windows' cut was changed; press “Cut windows anew” first")
            indexes = self.indexes(which)
            if not indexes:
                what = "no window is ticked" if which == "selected" else "no window is chosen"
                raise ValueError(f"{what}; choose in the browser, or caption all windows")
        except ValueError as error:
            self.report(str(error))
            return
        self.board.caption(
            indexes,
            recipe,
            batch_size=self.batch_size.value,
            priority=-1 if which == "this" else 0,
            fresh=self.fresh.value,
            view=self.name,
        )

    def _recut(self) -> None:
        if self.board.busy:
            self.report("captions are under way; stop them before the windows are cut anew")
            return
        asked = self._asked_cut
        self.report("")
        self.board.long.submit("recut", lambda: self._recut_now(*asked))

    def _recut_now(self, size: int | None, cut: Cut, seconds: float | None) -> None:
        try:
            self.board.recut(size, cut, seconds)
        except ValueError as error:
            self.report(str(error))
        self._show_cut()
        self._on_field()

    @property
    def _is_cut_otherwise(self) -> bool:
        """Whether the form asks for other windows than the session has."""
        session = self.board.session
        if self.cut_by.value == _BY_SPANS:
            return False
        size, cut, seconds = self._asked_cut
        made = session.recipe
        same = cut == session.cut and seconds == made.window_seconds
        return session.spans is not None or not same or size not in (None, made.window_size)

    @property
    def _recipe_seconds(self) -> float | None:
        keeps = self.cut_by.value in (_BY_SPANS, *CUTS[1:])
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
        own = [] if session.spans is None else [_BY_SPANS]
        self.cut_by.options = [*own, CUTS[0], _BY_SECONDS, *CUTS[1:]]
        seconds = session.recipe.window_seconds
        by_length = session.cut if seconds is None else _BY_SECONDS
        self.cut_by.value = _BY_SPANS if own else by_length
        if seconds is not None:
            self.window_seconds.value = seconds

    def _on_more(self, change: Any) -> None:
        self.drawer.layout.display = None if change["new"] else "none"

    def _on_code(self, change: Any) -> None:
        self.code.layout.display = None if change["new"] else "none"
        self._refresh()

    def _as_code(self) -> str:
        source, recipe = self.board.session.source, self.recipe
        selected = self.indexes("selected") or None
        given = source if isinstance(source, list) else [source]
        session = self.board.session
        how = {"spans": session.spans, "cut": None if session.cut == CUTS[0] else session.cut}
        # Name the files of tasks, which have no name on a command line.
        files = dict.fromkeys(row.window.path for row in self.board.windows)
        known = all(isinstance(each, (str, Path)) for each in given)
        shell = as_code.command(
            [str(each) for each in (given if known else files)], recipe, self.batch_size.value, **how
        )
        python = as_code.python(source, recipe, self.batch_size.value, selected, **how)
        whole = "" if selected is None else "# the command line captions all windows of the videos\n"
        return (
            f"<pre class='ck-code' tabindex='0' aria-label='As code'>{escape(python)}\n"
            f"{escape(whole)}{escape(shell)}</pre>"
        )


def _form(schema: str | None) -> str:
    """The entry of `_FORMS` that a recipe's schema is."""
    if schema is None:
        return _FREE
    named = {structured.canonical(name): form for form, name in _FORMS.items() if name}
    return named.get(schema, _OWN_SCHEMA)
