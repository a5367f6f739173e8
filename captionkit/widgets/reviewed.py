"""Reviewed: what a person says of a board's windows, one or many at once, with undo."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Sequence

from captionkit.review import FAULTS
from captionkit.review.disagreements import difference
from captionkit.session import Session
from captionkit.store import Change, Step
from captionkit.store.reviews import joined, split
from captionkit.widgets.rows import ACCEPTED, Row, Rows


class Reviewed:
    """The part of a board that writes reviews; every write is one step, which `undo` takes back."""

    session: Session
    windows: Rows
    refresh: Callable[[Iterable[int]], None]
    _lock: threading.Lock

    #: Name of the person who reviews; ratings are kept by name.
    reviewer = ""

    def rate(self, index: int, rating: int | None) -> None:
        """Rate the shown caption of a window, in the store at once."""
        self._write([index], "rating", lambda row: rating, "rate")

    def edit(self, index: int, text: str | None) -> None:
        """Set a better text beside the shown caption; None takes it back."""
        self._write([index], "edited_text", lambda row: text, "edit")

    def note(self, index: int, text: str, *, window: bool = False) -> None:
        """Set the note of a window's shown caption, or of the window; an empty text removes it."""
        self._write([index], "note", lambda row: text.strip(), "note", window=window)

    def tag(self, index: int, tags: str, *, window: bool = False) -> None:
        """Set the tags of a window's shown caption, or of the window, with commas between them."""
        self._write([index], "tags", lambda row: joined([tags]), "tag", window=window)

    def rate_all(self, indexes: Iterable[int], rating: int | None) -> int:
        """Rate the captions of windows; return how many there were."""
        return self._write(self._captioned(indexes), "rating", lambda row: rating, "rate")

    def tag_all(
        self, indexes: Iterable[int], tags: str, *, add: bool = True, window: bool = False
    ) -> int:
        """Add tags to captions, or to the windows, or take them away; return how many there were."""
        given = split(tags)
        if not given:
            raise ValueError("there is no tag; write one or more, with commas between them")

        def changed(row: Row) -> str:
            kept = [each for each in (row.window_tags if window else row.tags) if each not in given]
            return joined([*kept, *given] if add else kept)

        return self._write(self._noted(indexes, window), "tags", changed, "tag", window=window)

    def note_all(
        self, indexes: Iterable[int], text: str, *, add: bool = True, window: bool = False
    ) -> int:
        """Add a text to the notes of captions, or of the windows; return how many there were.

        Without ``add`` it takes the place of the notes; an empty text removes them.
        """
        given = text.strip()
        if add and not given:
            raise ValueError("there is no note; write one, or press “Replace” to remove the notes")

        def changed(row: Row) -> str:
            before = row.window_note if window else row.note
            has_it = given in before.split("; ")
            return (before if has_it else "; ".join(filter(None, (before, given)))) if add else given

        return self._write(self._noted(indexes, window), "note", changed, "note", window=window)

    def accept_all(self, indexes: Iterable[int]) -> int:
        """Tag the captions of windows as accepted; return how many there were."""
        return self.tag_all(indexes, ACCEPTED)

    def replaced(
        self, indexes: Iterable[int], find: str, text: str, *, case: bool = False
    ) -> dict[int, str]:
        """Return the texts of captions after a replacement, by index; only those that change.

        ``find`` is plain text, which does not match within a word. Nothing is written.
        """
        if not find.strip():
            raise ValueError("there is nothing to find; write a word or a phrase")
        ends = [r"\b" if each.isalnum() or each == "_" else "" for each in (find[0], find[-1])]
        pattern = re.compile(f"{ends[0]}{re.escape(find)}{ends[1]}", 0 if case else re.IGNORECASE)
        found = {}
        for index in self._captioned(indexes):
            before = self.windows[index].text
            after = pattern.sub(lambda _: text, before)
            if after != before:
                found[index] = after
        return found

    def replace_all(self, texts: dict[int, str]) -> int:
        """Set edited texts, as `replaced` returns them; return their number."""
        rows = {self.windows[index].name: text for index, text in texts.items()}
        return self._write(list(texts), "edited_text", lambda row: rows[row.name], "edit")

    def undo(self) -> str | None:
        """Undo this person's last step; return what it was, or None."""
        what = self.session.store.reviews.undo(self.reviewer)
        self.refresh(range(len(self.windows)))
        return what

    def redo(self) -> str | None:
        """Make this person's step again that was undone last; return what it was, or None."""
        what = self.session.store.reviews.redo(self.reviewer)
        self.refresh(range(len(self.windows)))
        return what

    def steps(self) -> list[Step]:
        """Return this person's last steps, the newest first."""
        return self.session.store.reviews.steps(self.reviewer)

    def faulty(self, indexes: Iterable[int]) -> list[int]:
        """Return the windows among some whose captions have a fault of `review.FAULTS`."""
        return [index for index in indexes if set(self.windows[index].faults) & set(FAULTS)]

    def set_apart(self, run_a: int, run_b: int) -> list[int]:
        """Note at each window how far its captions in two runs are apart; return those that differ.

        By facts: the share of claims that the other caption lacks, see `review.disagreements`.

        A sort by ``apart`` then lists the windows on which the runs disagree first. Slow, for a job
        thread.
        """
        keys = [row.window.key for row in self.windows]
        sides = [self.session.store.states(keys, run) for run in (run_a, run_b)]
        differ = []
        for index, row in enumerate(self.windows):
            last = [
                state.stages[-1]
                for side in sides
                if (state := side.get(row.window.key)) and state.stages
            ]
            row.apart = None
            if len(last) == 2:
                one, two = (each.edited_text or each.text for each in last)
                row.apart = difference(one, two, (last[0].schema, last[1].schema))
            if row.apart:
                differ.append(index)
        return differ

    def _captioned(self, indexes: Iterable[int]) -> list[int]:
        rows = self.windows
        return [index for index in indexes if rows[index].result is not None and rows[index].text]

    def _noted(self, indexes: Iterable[int], window: bool) -> list[int]:
        """Return the windows among some that a note is for: all of them, or those with a caption."""
        return list(indexes) if window else self._captioned(indexes)

    def _write(
        self,
        indexes: Sequence[int],
        field: str,
        value: Callable[[Row], str | int | None],
        purpose: str,
        *,
        window: bool = False,
    ) -> int:
        rows = [self.windows[index] for index in indexes]
        if window:
            # No run may have stored the windows yet.
            self.session.store.reviews.add_windows([row.window for row in rows])
            changes = [Change(field, value(row), window_key=row.window.key) for row in rows]
        else:
            changes = [self._of_caption(row, field, value(row) or None, purpose) for row in rows]
        kind = "windows" if window else "captions"
        which = f"{len(rows)} {kind}"
        if len(rows) == 1:
            which = f"{'window ' if window else ''}{rows[0].name[0]} {rows[0].name[1]}"
        count = self.session.store.reviews.write(changes, f"{purpose} {which}", self.reviewer)
        self.refresh(indexes)
        return count

    def _of_caption(self, row: Row, field: str, value: str | int | None, purpose: str) -> Change:
        if row.result is None or not row.text:
            raise ValueError(f"{row.name[0]} {row.name[1]} has no caption to {purpose} yet")
        return Change(field, value, row.result, row.stage)
