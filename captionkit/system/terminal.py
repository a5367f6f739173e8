"""The terminal: everything that captionkit prints goes through `SafeConsole`.

File names, captions, errors and warnings come from strangers, and their control codes could move the
cursor, hide lines or change the window's title.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text


class SafeConsole(Console):
    """A console whose texts cannot steer the terminal.

    Colours and the moves of rich's own bars stay: they are not texts.
    """

    def render_str(self, text: str, **settings: Any) -> Text:
        """Render markup with control characters replaced, before the widths are measured."""
        return super().render_str(printable(text), **settings)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render with the control characters of all texts replaced."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text), style, control)


def printable(text: str) -> str:
    """Replace control characters, so that captions and file names cannot steer a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
