"""SearchView: what may vary, what counts and what it may cost; the best recipe comes back."""

from __future__ import annotations

import base64
import threading
import time
from typing import Any

import ipywidgets as widgets

from captionkit.display import png
from captionkit.models.variants import get_variant
from captionkit.prompts import PROMPTS
from captionkit.recipe import Recipe
from captionkit.run import runs
from captionkit.run.asking import IMPORTED
from captionkit.search import METRICS, Aim, Found, metrics, propose, search
from captionkit.session import Session
from captionkit.widgets.board import Board
from captionkit.widgets.browser import Browser
from captionkit.widgets.form_view import FormView
from captionkit.widgets.parts import FULL, flow, say, wide

_FPS = (0.5, 1.0, 2.0, 4.0, 8.0)
_PROPOSED = 6
# Drawing takes a core some tenths of a second.
_DRAW_EVERY_S = 5.0
_STYLE = {"description_width": "7em"}


class SearchView(FormView):
    """A search for the best recipe: ticks, a metric, a budget, a live table, and the result in words.

    Parameters
    ----------
    session
        A session, or the board that a workbench's views share.
    browser
        Whose ticked windows decide; all where none is ticked. Its recipe form takes the result.
    """

    name = "search"
    title = "Search"

    def __init__(self, session: Session | Board, browser: Browser | None = None) -> None:
        super().__init__(session, browser)
        self.result: Found | None = None
        self._stopped = threading.Event()
        self._draw_next = 0.0
        own = self.board.session.recipe
        self.prompts = widgets.SelectMultiple(
            description="Prompts", options=list(PROMPTS), value=("short", "dense"), rows=6,
            layout=wide("18em"), style=_STYLE, tooltip="choose several with Ctrl or Shift",
        )  # fmt: skip
        self.own = widgets.Textarea(
            description="Your prompts", placeholder="one prompt a line", rows=3, layout=FULL,
            style=_STYLE,
        )  # fmt: skip
        self.propose = _tick(f"propose {_PROPOSED} prompts, from the present one")
        self.two_stages = _tick("with and without a second stage")
        self.fps = {fps: _tick(f"{fps:g}", value=fps == own.sampling_fps) for fps in _FPS}
        self.pixels = _tick("also fewer pixels: a half, a quarter")
        self.metric = widgets.Dropdown(
            description="What counts", options=list(METRICS), layout=wide("18em"), style=_STYLE
        )
        self.about = widgets.HTML()
        self.windows = widgets.BoundedIntText(
            description="Windows", value=60, min=2, max=100_000, layout=wide("14em"), style=_STYLE,
            tooltip="windows that decide, spread over the films",
        )  # fmt: skip
        self.minutes = widgets.BoundedFloatText(
            description="Minutes", value=15, min=0.1, max=10_000, step=1, layout=wide("14em"),
            style=_STYLE, tooltip="the search ends then, with what is known",
        )  # fmt: skip
        self.button = widgets.Button(description="Run", button_style="primary", layout=wide("auto"))
        self.stop = widgets.Button(description="Stop", disabled=True, layout=wide("auto"))
        self.chosen = widgets.Dropdown(
            description="Setting", options=[], layout=wide("28em"), style=_STYLE
        )
        self.use = widgets.Button(description="Use this recipe", disabled=True, layout=wide("auto"))
        self.status, self.words = widgets.HTML(), widgets.HTML()
        self.figure, self.table = widgets.HTML(), widgets.HTML()
        self.add_class("ck-box")
        self.button.on_click(lambda _: self.run())
        self.stop.on_click(lambda _: self._stopped.set())
        self.use.on_click(lambda _: self._use())
        self.chosen.observe(self._explain, names="value")
        self.metric.observe(self._say_what_counts, names="value")
        self._say_what_counts()
        note = "Many settings caption a few windows, the better half twice as many, and so on."
        ticks = widgets.VBox(
            [
                self.two_stages,
                self.pixels,
                self.propose,
                widgets.HBox([widgets.Label("Frames a second:"), *self.fps.values()], layout=flow()),
            ]
        )
        self.lay_out(
            [
                widgets.HTML(f'<div class="ck-note">{note}</div>'),
                widgets.HBox([self.prompts, ticks], layout=flow()),
                self.own,
                widgets.HBox([self.metric, self.windows, self.minutes], layout=flow()),
                self.about,
                widgets.HBox([self.button, self.stop], layout=flow()),
                self.status,
                self.problem,
                self.words,
                widgets.HBox([self.chosen, self.use], layout=flow()),
                self.figure,
                self.table,
            ]
        )

    def _say_what_counts(self, _: Any = None) -> None:
        row = metrics().loc[self.metric.value]
        say(self.about, f"{row['measures']}. Cannot see: {row['cannot see']}.")

    @property
    def axes(self) -> dict[str, list[Any]]:
        """What the ticks let vary, as `Session.search` takes it."""
        own = [line.strip() for line in self.own.value.splitlines() if line.strip()]
        made: dict[str, list[Any]] = {"prompt": [*self.prompts.value, *own]}
        if self.two_stages.value:
            made["stage2"] = [None, True]
        if fps := [each for each, tick in self.fps.items() if tick.value]:
            made["sampling_fps"] = fps
        if self.pixels.value:
            recipe = self.board.recipe()
            budget = recipe.pixel_budget or get_variant(recipe.model).budget
            made["pixel_budget"] = [recipe.pixel_budget, budget // 2, budget // 4]
        return made

    def run(self) -> None:
        """Begin to search; returns at once."""
        self.report("")
        if self.board.busy:
            self.report("captions are under way; wait or stop them, or the times measured are theirs")
            return
        try:
            recipe, axes = self.board.recipe(), self.axes
            self._aim()
        except ValueError as error:
            self.report(str(error))
            return
        self._stopped.clear()
        self.button.disabled, self.stop.disabled = True, False
        say(self.status, "choosing windows…")
        self.board.long.submit("search", lambda: self._search(recipe, axes))

    def _aim(self) -> Aim:
        ticked = self.browser.indexes if self.browser is not None else []
        windows = self.board.table(ticked) if ticked else self.windows.value
        return Aim(
            metric=self.metric.value,
            windows=windows,
            budget_s=60 * self.minutes.value,
            reference=self._reference(),
        )

    def _reference(self) -> Any:
        """Return the newest run of people's captions, which the metric truth compares with."""
        session = self.board.session
        table = runs(session.store)
        imported = table[table["model"] == IMPORTED]
        return session.open(int(imported.index[0])) if len(imported) else None

    def _search(self, recipe: Recipe, axes: dict[str, list[Any]]) -> None:
        session = self.board.session
        try:
            if self.propose.value:
                proposed = propose(session, recipe.prompt, _PROPOSED)
                say(self.status, f"prompts {proposed.how}")
                proposed.extend(each for each in axes["prompt"] if each not in proposed)
                axes = {**axes, "prompt": proposed}
            given = {"recipe": recipe, **axes}
            self._show(search(session, given, self._aim(), self._stopped, self._follow))
        except Exception as error:
            # Show any failure of the engine or of a metric, so that the view goes on working.
            say(self.status, "")
            self.report(str(error) or type(error).__name__)
        finally:
            # The browser shows the captions that the search has made.
            self.board.refresh(range(len(self.board.windows)))
            self.button.disabled, self.stop.disabled = False, True

    def _follow(self, found: Found) -> None:
        done, total = found.steps
        say(self.status, f"{done} of {total} done: {found.now}; leader: {found.leader}")
        if not any(each.scores for each in found.measured):
            return
        self.table.value = f'<div class="ck-scroll">{found.table_html()}</div>'
        if time.monotonic() >= self._draw_next:
            self._draw(found)
            self._draw_next = time.monotonic() + _DRAW_EVERY_S

    def _draw(self, found: Found) -> None:
        picture = base64.b64encode(png(found.figure())).decode()
        said = f"{found.metric} against tokens a window, a point a setting"
        self.figure.value = (
            f'<img alt="{said}" style="max-width:100%;background:#fff" '
            f'src="data:image/png;base64,{picture}">'
        )

    def _show(self, found: Found) -> None:
        self.result = found
        if not any(each.scores for each in found.measured):
            say(self.status, "stopped before a setting was measured; Run goes on")
            return
        say(self.status, "stopped; Run goes on" if found.stopped else "searched")
        self.table.value = f'<div class="ck-scroll">{found.table_html()}</div>'
        self._draw(found)
        names = [name for name in found.table["setting"] if name in found.runs]
        self.chosen.options = names
        self.chosen.value = found.best.name
        self.use.disabled = False
        self._explain()

    def _explain(self, _: Any = None) -> None:
        found, name = self.result, self.chosen.value
        if found is None or name is None:
            return
        chosen = found.best if name == found.best.name else found.choice(name)
        say(self.words, chosen.sentence)

    def _use(self) -> None:
        """Fill the recipe form with the chosen setting."""
        assert self.result is not None
        if self.browser is None:
            self.report("there is no recipe form here; open a workbench")
            return
        self.browser.use_recipe(self.result.choice(self.chosen.value).recipe)
        say(self.status, f"the form has the recipe of {self.chosen.value}")

    def close(self) -> None:
        """Stop searching, and close."""
        self._stopped.set()
        super().close()


def _tick(text: str, *, value: bool = False) -> widgets.Checkbox:
    return widgets.Checkbox(description=text, value=value, indent=False, layout=wide("auto"))
