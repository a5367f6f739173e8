"""Browser: all windows of a session in one list, and a player for the chosen one.

Only the rows on screen cross the wire, as messages; nothing of them is kept in the notebook. In traits
and messages an index is a window's number in ``board.windows``, a position that of its row in the
filtered list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import anywidget
import traitlets

from captionkit.display import visible
from captionkit.recipe import Recipe
from captionkit.session import Session
from captionkit.store import StoreError
from captionkit.widgets.board import Board
from captionkit.widgets.board_view import BoardView
from captionkit.widgets.change import Change
from captionkit.widgets.esm import STATIC, bundle
from captionkit.widgets.names import (
    selection_from_json,
    selection_to_json,
    value_from_json,
    value_to_json,
)
from captionkit.widgets.parts import left_out
from captionkit.widgets.rows import SEARCHED, all_tags, check_filter, choices, is_filter, listed
from captionkit.widgets.standing import status
from captionkit.widgets.twin import windows_html
from captionkit.widgets.wire import detail_message, frames_message, row_message

_MOST_ROWS = 200
_MOST_VIDEOS = 500
_MOST_RUNS = 100
# Name of the saved filters in the store.
_FILTERS = "filters"


class Browser(BoardView, anywidget.AnyWidget):
    """Windows to look at, play, choose, rate and edit.

    ``browser.value``, ``browser.selection`` and ``browser.filter`` are what a person has chosen; they
    can be read, set and observed.

    Parameters
    ----------
    session
        A session, or the board that a workbench's views share.
    """

    name = "browser"
    _esm = bundle("browser.js")
    _css = STATIC / "browser.css"

    #: The chosen window as (video, window number), or None.
    value = traitlets.Tuple(
        traitlets.Unicode(), traitlets.Int(), allow_none=True, default_value=None
    ).tag(sync=True, to_json=value_to_json, from_json=value_from_json)
    #: The ticked windows, a list of (video, window number).
    selection = traitlets.List(traitlets.Tuple(traitlets.Unicode(), traitlets.Int())).tag(
        sync=True, to_json=selection_to_json, from_json=selection_from_json
    )
    #: What the list shows; keys and values as in `widgets.rows.check_filter`.
    filter = traitlets.Dict().tag(sync=True)
    _choices = traitlets.Dict().tag(sync=True)
    _count = traitlets.Int(0).tag(sync=True)
    _total = traitlets.Int(0).tag(sync=True)
    _version = traitlets.Int(0).tag(sync=True)
    _cut = traitlets.Int(0).tag(sync=True)
    _status = traitlets.Unicode("").tag(sync=True)
    _busy = traitlets.Bool(False).tag(sync=True)
    _problem = traitlets.Unicode("").tag(sync=True)
    _searched = traitlets.Unicode(SEARCHED).tag(sync=True)
    _saved = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(self, session: Session | Board) -> None:
        # Positions on screen, by the view of the page that shows them.
        self._on_screen: dict[str, tuple[int, int]] = {}
        # Indexes of the windows that the filter leaves.
        self._listed: list[int] = []
        # Key of the chosen window, also after its session was replaced.
        self._chosen_key = ""
        #: Called with a run whose recipe a person wants to use; a tuner puts its own in.
        self.use_recipe: Callable[[Recipe], None] = lambda recipe: None
        super().__init__(session)
        self.observe(self._on_filter, names="filter")
        self.observe(self._on_value, names="value")
        self.on_msg(self._on_message)
        self.listen()
        self._report_damaged()

    def open(self) -> None:
        """Open the comm with all that the page needs: it may be drawn before any later message."""
        if self.comm is None:
            self._take_windows()
        super().open()

    @traitlets.validate("value")
    def _check_value(self, proposal: Any) -> tuple[str, int] | None:
        value: tuple[str, int] | None = proposal["value"]
        if value is not None:
            self._index_of(value)
        return value

    @traitlets.validate("selection")
    def _check_selection(self, proposal: Any) -> list[tuple[str, int]]:
        return sorted(set(proposal["value"]), key=self._index_of)

    def _index_of(self, name: tuple[str, int]) -> int:
        try:
            return self.board.index_of(*name)
        except KeyError as error:
            raise traitlets.TraitError(error.args[0]) from error

    @traitlets.validate("filter")
    def _check_filter(self, proposal: Any) -> dict[str, Any]:
        try:
            videos = {row.name[0] for row in self.board.windows}
            return check_filter(proposal["value"], videos, self._runs())
        except ValueError as error:
            raise traitlets.TraitError(str(error)) from error

    @property
    def index(self) -> int | None:
        """The chosen window's index in ``board.windows``."""
        return None if self.value is None else self.board.index_of(*self.value)

    @property
    def indexes(self) -> list[int]:
        """The ticked windows' indexes in ``board.windows``."""
        return [self.board.index_of(*name) for name in self.selection]

    @property
    def listed(self) -> list[int]:
        """The indexes in ``board.windows`` of the windows that the filter leaves, in their order."""
        return list(self._listed)

    def static_html(self) -> str:
        """Return the last run's captions, or the first windows, as HTML that needs no kernel."""
        return windows_html(self.board)

    def caption(self, recipe: Recipe | None = None) -> None:
        """Caption the chosen window before all others; returns at once."""
        if self.index is None:
            raise ValueError("no window is chosen; click one in the list")
        self.board.caption(
            [self.index], recipe or self.board.recipe(), batch_size=self.board.batch_size(), priority=-1
        )

    def _take_windows(self) -> None:
        chosen = self.board.windows.by_key.get(self._chosen_key)
        self.set_trait("value", None)
        self.set_trait("selection", [])
        self.set_trait("filter", {})
        self._saved = list(self.saved_filters)[:_MOST_VIDEOS]
        self._show_windows()
        self._cut += 1
        if chosen is not None:
            # The same frames are there again, as after another look at the files.
            self.value = self.board.windows[chosen].name

    @property
    def saved_filters(self) -> dict[str, dict[str, Any]]:
        """Filters that were saved by name in the store."""
        found, _ = self.board.session.store.shelf.entries(_FILTERS)
        return {name: each for name, each in found.items() if is_filter(each)}

    def save_filter(self, name: str) -> None:
        """Save the filter by name in the store; an empty filter deletes the saved one."""
        self.board.session.store.shelf.keep_entry(_FILTERS, name, self.filter or None)
        self._saved = list(self.saved_filters)

    def _report_damaged(self) -> None:
        """Tell once of saved filters that cannot be read."""
        found, damaged = self.board.session.store.shelf.entries(_FILTERS)
        damaged += [name for name, each in found.items() if not is_filter(each)]
        if damaged:
            self.report(left_out("saved filter", damaged))

    def next_open(self) -> tuple[str, int] | None:
        """Choose the next listed window whose caption nobody reviewed; return it, None without one."""
        at = self._listed.index(self.index) + 1 if self.index in self._listed else 0
        for index in [*self._listed[at:], *self._listed[:at]]:
            if index != self.index and self.board.windows[index].open:
                self.value = self.board.windows[index].name
                return self.value
        return None

    def _show_windows(self) -> None:
        videos = dict.fromkeys(row.name[0] for row in self.board.windows)
        self._choices = choices(list(videos)[:_MOST_VIDEOS], self._runs()[:_MOST_RUNS], self._tags())
        self._total = len(self.board.windows)
        self._list()

    def _tags(self) -> list[str]:
        return all_tags(self.board.windows)[:_MOST_VIDEOS]

    def _show_tags(self) -> None:
        """Offer the tags that there are by now; the list stays as it is."""
        self._choices = {**self._choices, "tag": choices([], tags=self._tags())["tag"]}

    def _list(self) -> None:
        """Filter and sort again; the page asks for its rows when the version changes."""
        self._listed = listed(self.board.windows, self.filter)
        with self.hold_sync():
            self._count = len(self._listed)
            self._version += 1

    def _runs(self) -> list[int]:
        """Numbers of the store's runs, the newest first."""
        return [number for number, *_ in self.board.session.store.history()]

    def _on_value(self, _: Any) -> None:
        if self.index is not None:
            self._chosen_key = self.board.windows[self.index].window.key

    def _on_filter(self, _: Any) -> None:
        run = self.filter.get("run")
        if run != self.board.shown_run:
            self.board.show_run(run)
        self._list()

    def on_change(self, change: Change) -> None:
        """Send what changed on screen and of the chosen window."""
        if change.recut:
            self._take_windows()
        elif change.grown:
            self._show_windows()
        said, problem = visible(status(self.board)), visible(self.board.problems.get(self.name, ""))
        with self.hold_sync():
            self._status, self._problem, self._busy = (
                said,
                problem,
                self.board.busy or self.board.opening,
            )
        if self.filter.get("run") != self.board.shown_run:
            # A new run shows itself.
            self.filter = {name: each for name, each in self.filter.items() if name != "run"}
        if change.ended:
            self._show_windows()
        elif change.indexes and not self.board.busy:
            # Tags may have come or gone, of many captions at once.
            self._show_tags()
        positions = {
            position
            for first, last in list(self._on_screen.values())
            for position in range(first, min(last, len(self._listed)))
            if self._listed[position] in change.indexes
        }
        if positions:
            self._send_rows(sorted(positions))
        if self.index is not None and self.index in change.indexes:
            self._send_detail(self.index)

    def _send_rows(self, positions: Iterable[int]) -> None:
        rows = [
            {
                "position": each,
                **row_message(self._listed[each], self.board.windows[self._listed[each]]),
            }
            for each in positions
        ]
        self.send({"kind": "rows", "version": self._version, "rows": rows})

    def _send_detail(self, index: int) -> None:
        self.send(detail_message(index, self.board.windows[index], self.board.session.store))

    def _on_message(self, _: Any, message: dict[str, Any], buffers: Any) -> None:
        """Answer the page; slow answers come from the board's reading thread."""
        reads, kind = self.board.reads, message.get("kind")
        index: int = message.get("index", -1)
        if self.board.closed:
            return
        try:
            match kind:
                case "range":
                    self._on_range(message["view"], int(message["first"]), int(message["last"]))
                case "find":
                    position = self._listed.index(index) if index in self._listed else -1
                    self.send({"kind": "at", "index": index, "position": position})
                    if index >= 0:
                        self._send_detail(index)
                case "thumbs":
                    indexes, view = message["indexes"][:_MOST_ROWS], message["view"]
                    reads.submit(("thumbs", view), lambda: self._send_thumbs(indexes, view))
                case "frames":
                    reads.submit("frames", lambda: self._send_frames(index), first=True)
                case "clip":
                    reads.submit("clip", lambda: self._send_clip(index))
                case "caption":
                    self.value = self.board.windows[index].name
                    self.caption()
                case "rate":
                    self.board.rate(index, message["rating"])
                case "edit":
                    self.board.edit(index, message["text"] or None)
                case "tag":
                    self.board.tag(index, message["text"], window=message.get("of") == "window")
                    self._show_tags()
                case "note":
                    self.board.note(index, message["text"], window=message.get("of") == "window")
                case "undo":
                    self.report("" if self.board.undo() else "there is no step to undo")
                case "redo":
                    self.report("" if self.board.redo() else "there is no step to make again")
                case "next":
                    if self.next_open() is None:
                        self.report("every caption of the list is reviewed")
                case "show-run":
                    self.filter = {**self.filter, "run": message["run"]}
                case "use-recipe":
                    self.use_recipe(self.board.session.store.facts(message["run"]).recipe)
                case "save-filter":
                    self.save_filter(message["name"])
                case "use-filter":
                    self.filter = self.saved_filters.get(message["name"], {})
                case "look-again":
                    self.board.look_again()
                case "tick-all":
                    self.selection = [self.board.windows[each].name for each in self._listed]
                case "stop":
                    self.board.stop()
                case "dismiss":
                    self.report("")
                case "gone":
                    self._on_screen.pop(message["view"], None)
        except (ValueError, KeyError, StoreError, traitlets.TraitError) as error:
            self.report(str(error.args[0]))

    def _on_range(self, view: str, first: int, last: int) -> None:
        first = max(0, first)
        last = min(len(self._listed), last, first + _MOST_ROWS)
        self._on_screen[view] = (first, last)
        self._send_rows(range(first, last))

    def _send_thumbs(self, indexes: list[int], view: str) -> None:
        """Send one picture and queue the rest, so that frames that somebody waits for come between."""
        if not indexes:
            return
        data = self.board.session.thumbnail(self.board.windows[indexes[0]].window.key)
        self.send({"kind": "thumb", "index": indexes[0]}, [data or b""])
        rest = indexes[1:]
        self.board.reads.submit_unless_waiting(("thumbs", view), lambda: self._send_thumbs(rest, view))

    def _send_frames(self, index: int) -> None:
        row, recipe = self.board.windows[index], self.board.recipe()
        try:
            self.send(*frames_message(index, row, self.board.session, recipe))
        except (ValueError, KeyError) as error:
            self.send({"kind": "no-frames", "index": index, "why": visible(str(error))})

    def _send_clip(self, index: int) -> None:
        try:
            data = self.board.clip(index)
        except (ValueError, KeyError) as error:
            self.send({"kind": "no-clip", "index": index, "why": visible(str(error))})
            return
        self.send({"kind": "clip", "index": index}, [data])
