"""Twin: what a view shows as HTML that needs no kernel, for saved notebooks and pages of code hosts.

A notebook does not choose between a widget and HTML of one output: it shows an error for a widget that
is gone. So the twin is an output of its own, which the live view hides.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import anywidget
import ipywidgets as widgets
import traitlets

from captionkit import display
from captionkit.display import escape
from captionkit.widgets.board import Board
from captionkit.widgets.change import Change
from captionkit.widgets.esm import bundle
from captionkit.widgets.parts import close_one

# A saved notebook with so many pictures and so much text stays under 300 kB.
_MOST_PICTURES = 24
_FIRST_WINDOWS = 8
_MOST_TABLE = 100_000
_MOST_HTML = 30_000
_MOST_FIELD = 2_000
# Changes that come together are one update.
_SETTLE_S = 0.5
# Style sheets would show as text where a sanitizer removes their tags alone; bars stand still.
_LIVE_ONLY = re.compile(r"<style.*?</style>|<progress.*?(?:</progress>|$)", re.DOTALL)


class Hider(anywidget.AnyWidget):
    """Hides a twin, as soon as the kernel answers the page."""

    _esm = bundle("twin.js")
    _twin = traitlets.Unicode().tag(sync=True)

    def __init__(self, twin: str) -> None:
        super().__init__(_twin=twin)
        self.on_msg(lambda *_: self.send({"kind": "live"}))


class Twin:
    """Shows a view with its twin, and keeps the twin up to date.

    Parameters
    ----------
    board
        Whose thread draws the twin.
    view
        The live view.
    name
        What the view is, in words.
    draw
        Makes the twin's HTML.
    """

    def __init__(self, board: Board, view: widgets.Widget, name: str, draw: Callable[[], str]) -> None:
        self._board, self._view, self._name, self._draw = board, view, name, draw
        self._shown: tuple[widgets.VBox, Hider, Any] | None = None
        self._html = ""

    def show(self) -> None:
        """Show the view, then its twin."""
        from IPython.display import HTML  # a kernel has it; nothing else needs it
        from IPython.display import display as show

        if self._shown is None:
            key = f"ck-twin-{self._view.model_id}"
            hider = Hider(key)
            box = widgets.VBox([hider, self._view], layout=widgets.Layout(width="100%"))
        else:
            box, hider, _ = self._shown
        html = f"<div>{escape(self._name)}</div>"
        show({**box._repr_mimebundle_(), "text/plain": self._name, "text/html": html}, raw=True)
        self._html = self._drawn(hider._twin)
        handle = show(HTML(self._html), display_id=hider._twin)
        self._shown = box, hider, handle

    def on_change(self, change: Change) -> None:
        """Draw again after runs and changes of the windows."""
        if change.ended or change.grown or change.recut:
            self.update()

    def follow(self, view: widgets.Widget) -> None:
        """Draw again after changes of the texts in a view."""
        for part in _parts(view):
            if isinstance(part, widgets.HTML):
                part.observe(self.update, names="value")

    def update(self, _: Any = None) -> None:
        """Draw the twin again soon, in a thread."""
        if self._shown is not None:
            self._board.work.submit(("twin", self._view.model_id), self._update, delay_s=_SETTLE_S)

    def _update(self) -> None:
        from IPython.display import HTML

        if self._shown is None:
            return
        _, hider, handle = self._shown
        html = self._drawn(hider._twin)
        if html != self._html:
            self._html = html
            handle.update(HTML(html))

    def _drawn(self, key: str) -> str:
        return f'<div class="{key}">{self._draw()}</div>'

    def close(self) -> None:
        """Take away what `show` made around the view."""
        if self._shown is not None:
            for part in self._shown[:2]:
                close_one(part)
            self._shown = None


def windows_html(board: Board) -> str:
    """Return the last run's captions, or the first windows where there is none, with pictures."""
    session, run = board.session, board.run
    if run is None:
        first = board.table(range(min(len(board.windows), _FIRST_WINDOWS)))
        return display.windows_html(first, session.thumbnail)
    table = run.head()
    two = run.recipe.stage2 is not None
    few = len(table) <= _MOST_PICTURES * (2 if two else 1)
    share = _MOST_TABLE // max(1, min(len(table), 2 * display.MOST_ROWS))
    table["text"] = [
        text if not isinstance(text, str) or len(text) <= share else text[:share] + "…"
        for text in table["text"]
    ]
    return display.run_html(
        table,
        session.thumbnail if few else display.no_images,
        two_stages=two,
        summary=f"run {run.id}: {run.recipe.model}, {run.status}, {run.progress}",
        total=run.progress.total,
    )


def _parts(widget: widgets.Widget) -> list[widgets.Widget]:
    """Return a widget and all that is in it."""
    return [widget, *(each for child in getattr(widget, "children", ()) for each in _parts(child))]


def static_html(widget: widgets.Widget) -> str:
    """Return what a form shows as HTML: its texts and the values of its fields, without controls."""
    if widget.layout.display == "none":
        return ""
    if isinstance(widget, widgets.Tab):
        pages = zip(widget.titles, map(static_html, widget.children), strict=True)
        return "".join(f"<h4>{escape(title)}</h4>{page}" for title, page in pages if page)
    if isinstance(widget, widgets.Box):
        return _box(widget)
    if isinstance(widget, widgets.HTML):
        # What is announced, as a cost or a progress, is about the moment.
        html = "" if "aria-live" in widget.value else _LIVE_ONLY.sub("", widget.value)
        if len(html) > _MOST_HTML and "<img" not in html:
            return "<div>too long to be kept without a kernel</div>"
        return f"<div>{html}</div>" if html else ""
    if isinstance(widget, widgets.Checkbox):
        return f"<div>☑ {escape(widget.description)}</div>" if widget.value else ""
    value = getattr(widget, "label", getattr(widget, "value", ""))
    if isinstance(value, tuple):
        value = ", ".join(map(str, value))
    if isinstance(widget, (widgets.Button, widgets.ToggleButton)) or value in ("", None):
        return ""
    text = str(value)[:_MOST_FIELD]
    return (
        f'<div style="white-space:pre-wrap"><b>{escape(widget.description)}</b>: {escape(text)}</div>'
    )


def _box(box: widgets.Box) -> str:
    cells = [html for child in box.children if (html := static_html(child))]
    if not isinstance(box, widgets.HBox) or len(cells) < 2:
        return "".join(cells)
    if not all(isinstance(child, widgets.Box) for child in box.children):
        return "".join(cells)
    return display.table_html([], [cells])
