"""SweepView: batch sizes and fp8 measured on the chosen windows, drawn, with what fp8 changed."""

from __future__ import annotations

import base64
import threading
from typing import Any

import ipywidgets as widgets
import pandas as pd

from captionkit.display import escape, frame_html, png
from captionkit.recipe import Recipe
from captionkit.run.sweep import Sweep, sweep
from captionkit.session import Session
from captionkit.widgets.board import Board
from captionkit.widgets.browser import Browser
from captionkit.widgets.form_view import FormView
from captionkit.widgets.parts import bad, flow, say, wide

_SIZES = (1, 2, 4, 8, 16, 32, 64)
_SHOWN = (
    "prompt", "fp8", "batch_size", "cache", "windows", "windows_per_s", "output_tokens_per_s",
    "seconds_p50", "seconds_p95", "peak_memory_gb", "peak_memory_each_gb", "agreement", "error",
)  # fmt: skip


class SweepView(FormView):
    """Throughput and latency by batch size, with and without fp8.

    Parameters
    ----------
    session
        A session, or the board that a workbench's views share.
    browser
        Whose ticked windows are measured; all where none is ticked.
    """

    name = "sweep"
    title = "Batch size and fp8"

    def __init__(self, session: Session | Board, browser: Browser | None = None) -> None:
        super().__init__(session, browser)
        self.result: Sweep | None = None
        self._stopped = threading.Event()
        style = {"description_width": "6em"}
        self.sizes = widgets.SelectMultiple(
            description="Batch sizes", options=_SIZES, value=(1, 4, 16), rows=len(_SIZES),
            layout=wide("14em"), style=style,
        )  # fmt: skip
        self.fp8 = widgets.Checkbox(
            description="also with fp8 weights", indent=False, layout=wide("14em")
        )
        self.button = widgets.Button(description="Measure", button_style="primary", layout=wide("auto"))
        self.stop = widgets.Button(description="Stop", disabled=True, layout=wide("auto"))
        self.status = widgets.HTML()
        self.figure = widgets.HTML()
        self.table = widgets.HTML()
        self.changes = widgets.HTML()
        self.add_class("ck-box")
        self.button.on_click(lambda _: self.measure())
        self.stop.on_click(lambda _: self._stopped.set())
        note = "Measured on the ticked windows (all where none is ticked), first cold, then known."
        self.lay_out(
            [
                widgets.HTML(f'<div class="ck-note">{note}</div>'),
                widgets.HBox(
                    [self.sizes, widgets.VBox([self.fp8, self.button, self.stop])], layout=flow()
                ),
                self.status,
                self.problem,
                self.figure,
                self.table,
                self.changes,
            ]
        )

    def measure(self) -> None:
        """Begin to measure; returns at once."""
        self.report("")
        if self.board.busy:
            self.report("captions are under way; wait or stop them, they would be measured too")
            return
        try:
            recipe = self.board.recipe()
            if not self.sizes.value:
                raise ValueError("no batch size is chosen; choose at least one")
        except ValueError as error:
            self.report(str(error))
            return
        indexes = self.browser.indexes if self.browser is not None else []
        windows = self.board.table(indexes or range(len(self.board.windows)))
        self._stopped.clear()
        self.button.disabled, self.stop.disabled = True, False
        self.board.long.submit("sweep", lambda: self._measure(recipe, windows))

    def _measure(self, recipe: Recipe, windows: pd.DataFrame) -> None:
        rows: list[dict[str, Any]] = []
        eights = [False, True] if self.fp8.value else [recipe.fp8]
        total = len(self.sizes.value) * len(eights)

        def on_row(row: dict[str, Any]) -> None:
            rows.append(row)
            done = len({(each["fp8"], each["batch_size"]) for each in rows})
            say(self.status, f"{done} of {total} settings on {len(windows)} windows")
            self.table.value = _table(pd.DataFrame(rows))

        say(self.status, f"measuring {total} settings on {len(windows)} windows…")
        try:
            self.result = sweep(
                self.board.session,
                batch_sizes=list(self.sizes.value),
                fp8=eights,
                prompts=[recipe.prompt],
                windows=windows,
                recipe=recipe,
                stopped=self._stopped,
                on_row=on_row,
            )
            self._show(self.result)
        except Exception as error:
            # Show any failure of the engine, so that the view goes on working.
            say(self.status, "")
            self.report(str(error) or type(error).__name__)
        finally:
            self.button.disabled, self.stop.disabled = False, True

    def _show(self, result: Sweep) -> None:
        say(self.status, "stopped" if self._stopped.is_set() else "measured")
        self.table.value = _table(result.table)
        try:
            picture = base64.b64encode(png(result.figure())).decode()
            said = "Windows a second and seconds a window against batch size"
            self.figure.value = (
                f'<img alt="{said}" style="max-width:100%;background:#fff" '
                f'src="data:image/png;base64,{picture}">'
            )
        except ValueError as error:
            self.figure.value = bad(str(error))
        self.changes.value = ""
        if self.fp8.value:
            try:
                changes = result.fp8_changes()
                self.changes.value = f'<div class="ck-scroll">{changes._repr_html_()}</div>'
            except ValueError as error:
                self.changes.value = f'<div class="ck-note">{escape(error)}</div>'

    def close(self) -> None:
        """Stop measuring, and close."""
        self._stopped.set()
        super().close()


def _table(table: pd.DataFrame) -> str:
    shown = table[[name for name in _SHOWN if name in table]].copy()
    if (each := "peak_memory_each_gb") in shown:
        # Of one GPU, the column before says it all.
        several = [value for value in shown[each] if isinstance(value, tuple) and len(value) > 1]
        shown[each] = [
            ", ".join(f"{gb:.3g}" for gb in value) if isinstance(value, tuple) else None
            for value in shown[each]
        ]
        shown = shown if several else shown.drop(columns=each)
    return f'<div class="ck-scroll">{frame_html(shown)}</div>'
