"""What several views are made with: layouts, closing, problems."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ipywidgets as widgets

from captionkit.display import escape, visible

STYLE = f"<style>{(Path(__file__).parent / 'static' / 'forms.css').read_text()}</style>"


# Style of a ``pre``, in which JupyterLab breaks words anywhere; a twin has no style sheet.
WHOLE_WORDS = "white-space:pre-wrap;word-break:normal;overflow-wrap:break-word"
# Layout of a text area of the whole width; at 100% its margin would stick out.
FULL = {"width": "auto", "align_self": "stretch"}


def wide(width: str) -> widgets.Layout:
    """Make a layout of a width that gives way on a narrow page."""
    # Its margin of 2 px must not stick out either.
    return widgets.Layout(width=width, max_width="calc(100% - 4px)")


def flow() -> widgets.Layout:
    """Make the layout of a row that breaks where the page ends."""
    return widgets.Layout(flex_flow="row wrap", width="100%", align_items="center")


def close_all(widget: widgets.Widget) -> None:
    """Close a widget with all that is in it, and the layouts and styles that they hold."""
    for child in getattr(widget, "children", ()):
        close_all(child)
    close_one(widget)


def close_one(widget: widgets.Widget) -> None:
    """Close a widget with its layout and style."""
    for name in ("layout", "style"):
        part = getattr(widget, name, None)
        if isinstance(part, widgets.Widget):
            part.close()
    widgets.Widget.close(widget)


def bad(text: str) -> str:
    """Mark a text as something wrong, as HTML."""
    return f'<span class="ck-bad">{escape(text)}</span>'


def show_problem(line: widgets.HTML, problem: str) -> None:
    """Show what went wrong in its own line, which screen readers read out; nothing if all is well."""
    html = f'<div class="ck-problem" role="alert">{escape(problem)}</div>' if problem else ""
    if line.value != html:
        line.value = html


def say(line: widgets.HTML, text: str) -> None:
    """Show how far something is; screen readers read it after their current sentence."""
    line.value = f'<div role="status" aria-live="polite">{escape(text)}</div>' if text else ""


def counted(count: int, noun: str) -> str:
    """Return a number of things in words."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def left_out(what: str, names: Sequence[str]) -> str:
    """Say which kept values of a store cannot be read, all in one sentence."""
    shown = ", ".join(repr(visible(name)[:40]) for name in names[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    many = f"{what}s" if len(names) > 1 else what
    return f"{many} {shown}{more}: damaged in the store, so left out; save it again where you need it"


def duration(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds in words."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
