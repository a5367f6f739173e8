"""Tuner: a form for the recipe, and the buttons that caption with it.

Imports the board, the cost of a change and code; called by workbenches and notebooks.
"""

from __future__ import annotations

import glob
import json
from dataclasses import replace
from typing import Any

import ipywidgets as widgets

from captionkit import prompts, structured
from captionkit.runs import as_code
from captionkit.display import escape
from captionkit.models.variants import known_variants
from captionkit.recipe import Recipe
from captionkit.session import Session
from captionkit.widgets.board import Board, Change
from captionkit.widgets.browser import Browser
from captionkit.widgets.cost import cost, count_tokens
from captionkit.widgets.parts import FULL, bad, close_all, flow, show_problem, wide

_OWN = "a text of your own"
_FREE = "free text"
_OWN_SCHEMA = "JSON by a schema of your own"
_FORMS = {_FREE: "", **{f"JSON: {name}": name for name in structured.EXAMPLES}, _OWN_SCHEMA: ""}
_STYLE = {"description_width": "8em"}
_SETTLE_S = 0.15


class Tuner(widgets.VBox):
    """Model, prompts and settings; ``tuner.recipe`` is what the form says.

    Parameters
    ----------
    session
        A session, or the board that a workbench's widgets share.
    browser
        Whose windows "This window" and "Selected" mean; without one there is only "All windows".
    """

    def __init__(self, session: Session | Board, browser: Browser | None = None) -> None:
        self.board = session if isinstance(session, Board) else Board(session)
        self._owns_board = not isinstance(session, Board)
        self._browser = browser
        self._filling = False
        self._make_fields()
        self._make_buttons()
        self.note = widgets.HTML()
        self.cost = widgets.HTML()
        self.problem = widgets.HTML()
        self.code = widgets.HTML()
        self._code_button = widgets.ToggleButton(description="As code", icon="code")
        self.code.layout.display = "none"
        children = [
            widgets.HBox([self.model, self.library], layout=flow()),
            self.prompt,
            self.note,
            self.two_stages,
            self.stage2,
            self.form,
            self.schema,
            widgets.HBox(
                [self.batch_size, self.max_tokens, self.temperature, self.fps, self.window_size],
                layout=flow(),
            ),
            widgets.HBox([self.fp8, self.fresh, self._cut], layout=flow()),
            self.cost,
            widgets.HBox([*self._buttons, self._code_button], layout=flow()),
            self.problem,
            self.code,
        ]
        super().__init__(children, layout=widgets.Layout(width="100%", min_width="0"))
        self.add_class("ck-tuner")
        self.recipe = self.board.session.recipe
        for field in self._fields:
            field.observe(self._on_field, names="value")
        self.library.observe(self._on_library, names="value")
        self.form.observe(self._on_form, names="value")
        self._code_button.observe(self._on_code, names="value")
        self.board.recipe = lambda: self.recipe
        self.board.batch_size = lambda: int(self.batch_size.value)
        self.board.listen(self._on_change)
        if browser is not None:
            browser.observe(self._on_browser, names=["value", "selection"])

    def _make_fields(self) -> None:
        broad, narrow = wide("21em"), wide("15em")
        style = {"style": _STYLE}
        self.model = widgets.Combobox(
            description="Model",
            options=known_variants(),
            layout=broad,
            continuous_update=False,
            **style,
        )
        self.library = widgets.Dropdown(
            description="Prompt", options=[*prompts.PROMPTS, _OWN], layout=broad, **style
        )
        self.prompt = widgets.Textarea(description="Prompt text", layout=FULL, rows=4, **style)
        self.two_stages = widgets.Checkbox(description="Second stage", indent=True, **style)
        self.stage2 = widgets.Textarea(description="Stage-2 text", layout=FULL, rows=4, **style)
        self.form = widgets.Dropdown(
            description="Captions as", options=list(_FORMS), layout=broad, **style
        )
        self.schema = widgets.Textarea(
            description="JSON schema", layout=FULL, rows=6, continuous_update=False, **style
        )
        self.batch_size = widgets.BoundedIntText(
            description="Batch size", min=1, max=4096, value=self.board.session.batch_size,
            layout=narrow, **style,
        )  # fmt: skip
        self.max_tokens = widgets.BoundedIntText(
            description="Max tokens", min=1, max=32768, layout=narrow, **style
        )
        self.temperature = widgets.BoundedFloatText(
            description="Temperature", min=0, max=2, step=0.1, layout=narrow, **style
        )
        self.fps = widgets.BoundedFloatText(
            description="Sampling fps", min=0.01, max=120, step=0.5, layout=narrow, **style
        )
        self.window_size = widgets.BoundedIntText(
            description="Window frames", min=4, max=100_000, layout=narrow, **style
        )
        self.fp8 = widgets.Checkbox(description="fp8 weights", indent=False, layout=wide("9em"))
        self.fresh = widgets.Checkbox(
            description="Compute anew", indent=False, layout=wide("10em"),
            tooltip="Also what the store holds already",
        )  # fmt: skip
        self._fields = [
            self.model, self.prompt, self.two_stages, self.stage2, self.batch_size, self.max_tokens,
            self.temperature, self.fps, self.window_size, self.fp8, self.form, self.schema,
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
        if self._browser is not None:
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
            variant=self.model.value.strip() or "demo",
            prompt=name or text,
            stage2_prompt=self.stage2.value if self.two_stages.value else None,
            max_output_tokens=self.max_tokens.value,
            temperature=self.temperature.value,
            sampling_fps=self.fps.value,
            window_size=self.window_size.value,
            fp8=self.fp8.value,
            schema=None if self.form.value == _FREE else self.schema.value,
        )

    @recipe.setter
    def recipe(self, recipe: Recipe) -> None:
        self._filling = True
        self.model.value = recipe.variant
        self.prompt.value = recipe.prompt_text
        self.library.value = recipe.prompt if recipe.prompt in prompts.PROMPTS else _OWN
        self.two_stages.value = recipe.stage2_prompt is not None
        self.stage2.value = recipe.stage2_prompt or prompts.STAGE2_DEFAULT
        self.max_tokens.value = recipe.max_output_tokens
        self.temperature.value = recipe.temperature
        self.fps.value = recipe.sampling_fps
        self.window_size.value = recipe.window_size
        self.fp8.value = recipe.fp8
        self.schema.value = _pretty(recipe.schema) if recipe.schema else ""
        self.form.value = _form(recipe.schema)
        self._filling = False
        self._on_field()

    def _on_library(self, change: Any) -> None:
        if not self._filling and change["new"] != _OWN:
            self.prompt.value = prompts.PROMPTS[change["new"]]

    def _on_form(self, change: Any) -> None:
        if not self._filling and (name := _FORMS[change["new"]]):
            self.schema.value = _pretty(structured.canonical(name))

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
        cut = self.window_size.value == self.board.session.recipe.window_size
        self._cut.layout.display = "none" if cut else None
        self._refresh()

    def _on_browser(self, _: Any) -> None:
        self._refresh()

    def _on_change(self, change: Change) -> None:
        if self.stop.disabled == self.board.busy:
            self.stop.disabled = not self.board.busy
        show_problem(self.problem, self.board.problems.get("tuner", ""))
        if change.ended or change.recut:
            self._refresh()

    def _refresh(self) -> None:
        self.board.work.submit("tuner", self._explain, delay_s=_SETTLE_S)

    def places(self, which: str) -> list[int]:
        """The windows that a button means: ``this``, ``selected`` or ``all``."""
        if which == "all" or self._browser is None:
            return list(range(len(self.board.rows.rows)))
        if which == "selected":
            return self._browser.places
        return [] if self._browser.place is None else [self._browser.place]

    def _explain(self) -> None:
        """Write below the form what it means; in the worker, since a tokenizer is read from disk."""
        try:
            recipe = self.recipe
            chosen = self.places("selected") or self.places("all")
            said = escape(cost(self.board, recipe, chosen))
            self.note.value = self._note(recipe)
        except ValueError as error:
            said = bad(str(error))
        self.cost.value = f'<div role="status" aria-live="polite">{said}</div>'
        selected, total = len(self.places("selected")), len(self.places("all"))
        self.run_selected.description = f"Selected ({selected})"
        self.run_all.description = f"All windows ({total})"
        if self._code_button.value:
            self.code.value = self._as_code()

    def _note(self, recipe: Recipe) -> str:
        told = []
        stages: list[tuple[str, str, tuple[str, ...]]] = [
            ("prompt", recipe.prompt_text, prompts.STAGE1_PLACEHOLDERS)
        ]
        if recipe.stage2_prompt is not None:
            stages.append(("stage 2", recipe.stage2_prompt, prompts.STAGE2_PLACEHOLDERS))
        for name, text, known in stages:
            tokens = count_tokens(text, recipe, self.board.session.model_dir)
            counted = (
                f"{tokens} tokens" if tokens is not None else "tokens: not known before the download"
            )
            used = prompts.placeholders(text)
            marks = " ".join(f"<b>{{{each}}}</b>" if each in used else f"{{{each}}}" for each in known)
            told.append(f"{name}: {counted}; may hold {marks}")
        return f'<div class="ck-note">{"<br>".join(told)}</div>'

    def _run(self, which: str) -> None:
        try:
            recipe = self.recipe
            if self.window_size.value != self.board.session.recipe.window_size:
                raise ValueError("the window length was changed; press “Cut windows anew” first")
            places = self.places(which)
            if not places:
                what = "no window is ticked" if which == "selected" else "no window is chosen"
                raise ValueError(f"{what}; choose in the browser, or caption all windows")
        except ValueError as error:
            self.board.say(str(error), "tuner")
            return
        self.board.caption(
            places,
            recipe,
            batch_size=self.batch_size.value,
            priority=-1 if which == "this" else 0,
            fresh=self.fresh.value,
            where="tuner",
        )

    def _recut(self) -> None:
        if self.board.busy:
            why = "captions are under way; stop them before the windows are cut anew"
            self.board.say(why, "tuner")
            return
        size = self.window_size.value
        self.board.say("", "tuner")
        self.board.long.submit("recut", lambda: self._recut_now(size))

    def _recut_now(self, size: int) -> None:
        try:
            self.board.recut(size)
        except ValueError as error:
            self.board.say(str(error), "tuner")
        self._on_field()

    def _on_code(self, change: Any) -> None:
        self.code.layout.display = None if change["new"] else "none"
        self._refresh()

    def _as_code(self) -> str:
        session, recipe = self.board.session, self.recipe
        selected = self.places("selected") or None
        source = session.source
        known = glob.glob(source) if isinstance(source, str) else []
        paths = list(dict.fromkeys(each.stored.path for each in session.sources.windows))
        shell = as_code.command(paths, recipe, self.batch_size.value)
        if known and sorted(known) == sorted(paths) and glob.has_magic(str(source)):
            # Let the shell do what the session did.
            shell = as_code.command(["CK-PATTERN"], recipe, self.batch_size.value)
            shell = shell.replace("CK-PATTERN", str(source))
        told = as_code.python(source, recipe, self.batch_size.value, selected)
        whole = "" if selected is None else "# the command line captions all windows of the videos\n"
        return (
            f"<pre class='ck-code' tabindex='0' aria-label='As code'>{escape(told)}\n"
            f"{escape(whole)}{escape(shell)}</pre>"
        )

    def close(self) -> None:
        """Take it off the page; a board of its own ends with it."""
        self.board.forget(self._on_change)
        close_all(self)
        if self._owns_board:
            self.board.close()


def _form(schema: str | None) -> str:
    """The entry of `_FORMS` that a recipe's schema is."""
    if schema is None:
        return _FREE
    named = {structured.canonical(name): form for form, name in _FORMS.items() if name}
    return named.get(schema, _OWN_SCHEMA)


def _pretty(schema: str) -> str:
    return json.dumps(json.loads(schema), indent=1, ensure_ascii=False)
