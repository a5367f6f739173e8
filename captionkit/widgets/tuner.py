"""Tuner: a form for the recipe, and the buttons that caption with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from captionkit import prompts
from captionkit.display import escape
from captionkit.recipe import Recipe
from captionkit.run import as_code
from captionkit.session import Session
from captionkit.sources import CUTS, Cut
from captionkit.widgets.board import Board
from captionkit.widgets.browser import Browser
from captionkit.widgets.change import Change
from captionkit.widgets.cost import SAMPLE, Estimate, cost, count_tokens, estimate, frame_facts
from captionkit.widgets.fields import row_of
from captionkit.widgets.parts import WHOLE_WORDS, bad, flow, wide
from captionkit.widgets.recipe_form import BY_SPANS, RecipeForm
from captionkit.widgets.standing import bar

_SETTLE_S = 0.15
# Characters of a text beside the picture that the form shows.
_LONGEST = 160


class Tuner(RecipeForm):
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
        unfit = self._take_kept()
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
            browser.use_recipe = self.take_recipe
        numbers = [self.batch_size, self.max_tokens, self.temperature, self.fps]
        numbers += [self.cut_by, self.window_size, self.window_seconds, self.pixel_budget]
        numbers += [self.top_p, self.penalty, self.seed, self.repeats]
        #: What is changed seldom: folded.
        self.drawer = widgets.VBox(
            [
                self.presets,
                widgets.HBox([self.model, self.form], layout=flow()),
                self.schema,
                widgets.HBox(numbers, layout=flow()),
                widgets.HBox([self.fp8, self.text_only, self.recut], layout=flow()),
            ],
            layout=widgets.Layout(width="100%", display="none"),
        )
        self.drawer.add_class("ck-drawer")
        row = [self.library, self.two_stages, self.fresh, self._more, self._code_button, self.measure]
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
        if damaged := "\n".join(filter(None, (unfit, self.presets.damaged))):
            self.report(damaged)

    def _make_buttons(self) -> None:
        def button(text: str, act: Any, **looks: Any) -> widgets.Button:
            made = widgets.Button(description=text, layout=wide("auto"), **looks)
            made.on_click(act)
            return made

        self.run_this = button("This window", lambda _: self._run("this"))
        self.run_selected = button("Selected", lambda _: self._run("selected"))
        self.run_all = button("All windows", lambda _: self._run("all"), button_style="primary")
        self.verify = button("Verify", lambda _: self._verify())
        self.verify.tooltip = "ask the model whether each claim of the shown captions is true"
        self.stop = button("Stop", lambda _: self.board.stop(), disabled=True)
        self.recut = button("Cut windows anew", lambda _: self._recut())
        self.measure = button("Measure first", lambda _: self._measure())
        self.measure.tooltip = f"caption {SAMPLE} windows, to know what the whole set will take"
        self._buttons = [self.run_all, self.verify, self.stop]
        if self.browser is not None:
            self._buttons = [self.run_this, self.run_selected, *self._buttons]

    def _take_kept(self) -> str:
        """Fill the form as it was left, unless the session was opened with another recipe since.

        Returns what of it is damaged and left out, in words.
        """
        session, unfit = self.board.session, []
        self._own = session.recipe.to_json()
        self.recipe = session.recipe
        try:
            kept = session.store.shelf.kept(self.name)
            if isinstance(kept, dict) and kept.get("own") == self._own:
                state = dict(kept.get("state") or {})
                if session.spans is None and state.get("cut_by") == BY_SPANS:
                    del state["cut_by"]
                unfit = self.take(state)
        except (ValueError, TypeError):
            unfit = ["the whole form"]
        # What does not fit is written over soon, so that it is told once.
        self._kept = {} if unfit else self.state
        if not unfit:
            return ""
        return f"the form is not as it was left; damaged in the store: {', '.join(unfit)}"

    def _keep(self) -> None:
        """Keep the form for the next opening of the store."""
        if (state := self.state) != self._kept:
            self._kept = state
            self.board.session.store.shelf.keep(self.name, {"own": self._own, "state": state})

    def take_recipe(self, recipe: Recipe) -> None:
        """Fill the form with a recipe, such as that of an earlier run."""
        self.recipe = recipe
        cut = (recipe.window_size, recipe.window_seconds)
        own = self.board.session.recipe
        if cut != (own.window_size, own.window_seconds):
            self.report("this recipe's windows are cut otherwise; press “Cut windows anew” for them")

    def _measure(self) -> None:
        """Caption a sample, spread over the windows that no engine has seen."""
        left = sorted(set(self.indexes("all")) - self.board.rates.seen(self.board.session.recipe))
        left = left or self.indexes("all")
        self._caption(left[:: max(1, len(left) // SAMPLE)][:SAMPLE], fresh=True)

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

    def estimate(self, which: str = "all") -> Estimate:
        """What a button would take: ``this``, ``selected`` or ``all``."""
        return estimate(self.board, self.recipe, self.indexes(which), fresh=self.fresh.value)

    def _explain(self) -> None:
        """Write below the form what it means; in a job thread, since a tokenizer is read from disk."""
        try:
            recipe = self.recipe
            chosen = self.indexes("selected") or self.indexes("all")
            text = escape(cost(self.board, recipe, chosen, fresh=self.fresh.value))
            if questions := self.board.cost_of_verify(chosen):
                text += f"<br>{escape(questions)}"
            self.note.value = self._note(recipe)
            measured = self.estimate("all").seconds is not None
            self.measure.layout.display = "none" if measured else None
        except ValueError as error:
            text = bad(str(error))
        self.cost.value = f'<div role="status" aria-live="polite">{text}</div>'
        selected, total = len(self.indexes("selected")), len(self.indexes("all"))
        self.run_selected.description = f"Selected ({selected})"
        self.run_all.description = f"All windows ({total})"
        if self._code_button.value:
            self.code.value = self._as_code()
        self._keep()
        self.board.emit(Change(frozenset(), form=True))

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
            shown = [*known, *(each for each in used if each not in known)]
            marks = " ".join(f"<b>{{{each}}}</b>" if each in used else f"{{{each}}}" for each in shown)
            lines.append(f"{name}: {counted}; may hold {marks}")
        index = (self.indexes("this") or [0])[0]
        if index < len(self.board.windows):
            lines.append(frame_facts(self.board, recipe, index))
            window = self.board.windows[index].window
            texts = self.board.session.texts(recipe, [window])(window)
            lines += [
                f"{{{escape(name)}}} here: {escape(text[:_LONGEST]) or 'empty'}"
                for name, text in texts.items()
                if name != prompts.PREVIOUS
            ]
        return f'<div class="ck-note">{"<br>".join(lines)}</div>'

    def _run(self, which: str) -> None:
        try:
            indexes = self.indexes(which)
            if not indexes:
                what = "no window is ticked" if which == "selected" else "no window is chosen"
                raise ValueError(f"{what}; choose in the browser, or caption all windows")
        except ValueError as error:
            self.report(str(error))
            return
        priority = -1 if which == "this" else 0
        self._caption(indexes, priority=priority, fresh=self.fresh.value, repeats=self.repeats.value)

    def _verify(self) -> None:
        """Verify the shown captions of the ticked windows, or of all."""
        try:
            self.board.verify(self.indexes("selected") or self.indexes("all"), self.name)
        except ValueError as error:
            self.report(str(error))

    def _caption(self, indexes: Sequence[int], **how: Any) -> None:
        try:
            recipe = self.recipe
            if self._is_cut_otherwise:
                raise ValueError("the windows' cut was changed; press “Cut windows anew” first")
        except ValueError as error:
            self.report(str(error))
            return
        self.board.caption(indexes, recipe, batch_size=self.batch_size.value, view=self.name, **how)

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
        how = {
            "spans": session.spans,
            "meta": session.meta,
            "cut": None if session.cut == CUTS[0] else session.cut,
            "store": str(session.store.path.resolve()),
        }
        # Name the files of tasks, which have no name on a command line.
        files = dict.fromkeys(row.window.path for row in self.board.windows)
        known = all(isinstance(each, (str, Path)) for each in given)
        shell = as_code.command(
            [str(each) for each in (given if known else files)], recipe, self.batch_size.value, **how
        )
        run = {
            "repeats": None if self.repeats.value == 1 else self.repeats.value,
            "fresh": self.fresh.value or None,
        }
        python = as_code.python(source, recipe, self.batch_size.value, selected, run=run, **how)
        whole = "" if selected is None else "# the command line captions all windows of the videos\n"
        return (
            f"<pre class='ck-code' style='{WHOLE_WORDS}' tabindex='0' aria-label='As code'>"
            f"{escape(python)}\n{escape(whole)}{escape(shell)}</pre>"
        )
