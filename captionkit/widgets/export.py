"""ExportPanel: a run to a file, without a manual."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from captionkit import display
from captionkit.export import FORMATS, ExportError
from captionkit.export.dataset import LAYOUTS, DatasetExport, DatasetOptions
from captionkit.run import Run, runs
from captionkit.session import Session
from captionkit.store import StoreError
from captionkit.widgets.board import Board
from captionkit.widgets.browser import Browser
from captionkit.widgets.change import Change
from captionkit.widgets.file_link import FileLink
from captionkit.widgets.form_view import FormView
from captionkit.widgets.parts import flow, say, wide

_MOST_RUNS = 100
_DATASET = "dataset"
# Seconds between two messages of how far a data set is.
_EVERY_S = 0.5


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
            options=[
                *((f"{name}: {each.description}", name) for name, each in FORMATS.items()),
                (f"{_DATASET}: clips with captions to train on", _DATASET),
            ],
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
        self.layout_menu = widgets.Dropdown(
            description="Layout",
            options=[(f"{name}: {each.description}", name) for name, each in LAYOUTS.items()],
            layout=wide("30em"), style=style,
        )  # fmt: skip
        self.min_rating = widgets.Dropdown(
            description="Rated", options=[("any", None), *((f"{n} or better", n) for n in range(1, 6))],
            layout=wide("15em"), style=style,
        )  # fmt: skip
        self.validation = widgets.BoundedFloatText(
            description="Validation", min=0, max=0.9, step=0.05, layout=wide("13em"), style=style,
            tooltip="share of the films for validation; no film is in both parts",
        )  # fmt: skip
        self.trigger = widgets.Text(
            description="Trigger", placeholder="word put before each caption", layout=wide("18em"),
            style=style,
        )  # fmt: skip
        self.of_a_set = widgets.HBox(
            [self.layout_menu, self.min_rating, self.validation, self.trigger], layout=flow()
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
        self._made: DatasetExport | None = None
        self._list_runs()
        self._suggest()
        self.run.observe(self._on_choice, names="value")
        self.format.observe(self._on_choice, names="value")
        self.button.on_click(lambda _: self.export())
        self.lay_out(
            [
                widgets.HBox([self.run, self.format], layout=flow()),
                widgets.HBox([self.stage, self.checks, self.prefer_human], layout=flow()),
                self.of_a_set,
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
        """Show the controls of the format; write a path that fits, unless a person wrote one."""
        self.of_a_set.layout.display = "" if self.format.value == _DATASET else "none"
        self.checks.disabled = self.format.value == _DATASET
        if self.path.value in ("", self._suggested) and self.run.value is not None:
            name = self.format.value
            suffix = "" if name in ("nemo", "vtt", "srt", _DATASET) else f".{name}"
            kind = f"-{name}" if not suffix else ""
            self._suggested = self.path.value = f"exports/run-{self.run.value}{kind}{suffix}"

    def export(self) -> None:
        """Write the file, or stop the data set under way; returns at once."""
        self.report("")
        if self._made is not None:
            self.board.work.submit("stop export", self._made.stop)
            return
        if self.run.value is None:
            self.report("there is no run to export yet; caption some windows first")
            return
        path = self.path.value.strip()
        if not path:
            self.report("there is no path; write where to, say exports/captions.jsonl")
            return
        options = {
            "stage": self.stage.value,
            "prefer_human": self.prefer_human.value,
            "overwrite": self.overwrite.value,
        }
        number, name, checks = self.run.value, self.format.value, self.checks.value
        of_a_set = {
            "layout": self.layout_menu.value,
            "min_rating": self.min_rating.value,
            "validation": self.validation.value,
            "trigger": self.trigger.value.strip(),
        }
        self.button.disabled = True
        self.link.file = None
        say(self.status, f"writing {path}…")
        target = Path(path).expanduser()

        def write() -> Path:
            run = Run(self.board.session.store, number, self.board.session)
            if name == _DATASET:
                return self._write_set(run, target, of_a_set, options)
            return run.export(target, name, checks=checks, **options)

        self.board.long.submit("export", lambda: self._write(write))

    def _write_set(
        self, run: Run, target: Path, of_a_set: dict[str, Any], options: dict[str, Any]
    ) -> Path:
        """Write a data set and say how far it is; a progress bar would print from this thread."""
        made = self._made = DatasetExport(
            run.to_choose,
            target,
            DatasetOptions(**of_a_set),
            self.board.session.sources.by_key,
            stage=options["stage"],
            by_rating=options["prefer_human"],
            overwrite=options["overwrite"],
        )
        self.button.description, self.button.disabled = "Stop", False
        while not made.wait(_EVERY_S):
            say(self.status, f"writing {target}: {made.state()[2]}")
        if made.problems:
            self.report(f"{len(made.problems)} windows are left out, see {target / 'card.md'}")
        return target

    def _write(self, write: Callable[[], Path]) -> None:
        try:
            written = write()
        except (ExportError, StoreError, KeyError, OSError) as error:
            say(self.status, "")
            self.report(str(error.args[0] if error.args else error))
        else:
            say(self.status, f"written: {written}")
            self.link.file = written
        finally:
            self._made = None
            self.button.description, self.button.disabled = "Export", False
