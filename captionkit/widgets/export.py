"""Export panel: a run to a file, without a manual.

Imports exports and the board; called by workbenches and notebooks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ipywidgets as widgets

from captionkit.display import html as display
from captionkit.export import FORMATS, ExportError
from captionkit.runs.history import runs
from captionkit.runs.run import Run
from captionkit.session import Session
from captionkit.store import StoreError
from captionkit.widgets.board import Board, Change
from captionkit.widgets.file_link import FileLink
from captionkit.widgets.parts import STYLE, close_all, flow, say, show_problem, wide

_MOST_RUNS = 100


class ExportPanel(widgets.VBox):
    """Which run, which format, what to include, where to; and a link to what was written.

    Parameters
    ----------
    session
        A session, or the board that a workbench's widgets share.
    """

    def __init__(self, session: Session | Board) -> None:
        self.board = session if isinstance(session, Board) else Board(session)
        self._owns_board = not isinstance(session, Board)
        style = {"description_width": "6em"}
        self.run = widgets.Dropdown(description="Run", layout=wide("30em"), style=style)
        self.format = widgets.Dropdown(
            description="Format",
            options=[(f"{name}: {said}", name) for name, said in FORMATS.items()],
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
        self.problem = widgets.HTML()
        super().__init__(
            [
                widgets.HTML(STYLE),
                widgets.HBox([self.run, self.format], layout=flow()),
                widgets.HBox([self.stage, self.checks, self.prefer_human], layout=flow()),
                widgets.HBox([self.path, self.overwrite, self.button], layout=flow()),
                widgets.HBox([self.status, self.link], layout=flow()),
                self.problem,
            ],
            layout=widgets.Layout(width="100%", min_width="0"),
        )
        self.add_class("ck-box")
        self._suggested = ""
        self._list_runs()
        self._suggest()
        self.run.observe(self._on_choice, names="value")
        self.format.observe(self._on_choice, names="value")
        self.button.on_click(lambda _: self.export())
        self.board.listen(self._on_change)

    def _on_change(self, change: Change) -> None:
        if change.ended:
            self.board.work.submit("export runs", self._list_runs)
        show_problem(self.problem, self.board.problems.get("export", ""))

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
        """A path that fits, unless a person wrote one."""
        if self.path.value in ("", self._suggested) and self.run.value is not None:
            name = self.format.value
            suffix = "" if name in ("nemo", "vtt", "srt") else f".{name}"
            kind = f"-{name}" if not suffix else ""
            self._suggested = self.path.value = f"exports/run-{self.run.value}{kind}{suffix}"

    def export(self) -> None:
        """Write it; returns at once."""
        self.board.say("", "export")
        if self.run.value is None:
            self.board.say("there is no run to export yet; caption some windows first", "export")
            return
        path = self.path.value.strip()
        if not path:
            self.board.say("there is no path; write where to, say exports/captions.jsonl", "export")
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
            self.board.say(str(error.args[0] if error.args else error), "export")
        else:
            say(self.status, f"written: {written}")
            self.link.file = written
        finally:
            self.button.disabled = False

    def close(self) -> None:
        """Take it off the page; a board of its own ends with it."""
        self.board.forget(self._on_change)
        close_all(self)
        if self._owns_board:
            self.board.close()
