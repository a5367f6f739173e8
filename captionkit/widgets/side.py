"""Side: one caption of the compare view with its figures, and a person's rating, text and note."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from captionkit.display import escape
from captionkit.review import FAULTS
from captionkit.store import StoredStage
from captionkit.widgets.parts import FULL, WHOLE_WORDS, flow, wide
from captionkit.widgets.rows import stage_checks
from captionkit.widgets.verdicts import Verdict


class Side(widgets.VBox):
    """A caption, its rating, edited text and note; what is typed is stored at once.

    Parameters
    ----------
    name
        ``left`` or ``right``.
    annotate
        Called with run, stage and what a person says of the caption: ``rating``, ``edited_text`` or
        ``note``.
    """

    def __init__(self, name: str, annotate: Callable[..., None]) -> None:
        self._store = annotate
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
        self._show("", None)

    def show_missing(self, name: str) -> None:
        """Show that there is no caption."""
        self._show(_box(name, "", '<div class="f">no caption</div>'), None)

    def show_growing(self, name: str, shown: str) -> None:
        """Show a caption that is being written; ``shown`` is its text as HTML."""
        self._show(_box(name, _text(shown), '<div class="f">being written…</div>'), None)

    def show(self, name: str, run: int, caption: StoredStage, shown: str, verdict: Verdict) -> None:
        """Show a caption of a run; ``shown`` is its text as HTML."""
        self._show(_box(name, _text(shown), _facts(caption, verdict)), (run, caption.stage))
        self._filling = True
        self.rating.value = caption.rating or 0
        self.note.value = caption.note or ""
        self.edited.value = caption.edited_text or ""
        self._filling = False

    def _show(self, html: str, of: tuple[int, int] | None) -> None:
        self._of = of
        self._tools.layout.display = "none" if of is None else None
        # Set again, equal HTML would fold a prompt that somebody unfolded.
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
            self._store(*self._of, **values)


def _text(shown: str) -> str:
    return f'<div class="t" tabindex="0">{shown}</div>'


def _box(name: str, text: str, facts: str) -> str:
    return f'<div class="ck-side"><b>{escape(name)}</b>{text}{facts}</div>'


def _facts(caption: StoredStage, verdict: Verdict) -> str:
    """Tokens, seconds, checks and the prompt of a caption, as HTML."""
    found = stage_checks(caption, verdict)
    faults = ", ".join(name for name in FAULTS if found[name]) or "none"
    share = "" if verdict.supported is None else f" · {verdict.supported:.0%} of claims supported"
    figures = (
        f"{caption.prompt_tokens} tokens in ({caption.cached_tokens} cached), "
        f"{caption.output_tokens} out · {caption.seconds:.2f} s, first after "
        f"{caption.first_token_s:.2f} s · {found['words']} words · faults: {faults}{share}"
    )
    return (
        f'<div class="f">{escape(figures)}</div><details><summary class="f">Prompt</summary>'
        f'<pre class="ck-prompt" style="{WHOLE_WORDS}">{escape(caption.prompt_text)}</pre></details>'
        f'<details><summary class="f">As the model got it</summary>'
        f'<pre class="ck-prompt" style="{WHOLE_WORDS}">{escape(caption.prompt)}</pre></details>'
    )
