"""Workbench: all views of one session in one place; `workbench` opens it on videos in one line."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import ipywidgets as widgets

from captionkit import display
from captionkit.recipe import Recipe
from captionkit.run import Run
from captionkit.session import Session
from captionkit.stages import VideoTask
from captionkit.widgets.board import Board
from captionkit.widgets.browser import Browser
from captionkit.widgets.change import Change
from captionkit.widgets.compare import CompareView
from captionkit.widgets.export import ExportPanel
from captionkit.widgets.form_view import FormView
from captionkit.widgets.parts import STYLE, close_all, close_one
from captionkit.widgets.prompts_view import PromptsView
from captionkit.widgets.review_view import ReviewView
from captionkit.widgets.search_view import SearchView
from captionkit.widgets.sweep_view import SweepView
from captionkit.widgets.tuner import Tuner
from captionkit.widgets.twin import Twin, static_html, windows_html

#: The views below the browser, a tab each; a new view is its own file and one more entry here.
TABS: tuple[type[FormView], ...] = (
    CompareView, ReviewView, PromptsView, SearchView, ExportPanel, SweepView,
)  # fmt: skip


class Workbench:
    """All views of a session; shows itself where it is the last line of a cell.

    ``browser``, ``tuner`` and each of `TABS` by its name (``compare``, ``review``, ``prompts``,
    ``search``, ``export``, ``sweep``) are its views, ``run`` is the last run. In a saved notebook that
    is opened without a kernel, the last run's captions, the recipe, what was found and measured, and
    what is compared show as HTML. Running
    the same cell again closes the workbench that it opened before.

    Parameters
    ----------
    session
        Videos, model and store.
    """

    _open: ClassVar[dict[object, Workbench]] = {}

    def __init__(self, session: Session, *, _owned: bool = False) -> None:
        self._key = _cell() or ("session", repr((session.source, session.spans, session.meta)))
        earlier = self._open.pop(self._key, None)
        if earlier is not None:
            earlier.close()
        self.board = Board(session, owned=_owned)
        self.browser = Browser(self.board)
        self.tuner = Tuner(self.board, self.browser)
        self.compare: CompareView
        self.search: SearchView
        self.sweep: SweepView
        tabs = [view(self.board, self.browser) for view in TABS]
        vars(self).update({view.name: view for view in tabs})
        self._tabs = widgets.Tab(
            tabs, titles=[view.title for view in tabs], layout=widgets.Layout(min_width="0")
        )
        self._tabs.add_class("ck-tabs")
        self._style = widgets.HTML(STYLE)
        self.left_out = widgets.HTML()
        look = widgets.Button(description="Look again", layout=widgets.Layout(width="auto"))
        look.tooltip = "open files that were replaced, and new files of the folder"
        look.on_click(lambda _: self.board.look_again())
        #: What is left out, with a button to look at the files again.
        self.banner = widgets.HBox([self.left_out, look])
        self.banner.add_class("ck-banner")
        # The grid is inside the box whose width decides on it; see forms.css.
        self._grid = widgets.VBox([self.browser, self.tuner, self._tabs])
        self._grid.add_class("ck-grid")
        self.widget = widgets.VBox(
            [self._style, self.banner, self._grid], layout=widgets.Layout(width="100%")
        )
        self.widget.add_class("ck-bench").add_class("ck-look")
        self._twin = Twin(self.board, self.widget, repr(self), self._static)
        self._twin.follow(self.compare)
        self._twin.follow(self.search)
        self._twin.follow(self.sweep)
        # Choose a window, so that the page begins with something to look at.
        self.browser.value = self.board.windows[0].name
        self.board.listen(self._on_change)
        self._show_left_out()
        self._open[self._key] = self

    @property
    def session(self) -> Session:
        """The session; another one once the windows were cut anew."""
        return self.board.session

    @property
    def run(self) -> Run | None:
        """The last run."""
        return self.board.run

    def __repr__(self) -> str:
        return f"<Workbench: {self.session!r}{', closed' if self.board.closed else ''}>"

    def _ipython_display_(self) -> None:
        if self.board.closed:
            from IPython.display import HTML  # a kernel has it; nothing else needs it
            from IPython.display import display as show

            show(HTML("<em>this workbench was closed; run its cell again</em>"))
            return
        self._twin.show()

    def _show_left_out(self) -> None:
        """Show which videos are left out, and why, above the browser."""
        left_out = self.session.sources.left_out
        self.left_out.value = display.left_out_html(left_out)
        self.banner.layout.display = None if left_out else "none"

    def _on_change(self, change: Change) -> None:
        if change.grown or change.recut:
            self._show_left_out()
        self._twin.on_change(change)

    def _static(self) -> str:
        """What is shown as HTML that needs no kernel."""
        shown = [self.left_out.value, windows_html(self.board), static_html(self.tuner)]
        if self.run is not None:
            shown.append(static_html(self.compare))
        if self.search.result is not None:
            shown.append(static_html(self.search))
        if self.sweep.result is not None:
            shown.append(static_html(self.sweep))
        return "".join(shown)

    def close(self) -> None:
        """Take it off the page; runs under way are stopped, the engine stays for others."""
        if self._open.get(self._key) is self:
            del self._open[self._key]
        self.board.forget(self._on_change)
        self._twin.close()
        for view in (self.browser, self.tuner, *self._tabs.children):
            view.close()
        self.board.close()
        close_all(self.banner)
        for part in (self._tabs, self._grid, self._style, self.widget):
            close_one(part)


def workbench(
    source: str | Path | VideoTask | Iterable[str | Path | VideoTask] | None = None,
    model: str | None = None,
    *,
    recipe: Recipe | None = None,
    **settings: Any,
) -> Workbench:
    """Open a workbench on videos, as ``ck.workbench("data/*.mp4")``.

    Parameters
    ----------
    source, model, recipe, settings
        As `session.Session` takes them.
    """
    return Workbench(Session(source, model, recipe=recipe, **settings), _owned=True)


def _cell() -> object:
    """The notebook cell that runs, or None for a front end that does not name it."""
    ipython = sys.modules.get("IPython")
    shell: Any = ipython.get_ipython() if ipython else None
    with contextlib.suppress(AttributeError, KeyError, TypeError):
        return ("cell", shell.get_parent()["metadata"]["cellId"])
    return None
