"""CompareView: two captions of the chosen window side by side, or many, or blind."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets

from captionkit import display
from captionkit.display import escape, word_diff
from captionkit.run import Matrix, Run, runs
from captionkit.session import Session
from captionkit.store import StoredStage, StoreError
from captionkit.widgets.blind import BlindView
from captionkit.widgets.board import EVERY_S, Board
from captionkit.widgets.browser import Browser
from captionkit.widgets.change import Change
from captionkit.widgets.fields import offer_runs
from captionkit.widgets.form_view import FormView
from captionkit.widgets.parts import bad, flow, wide
from captionkit.widgets.rows import Row
from captionkit.widgets.side import Side
from captionkit.widgets.verdicts import Verdict, verdicts

STAGES, TWO_RUNS, MATRIX, BLIND = MODES = (
    "stage 1 and stage 2", "two runs", "matrix of runs", "blind A/B",
)  # fmt: skip
_MOST_RUNS = 100
_MOST_ROWS = 12


class CompareView(FormView):
    """Captions of the chosen window against each other; rate, edit and annotate in place.

    Parameters
    ----------
    session
        A session, or the board that a workbench's views share.
    browser
        Whose chosen window is compared; without one, ``show`` says which.
    """

    name = "compare"
    title = "Compare"

    def __init__(self, session: Session | Board, browser: Browser | None = None) -> None:
        super().__init__(session, browser)
        self._index = browser.index if browser is not None else None
        style = {"description_width": "5em"}
        self.mode = widgets.Dropdown(
            description="Compare", options=MODES, layout=wide("22em"), style=style
        )
        self.run_a = widgets.Dropdown(description="Run A", layout=wide("26em"), style=style)
        self.run_b = widgets.Dropdown(description="Run B", layout=wide("26em"), style=style)
        self.several = widgets.SelectMultiple(
            description="Runs", rows=5, layout=wide("36em"), style=style
        )
        self.sides = (Side("left", self._annotate), Side("right", self._annotate))
        self.table = widgets.HTML()
        self.blind = BlindView(self.board, self.run_a, self.run_b)
        self.heading = widgets.HTML()
        self._pair = widgets.HBox(self.sides, layout=widgets.Layout(width="100%", flex_flow="row wrap"))
        self.add_class("ck-box")
        self._list_runs()
        for control in (self.mode, self.run_a, self.run_b, self.several):
            control.observe(self._on_choice, names="value")
        if browser is not None:
            browser.observe(self._on_browser, names="value")
        self.lay_out(
            [
                widgets.HBox([self.mode, self.run_a, self.run_b, self.several], layout=flow()),
                self.heading,
                self._pair,
                self.table,
                self.blind,
                self.problem,
            ]
        )
        self._refresh()

    def show(self, video: str, window: int) -> None:
        """Compare this window's captions."""
        self._index = self.board.index_of(video, window)
        self._refresh()

    def _on_browser(self, _: Any) -> None:
        assert self.browser is not None
        self._index = self.browser.index
        self._refresh()

    def _on_choice(self, _: Any) -> None:
        self._refresh()

    def on_change(self, change: Change) -> None:
        """Draw again if the chosen window or the list of runs changed."""
        super().on_change(change)
        if change.recut:
            self._index = None
        if change.ended:
            self.board.work.submit("runs", self._list_runs)
        if change.ended or change.recut or self._index in change.indexes:
            self._refresh()

    def _refresh(self) -> None:
        self.board.work.submit(("compare", self.model_id), self._draw, delay_s=EVERY_S)

    def _list_runs(self) -> None:
        table = runs(self.board.session.store).head(_MOST_RUNS)
        options = []
        for number, row in table.iterrows():
            prompt = row["prompt"] if len(row["prompt"]) <= 32 else row["prompt"][:31] + "…"
            second = " + stage 2" if isinstance(row["stage2"], str) else ""
            options.append(
                (f"run {number}: {display.visible(prompt)}{second}, {row['done']} done", int(number))
            )
        values = [value for _, value in options]
        grew = offer_runs(self.run_a, self.run_b, options)
        kept = [each for each in self.several.value if each in values]
        self.several.options = options
        if grew and kept:
            # What was captioned last joins what a person chose.
            kept = [values[0], *kept]
        self.several.value = kept or values[:3]

    def _draw(self) -> None:
        """Draw what is chosen; in a job thread, since it reads the store."""
        mode = self.mode.value
        shown = {
            self.run_a: mode in (TWO_RUNS, BLIND),
            self.run_b: mode in (TWO_RUNS, BLIND),
            self.several: mode == MATRIX,
            self._pair: mode in (STAGES, TWO_RUNS),
            self.table: mode == MATRIX,
            self.blind: mode == BLIND,
            self.heading: mode in (STAGES, TWO_RUNS),
        }
        for part, on in shown.items():
            part.layout.display = None if on else "none"
        if mode == MATRIX:
            self.table.value = self._matrix()
        elif mode != BLIND:
            self._draw_pair(mode)

    def _draw_pair(self, mode: str) -> None:
        if self._index is None:
            self.heading.value = '<div class="ck-note">Choose a window in the browser.</div>'
            for side in self.sides:
                side.clear()
            return
        row = self.board.windows[self._index]
        name = f"{row.name[0]}, window {row.name[1]}"
        shown = display.picture(self.board.session.thumbnail, row.window.key, name)
        self.heading.value = f'<div class="ck-headed">{shown}<b>{escape(name)}</b></div>'
        if mode == TWO_RUNS:
            numbers = [self.run_a.value, self.run_b.value]
            captions = [self._stored(row, number, -1) for number in numbers]
            self._show_pair([f"run {number}" for number in numbers], numbers, captions)
            return
        captions = [self._stored(row, row.run, 0), self._stored(row, row.run, 1)]
        growing = (row.stage > 1, row.text) if row.state == "running" else None
        self._show_pair(["stage 1", "stage 2"], [row.run, row.run], captions, growing)
        if captions[0] and not captions[1] and growing is None:
            self.heading.value += (
                ' <span class="ck-note">This run has one stage; tick “Second stage” for two.</span>'
            )

    def _show_pair(
        self,
        names: list[str],
        runs: list[int | None],
        captions: list[StoredStage | None],
        growing: tuple[int, str] | None = None,
    ) -> None:
        """Show both sides with what differs marked; ``growing`` is a side and its text so far."""
        texts = [caption.text if caption else "" for caption in captions]
        if growing is not None:
            texts[growing[0]] = growing[1]
        found = [self._verdict(run, caption) for run, caption in zip(runs, captions, strict=True)]
        false = [each.places for each in found]
        if growing is not None:
            false[growing[0]] = ()
        marked = tuple(map(display.marked_spans, texts, false))
        if all(texts):
            marked = display.diff_cells(word_diff(*texts), (false[0], false[1]))
        for at, (side, name, run, caption) in enumerate(
            zip(self.sides, names, runs, captions, strict=True)
        ):
            if growing is not None and growing[0] == at:
                side.show_growing(name, marked[at])
            elif caption is None or run is None:
                side.show_missing(name)
            else:
                side.show(name, run, caption, marked[at], found[at])

    def _verdict(self, run: int | None, caption: StoredStage | None) -> Verdict:
        """Return what a verification found in a run's caption of the chosen window."""
        if run is None or caption is None or self._index is None:
            return Verdict()
        key = self.board.windows[self._index].window.key
        return verdicts(self.board.session.store, run, {key: caption}).get(key, Verdict())

    def _stored(self, row: Row, run: int | None, stage: int) -> StoredStage | None:
        """A run's caption of a window; ``stage`` counts from 0, -1 is the last."""
        if run is None:
            return None
        key = row.window.key
        state = self.board.session.store.states([key], run).get(key)
        if state is None or not state.stages or stage >= len(state.stages):
            return None
        return state.stages[stage]

    def _matrix(self) -> str:
        store, session = self.board.session.store, self.board.session
        if not self.several.value:
            return '<div class="ck-note">Choose some runs.</div>'
        try:
            found = [Run(store, number) for number in self.several.value]
            matrix = Matrix({f"run {run.id}: {run.recipe.prompt}": run for run in found})
            table = matrix.table
        except (KeyError, StoreError) as error:
            return bad(str(error))
        names = self.browser.selection if self.browser is not None else []
        kept = [name for name in table.index if not names or name in set(names)]
        note = f"The first {_MOST_ROWS} of {len(kept)} windows. " if len(kept) > _MOST_ROWS else ""
        some = table.loc[kept[:_MOST_ROWS]]
        html = display.matrix_html(some, matrix.keys, session.thumbnail, len(some))
        hint = f"{note}Tick windows in the browser to choose which."
        return f'<div class="ck-note">{hint}</div><div class="ck-scroll">{html}</div>'

    def _annotate(self, number: int, stage: int, **values: Any) -> None:
        """Rate, edit or note a run's caption of the chosen window."""
        assert self._index is not None
        name = self.board.windows[self._index].name
        run = Run(self.board.session.store, number)
        try:
            if "rating" in values:
                run.rate(*name, values["rating"], stage=stage, reviewer=self.board.reviewer)
            if "edited_text" in values:
                run.edit(*name, values["edited_text"], stage=stage)
            if "note" in values:
                run.set_note(*name, values["note"], stage=stage)
        except (KeyError, ValueError, StoreError) as error:
            self.report(str(error.args[0]))
            return
        self.board.refresh([self._index])
