"""One side of the compare view: a caption with its figures, and what a person says of it.

Called by the compare view.
"""

from __future__ import annotations

from typing import Any, Protocol

import ipywidgets as widgets

from captionkit.review import checks
from captionkit.display import escape
from captionkit.widgets.parts import FULL, flow, wide
from captionkit.widgets.rows import stage_checks


class _View(Protocol):
    def annotate(self, number: int, stage: int, **values: Any) -> None: ...


class Side(widgets.VBox):
    """A caption, its rating, edited text and note; what is typed is stored at once."""

    def __init__(self, view: _View, name: str) -> None:
        self._view = view
        self._of: tuple[int, int] | None = None
        self._filling = False
        self._shown = ""
        self.text = widgets.HTML()
        ratings = [("no rating", 0), *((f"{'★' * n}", n) for n in range(1, 6))]
        style = {"description_width": "4em"}
        self.rating = widgets.Dropdown(
            description="Rating", options=ratings, layout=wide("13em"), style=style
        )
        self.note = widgets.Text(
            description="Note", continuous_update=False, layout=wide("22em"), style=style
        )
        self.edited = widgets.Textarea(
            description="Edited", continuous_update=False, rows=3, layout=FULL, style=style,
            placeholder="A better text; empty means the model's own",
        )  # fmt: skip
        self._tools = widgets.VBox(
            [widgets.HBox([self.rating, self.note], layout=flow()), self.edited],
            layout=widgets.Layout(width="100%"),
        )
        super().__init__(
            [self.text, self._tools],
            layout=widgets.Layout(flex="1 1 20em", min_width="0", padding="2px"),
        )
        self.add_class(f"ck-{name}")
        self.rating.observe(self._on_rating, names="value")
        self.note.observe(self._on_note, names="value")
        self.edited.observe(self._on_edited, names="value")

    def clear(self) -> None:
        """Show nothing."""
        self._of = None
        self._tell("")
        self._tools.layout.display = "none"

    def fill(self, name: str, run: int | None, caption: dict[str, Any] | None, shown: str) -> None:
        """Show a caption (a stage of `rows.Told`); ``shown`` is its text as HTML."""
        if caption is None or run is None:
            self.clear()
            self._tell(_box(name, "", '<div class="f">no caption</div>'))
            return
        text = f'<div class="t" tabindex="0">{shown}</div>'
        if caption.get("growing"):
            self._of = None
            self._tools.layout.display = "none"
            self._tell(_box(name, text, '<div class="f">being written…</div>'))
            return
        self._of = (run, caption["stage"])
        self._tell(_box(name, text, _facts(caption)))
        self._filling = True
        self.rating.value = caption["rating"] or 0
        self.note.value = caption["note"] or ""
        self.edited.value = caption["edited_text"] or ""
        self._filling = False
        self._tools.layout.display = None

    def _tell(self, html: str) -> None:
        # Unfolded prompts stay unfolded while nothing changes.
        if html != self._shown:
            self._shown = self.text.value = html

    def _on_rating(self, change: Any) -> None:
        self._annotate(rating=change["new"] or None)

    def _on_note(self, change: Any) -> None:
        self._annotate(note=change["new"].strip() or None)

    def _on_edited(self, change: Any) -> None:
        self._annotate(edited_text=change["new"].strip() or None)

    def _annotate(self, **values: Any) -> None:
        if not self._filling and self._of is not None:
            self._view.annotate(*self._of, **values)


def _box(name: str, text: str, facts: str) -> str:
    return f'<div class="ck-side"><b>{escape(name)}</b>{text}{facts}</div>'


def _facts(caption: dict[str, Any]) -> str:
    """Tokens, seconds, checks and the prompt of a caption, as HTML."""
    found = stage_checks(caption)
    faults = ", ".join(name for name in checks.FAULTS if found[name]) or "none"
    figures = (
        f"{caption['prompt_tokens']} tokens in ({caption['cached_tokens']} cached), "
        f"{caption['output_tokens']} out · {caption['seconds']:.2f} s, first after "
        f"{caption['first_token_s']:.2f} s · {found['words']} words · faults: {faults}"
    )
    return (
        f'<div class="f">{escape(figures)}</div><details><summary class="f">Prompt</summary>'
        f'<pre class="ck-prompt">{escape(caption["prompt_text"])}</pre></details>'
        f'<details><summary class="f">As the model got it</summary>'
        f'<pre class="ck-prompt">{escape(caption["prompt"])}</pre></details>'
    )
