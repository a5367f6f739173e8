"""FormView: a view that is made of ipywidgets, with a line for what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import ipywidgets as widgets

from captionkit.session import Session
from captionkit.widgets.board import Board
from captionkit.widgets.board_view import BoardView
from captionkit.widgets.browser import Browser
from captionkit.widgets.change import Change
from captionkit.widgets.parts import STYLE, show_problem


class FormView(BoardView, widgets.VBox):
    """A form on a board; its constructor ends with `lay_out`.

    Parameters
    ----------
    session
        A session, or the board that a workbench's views share.
    browser
        Whose chosen and ticked windows the form is about, if any.
    """

    #: What its tab in a workbench says.
    title: ClassVar[str]

    def __init__(self, session: Session | Board, browser: Browser | None = None) -> None:
        super().__init__(session, layout=widgets.Layout(width="100%", min_width="0"))
        self.add_class("ck-look")
        self.browser = browser
        self.problem = widgets.HTML()

    def lay_out(self, children: Sequence[widgets.Widget]) -> None:
        """Show the form's parts and begin to follow the board."""
        # A workbench has the style once for all its views.
        own = [widgets.HTML(STYLE)] if self._owns_board else []
        self.children = (*own, *children)
        self.listen()

    def on_change(self, change: Change) -> None:
        """Show the view's problem; views extend it."""
        show_problem(self.problem, self.board.problems.get(self.name, ""))
