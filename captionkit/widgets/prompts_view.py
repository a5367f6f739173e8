"""PromptsView: prompts saved by name, the history of prompts that were tried, and what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ipywidgets as widgets

from captionkit import display, prompts
from captionkit.display import escape, visible, word_diff
from captionkit.recipe import Recipe
from captionkit.run import prompts_tried
from captionkit.session import Session
from captionkit.store import SavedPrompt, StoreError
from captionkit.widgets.board import EVERY_S, Board
from captionkit.widgets.browser import Browser
from captionkit.widgets.change import Change
from captionkit.widgets.form_view import FormView
from captionkit.widgets.parts import counted, flow, left_out, say, wide

_FORM = "the form"
_MOST = 50
_STYLE = {"description_width": "5em"}
# A prompt and the text of its second stage, or None for one stage.
_Prompt = tuple[str, str | None]


class PromptsView(FormView):
    """Save, use, compare, export and import prompts.

    Parameters
    ----------
    session
        A session, or the board that a workbench's views share.
    browser
        Whose form takes a prompt; without one, prompts are only looked at.
    """

    name = "prompts"
    title = "Prompts"

    def __init__(self, session: Session | Board, browser: Browser | None = None) -> None:
        super().__init__(session, browser)
        self._known: dict[str, _Prompt] = {}
        self.saved_name = widgets.Text(
            description="Name", placeholder="a name", layout=wide("20em"),
            style=_STYLE,
        )  # fmt: skip
        self.save = self._button("Save the form's prompt", self._save, "save")
        self.a = widgets.Dropdown(description="Show", layout=wide("30em"), style=_STYLE)
        self.b = widgets.Dropdown(description="with", layout=wide("30em"), style=_STYLE)
        self.use = self._button("Use in the form", self._use, "pencil")
        self.delete = self._button("Delete the saved name", self._delete, "trash")
        self.path = widgets.Text(
            value="prompts.toml", description="File", layout=wide("20em"), style=_STYLE
        )
        self.export = self._button("Export all saved", self._export, "download")
        self.take = self._button("Import", self._import, "upload")
        self.status = widgets.HTML()
        self.diff = widgets.HTML()
        self.history = widgets.HTML()
        self.add_class("ck-box")
        for control in (self.a, self.b):
            control.observe(self._on_choice, names="value")
        self.lay_out(
            [
                widgets.HBox([self.saved_name, self.save], layout=flow()),
                widgets.HBox([self.a, self.use, self.delete], layout=flow()),
                widgets.HBox([self.b], layout=flow()),
                self.diff,
                self.problem,
                self.status,
                widgets.HTML("<b>Prompts tried</b>"),
                self.history,
                widgets.HBox([self.path, self.export, self.take], layout=flow()),
            ]
        )
        self._refresh()
        if damaged := self.board.session.store.shelf.damaged_prompts():
            self.report(left_out("saved prompt", damaged))

    def _button(self, text: str, act: Any, icon: str) -> widgets.Button:
        made = widgets.Button(description=text, icon=icon, layout=wide("auto"))
        made.on_click(lambda _: self._try(act))
        return made

    def _try(self, act: Any) -> None:
        self.report("")
        say(self.status, "")
        try:
            act()
        except (ValueError, StoreError, OSError) as error:
            self.report(str(error))
        self._refresh()

    @property
    def _of_form(self) -> _Prompt:
        recipe: Recipe = self.board.recipe()
        return recipe.prompt_text, recipe.stage2

    def _save(self) -> None:
        name = self.saved_name.value.strip()
        self.board.session.store.shelf.save_prompt(SavedPrompt(name, *self._of_form))
        say(self.status, f"saved as {name}")
        self.saved_name.value = ""

    def _use(self) -> None:
        prompt, stage2 = self._known.get(self.a.value, self._of_form)
        own = self.board.recipe()
        made = own.changed(_library_name(prompt), stage2 if stage2 is not None else False)
        if self.browser is not None:
            self.browser.use_recipe(made)

    def _delete(self) -> None:
        name = self.a.value or ""
        if name not in self.board.session.store.shelf.prompts():
            raise ValueError("this prompt has no saved name; choose a saved one")
        self.board.session.store.shelf.delete_prompt(name)
        say(self.status, f"{name} is deleted; runs made with it keep its text")

    def _export(self) -> None:
        path = Path(self.path.value.strip() or "prompts.toml").expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        count = self.board.session.store.shelf.export_prompts(path)
        say(self.status, f"written: {counted(count, 'prompt')} to {path}")

    def _import(self) -> None:
        path = Path(self.path.value.strip() or "prompts.toml").expanduser()
        count = self.board.session.store.shelf.import_prompts(path)
        say(self.status, f"{counted(count, 'prompt')} imported from {path}")

    def on_change(self, change: Change) -> None:
        """List the prompts again when a run ended or a caption was rated."""
        super().on_change(change)
        if change.ended or change.indexes:
            self._refresh()
        elif change.form:
            self.board.work.submit(("prompt diff", self.model_id), self._draw_diff)

    def _on_choice(self, _: Any) -> None:
        self._draw_diff()

    def _refresh(self) -> None:
        self.board.work.submit(("prompts", self.model_id), self._list, delay_s=5 * EVERY_S)

    def _list(self) -> None:
        """List saved and tried prompts; in a job thread, since it reads the store."""
        store = self.board.session.store
        tried = prompts_tried(store).head(_MOST)
        known = {name: (each.prompt, each.stage2) for name, each in store.shelf.prompts().items()}
        for row in tried.itertuples():
            texts = (prompts.resolve(row.prompt), row.stage2)
            if texts not in known.values():
                known[f"run {row.last_run}: {_short(row.prompt)}"] = texts
        for name, text in prompts.PROMPTS.items():
            known.setdefault(f"library: {name}", (text, None))
        self._known = known
        names = [_FORM, *known]
        for control, default in ((self.a, names[min(1, len(names) - 1)]), (self.b, _FORM)):
            kept = control.value
            if list(control.options) != names:
                control.options = names
                control.value = kept if kept in names else default
        html = f'<div class="ck-scroll">{_table(tried)}</div>'
        if self.history.value != html:
            self.history.value = html
        self._draw_diff()

    def _draw_diff(self) -> None:
        try:
            sides = [self._known.get(each.value) or self._of_form for each in (self.a, self.b)]
        except ValueError as error:
            self.report(str(error))
            return
        left, right = display.diff_cells(word_diff(*(_whole(each) for each in sides)))
        boxes = "".join(
            f'<div class="ck-side"><b>{escape(visible(name or ""))}</b>'
            f'<div class="t" tabindex="0">{text}</div></div>'
            for name, text in ((self.a.value, left), (self.b.value, right))
        )
        html = f'<div class="ck-two">{boxes}</div>'
        if self.diff.value != html:
            self.diff.value = html


def _library_name(text: str) -> str:
    return next((name for name, known in prompts.PROMPTS.items() if known == text), text)


def _whole(prompt: _Prompt) -> str:
    return prompt[0] if prompt[1] is None else f"{prompt[0]}\n\nStage 2: {prompt[1]}"


def _short(text: str) -> str:
    line = visible(" ".join(text.split()))
    return line if len(line) <= 40 else line[:39] + "…"


def _table(tried: Any) -> str:
    if tried.empty:
        return '<div class="ck-note">No prompt was tried yet.</div>'
    heads = ("prompt", "saved as", "runs", "last", "captions", "windows/s", "rating")
    rows = []
    for row in tried.itertuples():
        second = f" + stage 2: {_short(row.stage2)}" if isinstance(row.stage2, str) else ""
        rate = f"{row.windows_per_s:.2f}" if row.windows_per_s == row.windows_per_s else "-"
        rating = f"{row.rating:.1f} of 5 ({row.rated})" if row.rated else "-"
        cells = (
            _short(row.prompt) + second, row.saved or "-", row.runs, f"run {row.last_run}", row.done,
            rate, rating,
        )  # fmt: skip
        rows.append([escape(cell) for cell in cells])
    return display.table_html(heads, rows)
