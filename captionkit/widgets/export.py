"""ExportPanel: a run to a file, without a manual."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ipywidgets as widgets

from captionkit import display
from captionkit.export import FORMATS, ExportError
from captionkit.run import Run, runs
from captionkit.session import Session
from captionkit.store import StoreError
from captionkit.widgets.board import Board
from captionkit.widgets.browser import Browser
from captionkit.widgets.change import Change
from captionkit.widgets.file_link import FileLink
from captionkit.widgets.form_view import FormView
from captionkit.widgets.parts import STYLE, flow, say, wide

_MOST_RUNS = 100


class ExportPanel(FormView):
    """Which run, which format, what to include, where to; and a link to the file that was written.

    Parameters
    ----------
    session
        A session, or the board that a workbench's views share.
    browser
        Not used.
    """

    name = "export"
    title = "Export"

    def __init__(self, session: Session | Board, browser: Browser | None = None) -> None:
        super().__init__(session, browser)
        style = {"description_width": "6em"}
        self.run = widgets.Dropdown(description="Run", layout=wide("30em"), style=style)
        self.format = widgets.Dropdown(
            description="Format",
            options=[(f"{name}: {each.description}", name) for name, each in FORMATS.items()],
            layout=wide("30em"), style=style,
        )  # fmt: skip
        self.stage = widgets.Dropdown(
            description="Stages", options=[("all", None), ("stage 1", 1), ("stage 2", 2)],
            layout=wide("15em"), style=style,
        )  # fmt: skip
        self.checks = widgets.Checkbox(description="Include checks", indent=False, layout=wide("10em"))
        self.prefer_human = widgets.Checkbox(
            description="Prefer edited and best-rated texts", indent=False, layout=wide("19em")
        )
        self.path = widgets.Text(description="Path", layout=wide("30em"), style=style)
        self.overwrite = widgets.Checkbox(
            description="Replace what is there", indent=False, layout=wide("13em")
        )
        self.button = widgets.Button(description="Export", button_style="primary", layout=wide("auto"))
        self.status = widgets.HTML()
        self.link = FileLink(self.board)
        self.add_class("ck-box")
        self._suggested = ""
        self._list_runs()
        self._suggest()
        self.run.observe(self._on_choice, names="value")
        self.format.observe(self._on_choice, names="value")
        self.button.on_click(lambda _: self.export())
        self.lay_out(
            [
                widgets.HTML(STYLE),
                widgets.HBox([self.run, self.format], layout=flow()),
                widgets.HBox([self.stage, self.checks, self.prefer_human], layout=flow()),
                widgets.HBox([self.path, self.overwrite, self.button], layout=flow()),
                widgets.HBox([self.status, self.link], layout=flow()),
                self.problem,
            ]
        )

    def on_change(self, change: Change) -> None:
        """List the runs again when some ended."""
        super().on_change(change)
        if change.ended:
            self.board.work.submit("export runs", self._list_runs)

    def _list_runs(self) -> None:
        kept, table = self.run.value, runs(self.board.session.store).head(_MOST_RUNS)
        options = [
            (f"run {number}: {display.visible(row['prompt'][:40])}, {row['done']} done", int(number))
            for number, row in table.iterrows()
        ]
        values = [value for _, value in options]
        newest = values[0] if values else None
        grew = newest is not None and newest not in {value for _, value in self.run.options}
        self.run.options = options
        self.run.value = kept if kept in values and not grew else newest

    def _on_choice(self, _: Any) -> None:
        self._suggest()

    def _suggest(self) -> None:
        """Write a path that fits, unless a person wrote one."""
        if self.path.value in ("", self._suggested) and self.run.value is not None:
            name = self.format.value
            suffix = "" if name in ("nemo", "vtt", "srt") else f".{name}"
            kind = f"-{name}" if not suffix else ""
            self._suggested = self.path.value = f"exports/run-{self.run.value}{kind}{suffix}"

    def export(self) -> None:
        """Write the file; returns at once."""
        self.report("")
        if self.run.value is None:
            self.report("there is no run to export yet; caption some windows first")
            return
        path = self.path.value.strip()
        if not path:
            self.report("there is no path; write where to, say exports/captions.jsonl")
            return
        options = {
            "stage": self.stage.value,
            "checks": self.checks.value,
            "prefer_human": self.prefer_human.value,
            "overwrite": self.overwrite.value,
        }
        number, name = self.run.value, self.format.value
        self.button.disabled = True
        self.link.file = None
        say(self.status, f"writing {path}…")
        self.board.long.submit("export", lambda: self._write(number, path, name, options))

    def _write(self, number: int, path: str, name: str, options: dict[str, Any]) -> None:
        try:
            run = Run(self.board.session.store, number, self.board.session)
            written = run.export(Path(path).expanduser(), name, **options)
        except (ExportError, StoreError, KeyError, OSError) as error:
            say(self.status, "")
            self.report(str(error.args[0] if error.args else error))
        else:
            say(self.status, f"written: {written}")
            self.link.file = written
        finally:
            self.button.disabled = False
