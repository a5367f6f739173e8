"""Compare view: two captions of the chosen window side by side, or many, or blind.

Imports the board, comparison and display; called by workbenches and notebooks.
"""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets

from captionkit.display import html as display
from captionkit.display.diff import word_diff
from captionkit.display import escape
from captionkit.runs.history import runs
from captionkit.runs.matrix import Matrix
from captionkit.runs.run import Run
from captionkit.session import Session
from captionkit.store import StoreError
from captionkit.widgets.blind import BlindView
from captionkit.widgets.board import EVERY_S, Board, Change
from captionkit.widgets.browser import Browser
from captionkit.widgets.parts import STYLE, bad, close_all, flow, show_problem, wide
from captionkit.widgets.rows import Told, told
from captionkit.widgets.side import Side

MODES = ("stage 1 and stage 2", "two runs", "matrix of runs", "blind A/B")
_MOST_RUNS = 100
_MOST_ROWS = 12


class CompareView(widgets.VBox):
    """Captions of the chosen window against each other; rate, edit and annotate in place.

    Parameters
    ----------
    session
        A session, or the board that a workbench's widgets share.
    browser
        Whose chosen window is compared; without one, ``show`` says which.
    """

    def __init__(self, session: Session | Board, browser: Browser | None = None) -> None:
        self.board = session if isinstance(session, Board) else Board(session)
        self._owns_board = not isinstance(session, Board)
        self._browser = browser
        self._place = browser.place if browser is not None else None
        style = {"description_width": "5em"}
        self.mode = widgets.Dropdown(
            description="Compare", options=MODES, layout=wide("19em"), style=style
        )
        self.run_a = widgets.Dropdown(description="Run A", layout=wide("26em"), style=style)
        self.run_b = widgets.Dropdown(description="Run B", layout=wide("26em"), style=style)
        self.several = widgets.SelectMultiple(
            description="Runs", rows=5, layout=wide("36em"), style=style
        )
        self.sides = (Side(self, "left"), Side(self, "right"))
        self.table = widgets.HTML()
        self.blind = BlindView(self.board, self.run_a, self.run_b)
        self.title = widgets.HTML()
        self.problem = widgets.HTML()
        self._pair = widgets.HBox(self.sides, layout=widgets.Layout(width="100%", flex_flow="row wrap"))
        super().__init__(
            [
                widgets.HTML(STYLE),
                widgets.HBox([self.mode, self.run_a, self.run_b, self.several], layout=flow()),
                self.title,
                self._pair,
                self.table,
                self.blind,
                self.problem,
            ],
            layout=widgets.Layout(width="100%", min_width="0"),
        )
        self.add_class("ck-box")
        self._list_runs()
        for control in (self.mode, self.run_a, self.run_b, self.several):
            control.observe(self._on_control, names="value")
        self.board.listen(self._on_change)
        if browser is not None:
            browser.observe(self._on_browser, names="value")
        self._refresh()

    def show(self, video: str, window: int) -> None:
        """Compare this window's captions."""
        if (video, window) not in self.board.rows.by_name:
            raise KeyError(f"there is no window {window} of {video!r} in this session")
        self._place = self.board.rows.by_name[video, window]
        self._refresh()

    def _on_browser(self, _: Any) -> None:
        assert self._browser is not None
        self._place = self._browser.place
        self._refresh()

    def _on_control(self, _: Any) -> None:
        self._refresh()

    def _on_change(self, change: Change) -> None:
        if change.recut:
            self._place = None
        if change.ended:
            self.board.work.submit("runs", self._list_runs)
        if change.ended or change.recut or self._place in change.places:
            self._refresh()
        show_problem(self.problem, self.board.problems.get("compare", ""))

    def _refresh(self) -> None:
        self.board.work.submit(("compare", id(self)), self._draw, delay_s=EVERY_S)

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
        newest = values[0] if values else None
        # A stays what a person chose; B follows what was captioned last.
        grew = newest not in {value for _, value in self.run_b.options}
        for control, place in ((self.run_a, 1), (self.run_b, 0)):
            kept = control.value
            control.options = options
            default = values[min(place, len(values) - 1)] if values else None
            control.value = kept if kept in values and not (grew and place == 0) else default
        kept_several = [each for each in self.several.value if each in values]
        self.several.options = options
        self.several.value = kept_several or [value for _, value in options[:3]]

    def _draw(self) -> None:
        """Draw what is chosen; in the worker, since it reads the store."""
        mode = self.mode.value
        shown = {
            self.run_a: mode in ("two runs", "blind A/B"),
            self.run_b: mode in ("two runs", "blind A/B"),
            self.several: mode == "matrix of runs",
            self._pair: mode in MODES[:2],
            self.table: mode == "matrix of runs",
            self.blind: mode == "blind A/B",
            self.title: mode in MODES[:2],
        }
        for part, on in shown.items():
            part.layout.display = None if on else "none"
        if mode == "matrix of runs":
            self.table.value = self._matrix()
        elif mode in MODES[:2]:
            self._draw_pair(mode)

    def _draw_pair(self, mode: str) -> None:
        if self._place is None:
            self.title.value = '<div class="ck-note">Choose a window in the browser.</div>'
            for side in self.sides:
                side.clear()
            return
        row = self.board.rows.rows[self._place]
        self.title.value = f"<b>{escape(row.name[0])}, window {row.name[1]}</b>"
        if mode == "two runs":
            numbers = [self.run_a.value, self.run_b.value]
            captions = [self._of_run(number, -1) for number in numbers]
            names = [f"run {number}" for number in numbers]
        else:
            numbers = [row.run, row.run]
            captions = [self._of_run(row.run, 0), self._of_run(row.run, 1)]
            names = ["stage 1", "stage 2"]
            if row.state == "running":
                # What is on its way stands in neither side's store yet.
                captions[row.stage > 1] = {"text": row.text, "growing": True, "stage": row.stage}
        texts = [caption["text"] if caption else "" for caption in captions]
        marked: tuple[str, ...] = tuple(escape(text) for text in texts)
        if all(texts):
            marked = display.diff_cells(word_diff(*texts))
        for side, name, number, caption, shown in zip(
            self.sides, names, numbers, captions, marked, strict=True
        ):
            side.fill(name, number, caption, shown)
        if mode == MODES[0] and captions[0] and not captions[1] and row.state != "running":
            self.title.value += (
                ' <span class="ck-note">This run has one stage; tick “Second stage” for two.</span>'
            )

    def _of_run(self, number: int | None, stage: int) -> dict[str, Any] | None:
        """A run's caption of the chosen window: its stage by place, -1 for the last."""
        assert self._place is not None
        if number is None:
            return None
        key = self.board.rows.rows[self._place].source.stored.key
        found: Told | None = told(self.board.session.store, [key], number).get(key)
        if found is None or not found.stages or stage >= len(found.stages):
            return None
        return found.stages[stage]

    def _matrix(self) -> str:
        store, session = self.board.session.store, self.board.session
        if not self.several.value:
            return '<div class="ck-note">Choose some runs.</div>'
        try:
            found = {number: Run(store, number) for number in self.several.value}
            table = Matrix({f"run {n}: {run.recipe.prompt}": run for n, run in found.items()}).table
        except (KeyError, StoreError) as error:
            return bad(str(error))
        names = self._browser.selection if self._browser is not None else []
        kept = [name for name in table.index if not names or name in set(names)]
        note = f"The first {_MOST_ROWS} of {len(kept)} windows. " if len(kept) > _MOST_ROWS else ""
        some = table.loc[kept[:_MOST_ROWS]]
        html = display.matrix_html(some, session.thumbnails)
        hint = f"{note}Tick windows in the browser to choose which."
        return f'<div class="ck-note">{hint}</div><div class="ck-scroll">{html}</div>'

    def annotate(self, number: int, stage: int, **values: Any) -> None:
        """Rate, edit or note a caption of the chosen window; for its sides."""
        assert self._place is not None
        name = self.board.rows.rows[self._place].name
        run = Run(self.board.session.store, number)
        try:
            if "rating" in values:
                run.rate(*name, values["rating"], stage=stage)
            if "edited_text" in values:
                run.edit(*name, values["edited_text"], stage=stage)
            if "note" in values:
                run.remark(*name, values["note"], stage=stage)
        except (KeyError, ValueError, StoreError) as error:
            self.board.say(str(error.args[0]), "compare")
            return
        self.board.refresh([self._place])

    def close(self) -> None:
        """Take it off the page; a board of its own ends with it."""
        self.board.forget(self._on_change)
        close_all(self)
        if self._owns_board:
            self.board.close()
