"""ReviewView: what is left to review in a good order, many captions at once, and undo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import ipywidgets as widgets

from captionkit.display import escape, table_html, visible, word_diff
from captionkit.run import agreement, runs
from captionkit.session import Session
from captionkit.store import Step, StoreError
from captionkit.widgets.board import EVERY_S, Board
from captionkit.widgets.browser import Browser
from captionkit.widgets.change import Change
from captionkit.widgets.fields import offer_runs
from captionkit.widgets.form_view import FormView
from captionkit.widgets.parts import counted, flow, say, wide

_DISAGREE, _WORST = "runs that disagree", "worst verified"
#: The orders of a review, each the filter of the browser.
QUEUES: dict[str, dict[str, Any]] = {
    "not reviewed": {"review": "open"},
    "with a fault, not reviewed": {"review": "faulty-open"},
    "lowest rated": {"sort": "lowest"},
    _DISAGREE: {"sort": "apart"},
    _WORST: {"sort": "supported"},
}
_TICKED, _LISTED = "ticked windows", "all listed windows"
# Whose tags and notes are changed.
_CAPTIONS, _WINDOWS = "captions", "windows"
_MOST_SHOWN, _MOST_RUNS = 20, 100
_STYLE = {"description_width": "5em"}


class ReviewView(FormView):
    """A queue of captions to review, and rating, tags, replacements and new tries for many at once.

    Parameters
    ----------
    session
        A session, or the board that a workbench's views share.
    browser
        Whose list is the queue, and whose ticked or listed windows are changed at once.
    """

    name = "review"
    title = "Review"

    def __init__(self, session: Session | Board, browser: Browser | None = None) -> None:
        super().__init__(session, browser)
        self.reviewer = widgets.Text(
            description="Reviewer", placeholder="your name", layout=wide("16em"), style=_STYLE,
            tooltip="ratings are kept by name", continuous_update=False,
        )  # fmt: skip
        self.queue = widgets.Dropdown(
            description="Queue", options=list(QUEUES), layout=wide("20em"), style=_STYLE
        )
        self.run_a = widgets.Dropdown(description="First run", layout=wide("20em"), style=_STYLE)
        self.run_b = widgets.Dropdown(description="Second run", layout=wide("20em"), style=_STYLE)
        self.begin = self._button("Begin", self._begin, "", button_style="primary")
        self.next = self._button("Next (r)", self._next, "the next caption that nobody reviewed")
        self.left = widgets.HTML()
        self.which = widgets.Dropdown(
            description="Change", options=[_TICKED, _LISTED], layout=wide("18em"), style=_STYLE
        )
        self.of = widgets.Dropdown(
            description="Mark the", options=[_CAPTIONS, _WINDOWS], layout=wide("14em"), style=_STYLE,
            tooltip="tags and notes of the captions of these windows, or of the windows themselves",
        )  # fmt: skip
        self.rating = widgets.Dropdown(
            description="Stars", layout=wide("15em"), style=_STYLE,
            options=[("no rating", 0), *(("★" * each, each) for each in range(1, 6))],
        )  # fmt: skip
        self.rate = self._button("Rate", self._rate, "")
        self.tags = widgets.Text(
            description="Tags", placeholder="one, two", layout=wide("18em"), style=_STYLE
        )
        self.add = self._button("Add tags", self._add_tags, "add these tags")
        self.remove = self._button("Remove tags", self._remove_tags, "remove these tags")
        self.note = widgets.Text(description="Note", layout=wide("18em"), style=_STYLE)
        self.add_note = self._button("Add to notes", self._add_note, "write it behind each note")
        self.set_note = self._button(
            "Replace notes", self._set_note, "in place of each note; an empty one removes the notes"
        )
        self.accept = self._button("Accept", self._accept, "tag as accepted")
        self.retry = self._button("Retry failed", self._retry, "caption failed windows again")
        self.times = widgets.BoundedIntText(
            value=3, min=1, max=20, description="tries at most", layout=wide("11em"),
            style={"description_width": "6.5em"},
        )  # fmt: skip
        self.reroll = self._button(
            "Re-roll faulty", self._reroll,
            "caption again what loops, is cut off or echoes, with another seed, until it passes; "
            "the earlier text stays in its run",
        )  # fmt: skip
        self.find = widgets.Text(description="Find", layout=wide("18em"), style=_STYLE)
        self.replacement = widgets.Text(description="Put", layout=wide("18em"), style=_STYLE)
        self.case = widgets.Checkbox(description="Case counts", indent=False, layout=wide("8em"))
        self.preview = self._button("Preview", self._preview, "show what would change")
        self.replace = self._button("Replace", self._replace, "", disabled=True)
        self.undo = self._button("Undo the last step (u)", self._undo, "")
        self.redo = self._button("Make it again (U)", self._redo, "take back the last undo")
        #: This person's last steps, the newest first.
        self.steps = widgets.HTML()
        self.status = widgets.HTML()
        self.found = widgets.HTML()
        self.agreement = widgets.HTML()
        self._texts: dict[int, str] = {}
        self.add_class("ck-box")
        self.reviewer.observe(self._on_reviewer, names="value")
        self.queue.observe(self._on_queue, names="value")
        for field in (self.find, self.replacement, self.case, self.which):
            field.observe(self._forget_preview, names="value")
        if browser is not None:
            browser.observe(self._on_browser, names=["selection", "_version"])
        self._list_runs()
        self._on_queue()
        self.lay_out(
            [
                self._row(self.reviewer, self.queue, self.run_a, self.run_b, self.begin, self.next),
                self.left,
                self._row(self.which, self.accept, self.retry, self.reroll, self.times),
                self._row(self.rating, self.rate),
                self._row(self.of, self.tags, self.add, self.remove),
                self._row(self.note, self.add_note, self.set_note),
                self._row(self.find, self.replacement, self.case, self.preview, self.replace),
                self.problem,
                self.status,
                self.found,
                self._row(self.undo, self.redo),
                self.steps,
                self.agreement,
            ]
        )
        self._refresh()

    def _row(self, *parts: widgets.Widget) -> widgets.HBox:
        return widgets.HBox(parts, layout=flow())

    def _button(self, text: str, act: Callable[[], str | None], tip: str, **how: Any) -> widgets.Button:
        made = widgets.Button(description=text, tooltip=tip or text, layout=wide("auto"), **how)
        made.on_click(lambda _: self._try(act))
        return made

    def _try(self, act: Callable[[], str | None]) -> None:
        """Do what a button says and show what came of it, in words."""
        self.report("")
        try:
            say(self.status, act() or "")
        except (ValueError, KeyError, StoreError) as error:
            self.report(str(error.args[0] if error.args else error))

    @property
    def indexes(self) -> list[int]:
        """The windows that a bulk button changes.

        Raises
        ------
        ValueError
            If there are none.
        """
        if self.browser is None:
            return list(range(len(self.board.windows)))
        found = self.browser.indexes if self.which.value == _TICKED else self.browser.listed
        if not found:
            raise ValueError(f"there are no {self.which.value}; tick some in the browser (x)")
        return found

    def _on_reviewer(self, change: Any) -> None:
        self.board.reviewer = change["new"].strip()
        # The last steps are this person's.
        self._refresh()

    def _on_queue(self, _: Any = None) -> None:
        two = self.queue.value == _DISAGREE
        for control in (self.run_a, self.run_b):
            control.layout.display = None if two else "none"

    def _begin(self) -> str | None:
        if self.browser is None:
            raise ValueError("there is no browser to list a queue; open a workbench")
        wanted = QUEUES[self.queue.value]
        if self.queue.value == _DISAGREE:
            a, b = self.run_a.value, self.run_b.value
            if a is None or a == b:
                raise ValueError("these are not two runs; caption with two prompts and choose both")
            self.board.work.submit("apart", lambda: self._list_apart(a, b))
            return f"looking where run {a} and run {b} disagree…"
        if self.queue.value == _WORST:
            self.board.work.submit("worst", self._list_worst)
            return None
        self.browser.filter = wanted
        self._first()
        return None

    def _list_worst(self) -> None:
        found = self.board.load_supported()
        assert self.browser is not None
        self.browser.filter = {}
        self.browser.filter = QUEUES[_WORST]
        self._first()
        what = f"{len(found)} captions were verified" if found else "no caption was verified yet"
        say(self.status, f"{what}; “Verify” beside the buttons that caption does")

    def _list_apart(self, a: int, b: int) -> None:
        differ = self.board.set_apart(a, b)
        assert self.browser is not None
        self.browser.filter = {}
        self.browser.filter = QUEUES[_DISAGREE]
        self._first()
        say(self.status, f"run {a} and run {b} differ in {len(differ)} windows")

    def _first(self) -> None:
        """Choose the first window of the queue."""
        assert self.browser is not None
        if listed := self.browser.listed:
            self.browser.value = self.board.windows[listed[0]].name

    def _next(self) -> str | None:
        if self.browser is not None and self.browser.next_open() is None:
            return "every caption of the list is reviewed"
        return None

    def _rate(self) -> str:
        count = self.board.rate_all(self.indexes, self.rating.value or None)
        return f"{counted(count, 'caption')} rated"

    @property
    def _of_windows(self) -> bool:
        return bool(self.of.value == _WINDOWS)

    @property
    def _noun(self) -> str:
        return "window" if self._of_windows else "caption"

    def _tag(self, *, add: bool) -> str:
        count = self.board.tag_all(self.indexes, self.tags.value, add=add, window=self._of_windows)
        return f"{counted(count, self._noun)} {'tagged' if add else 'without these tags'}"

    def _add_tags(self) -> str:
        return self._tag(add=True)

    def _remove_tags(self) -> str:
        return self._tag(add=False)

    def _annotate(self, *, add: bool) -> str:
        text = self.note.value
        count = self.board.note_all(self.indexes, text, add=add, window=self._of_windows)
        return f"{counted(count, self._noun)} {'noted' if text.strip() else 'without a note'}"

    def _add_note(self) -> str:
        return self._annotate(add=True)

    def _set_note(self) -> str:
        return self._annotate(add=False)

    def _accept(self) -> str:
        return f"{counted(self.board.accept_all(self.indexes), 'caption')} accepted"

    def _retry(self) -> str:
        count = self.board.retry_failed(self.indexes, self.name)
        return (
            f"{counted(count, 'failed window')} tried again"
            if count
            else "none of these windows failed"
        )

    def _reroll(self) -> str:
        count = self.board.reroll(self.indexes, self.times.value, self.name)
        return (
            f"{counted(count, 'faulty caption')} tried again" if count else "none of these has a fault"
        )

    def _preview(self) -> str:
        self._texts = self.board.replaced(
            self.indexes, self.find.value, self.replacement.value, case=self.case.value
        )
        count = len(self._texts)
        self.replace.disabled, self.replace.description = not count, f"Replace in {count}"
        lines = [
            self._replacement(index, text) for index, text in list(self._texts.items())[:_MOST_SHOWN]
        ]
        self.found.value = f'<div class="ck-scroll">{"".join(lines)}</div>' if lines else ""
        more = f", the first {_MOST_SHOWN} below" if count > _MOST_SHOWN else ""
        return f"{counted(count, 'caption')} would change{more}"

    def _replacement(self, index: int, text: str) -> str:
        row = self.board.windows[index]
        pieces = []
        for piece in word_diff(visible(row.text), visible(text)):
            if piece.kind == "same":
                pieces.append(escape(piece.before))
            else:
                pieces.append(f"<del>{escape(piece.before)}</del><ins>{escape(piece.after)}</ins>")
        name = escape(f"{row.name[0]} {row.name[1]}")
        return f'<div class="ck-side"><b>{name}</b><div class="t">{"".join(pieces)}</div></div>'

    def _replace(self) -> str:
        count = self.board.replace_all(self._texts)
        self._forget_preview()
        return (
            f"{counted(count, 'caption')} edited; the model's own texts stay, and “Undo” takes it back"
        )

    def _forget_preview(self, _: Any = None) -> None:
        self._texts = {}
        self.replace.disabled, self.replace.description = True, "Replace"
        self.found.value = ""

    def _undo(self) -> str:
        what = self.board.undo()
        return f"undone: {what}" if what else "there is no step to undo"

    def _redo(self) -> str:
        what = self.board.redo()
        return f"made again: {what}" if what else "there is no step to make again"

    def _on_browser(self, change: Any) -> None:
        if change["name"] == "selection" and self.which.value == _TICKED:
            self._forget_preview()
        self._refresh()

    def on_change(self, change: Change) -> None:
        """Count again what is left; list the runs when some ended."""
        super().on_change(change)
        if change.recut:
            self._forget_preview()
        if change.ended:
            self.board.work.submit("review runs", self._list_runs)
            if self.board.rerolled:
                say(self.status, self.board.rerolled)
        if change.indexes or change.ended or change.recut or change.grown:
            self._refresh()

    def _refresh(self) -> None:
        self.board.work.submit(("review", self.model_id), self._count, delay_s=3 * EVERY_S)

    def _list_runs(self) -> None:
        numbers = [int(each) for each in runs(self.board.session.store).head(_MOST_RUNS).index]
        options = [(f"run {each}", each) for each in numbers]
        offer_runs(self.run_a, self.run_b, options)

    def _count(self) -> None:
        """Count what is left to review, and how far reviewers agree; in a job thread."""
        windows = self.board.windows
        listed = self.browser.listed if self.browser is not None else range(len(windows))
        left = sum(windows[index].open for index in listed)
        total = sum(row.open for row in windows)
        captioned = sum(bool(row.text) for row in windows)
        say(self.left, f"{left} left in this list · {total} of {captioned} captions not reviewed")
        for line, html in (
            (self.agreement, _agreement(agreement(self.board.session.store))),
            (self.steps, _steps(self.board.steps())),
        ):
            if line.value != html:
                line.value = html


def _steps(steps: Sequence[Step]) -> str:
    """Draw the last steps, the newest first; the first one that is done is what an undo takes back."""
    rows = []
    for each in steps:
        state = "done" if each.done else "undone, can be made again" if each.again else "undone"
        what = escape(visible(each.what))
        what = what if each.done else f"<del>{what}</del>"
        made = escape(visible(_time_here(each.created)))
        rows.append((made, what, state))
    if not rows:
        return ""
    return f'<div class="ck-scroll">{table_html(("Step", "what", ""), rows)}</div>'


def _time_here(created: str) -> str:
    """Return a store's UTC time as the time of day here; another text as it is."""
    try:
        return f"{datetime.fromisoformat(created).astimezone():%H:%M:%S}"
    except (ValueError, OverflowError):
        return created


def _agreement(table: Any) -> str:
    if table.empty:
        return ""
    rows = []
    for row in table.itertuples():
        names = " and ".join(each or "(no name)" for each in (row.reviewer_a, row.reviewer_b))
        kappa = f"{row.kappa:.2f}" if row.kappa == row.kappa else "-"
        cells = (names, row.captions, f"{row.same:.0%}", f"{row.within_one:.0%}", kappa)
        rows.append([escape(cell) for cell in cells])
    heads = ("Reviewers", "captions", "same", "within a star", "kappa")
    return f'<div class="ck-scroll">{table_html(heads, rows)}</div>'
