"""BoardView: what every view of a board needs, whether a form or the browser."""

from __future__ import annotations

from typing import Any, ClassVar

from captionkit.session import Session
from captionkit.widgets.board import Board
from captionkit.widgets.change import Change
from captionkit.widgets.parts import close_all
from captionkit.widgets.twin import Twin, static_html


class BoardView:
    """Stands before a widget class in a view's bases, and gives it a board.

    Parameters
    ----------
    session
        A session, or the board that a workbench's views share.
    traits
        Of the widget.
    """

    #: The view's name on a `Workbench`, and that of its problem on the board.
    name: ClassVar[str]

    def __init__(self, session: Session | Board, **traits: Any) -> None:
        self._owns_board = isinstance(session, Session)
        self.board = Board(session) if isinstance(session, Session) else session
        super().__init__(**traits)
        name = f"{type(self).__name__} of {self.board.session!r}"
        self._twin = Twin(self.board, self, name, self.static_html)

    def static_html(self) -> str:
        """Return what the view shows as HTML that needs no kernel."""
        return static_html(self)

    def _ipython_display_(self) -> None:
        self._twin.show()

    def listen(self) -> None:
        """Begin to follow the board; a constructor's last line, since changes come from a thread."""
        self.board.listen(self.on_change)
        self.board.listen(self._twin.on_change)
        self._twin.follow(self)

    def on_change(self, change: Change) -> None:
        """Show what changed on the board; called in a thread."""
        raise NotImplementedError

    def report(self, problem: str) -> None:
        """Show a problem in this view, in words to act on; an empty text takes it back."""
        self.board.report(problem, self.name)

    def close(self) -> None:
        """Take it off the page; a board of its own ends with it."""
        self.board.forget(self.on_change)
        self.board.forget(self._twin.on_change)
        self._twin.close()
        close_all(self)
        if self._owns_board:
            self.board.close()
