"""What several widgets are made with: layouts, closing, problems.

Imports display; called by all widgets but the browser.
"""

from __future__ import annotations

from pathlib import Path

import ipywidgets as widgets

from captionkit.display import escape

STYLE = f"<style>{(Path(__file__).parent / 'static' / 'forms.css').read_text()}</style>"


# A text area of the whole width; at 100% its margin would stick out.
FULL = {"width": "auto", "align_self": "stretch"}


def wide(width: str) -> widgets.Layout:
    """A layout of a width that gives way on a narrow page."""
    return widgets.Layout(width=width, max_width="100%")


def flow() -> widgets.Layout:
    """A row that breaks where the page ends."""
    return widgets.Layout(flex_flow="row wrap", width="100%", align_items="center")


def close_all(box: widgets.Box) -> None:
    """Close a box with all that is in it, and the layouts and styles that they hold."""
    for child in box.children:
        if isinstance(child, widgets.Box):
            close_all(child)
        else:
            close_one(child)
    close_one(box)


def close_one(widget: widgets.Widget) -> None:
    """Close a widget with its layout and style."""
    for name in ("layout", "style"):
        part = getattr(widget, name, None)
        if isinstance(part, widgets.Widget):
            part.close()
    widgets.Widget.close(widget)


def bad(text: str) -> str:
    """A text that tells of something wrong, as HTML."""
    return f'<span class="ck-bad">{escape(text)}</span>'


def show_problem(place: widgets.HTML, problem: str) -> None:
    """Show what went wrong in its own line, which screen readers read out; nothing if all is well."""
    said = f'<div class="ck-problem" role="alert">{escape(problem)}</div>' if problem else ""
    if place.value != said:
        place.value = said


def say(place: widgets.HTML, text: str) -> None:
    """Show how far something is; screen readers read it when they are done with their sentence."""
    place.value = f'<div role="status" aria-live="polite">{escape(text)}</div>' if text else ""
