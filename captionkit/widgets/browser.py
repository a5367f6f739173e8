"""Browser: all windows of a session in one list, and a player for the chosen one.

Only the rows on screen cross the wire, as messages; nothing of them is kept in the notebook. Called by
workbenches and notebooks.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from PIL import Image

from captionkit.display import visible
from captionkit.recipe import Recipe
from captionkit.session import Session
from captionkit.widgets.board import Board, Change
from captionkit.widgets.rows import Row, check_filter

_STATIC = Path(__file__).parent / "static"
# A list shows the beginning of a caption; its whole text crosses for the chosen window only.
_SHOWN = 240
_MOST_ROWS = 200
_MOST_VIDEOS = 500


def _ranges(places: list[int]) -> list[int]:
    """Ascending places as first, last, first, last, …: all of 10,000 windows are two numbers."""
    flat: list[int] = []
    for place in places:
        if flat and place == flat[-1] + 1:
            flat[-1] = place
        else:
            flat += [place, place]
    return flat


def _selection_to_json(selection: list[tuple[str, int]], browser: Browser) -> list[int]:
    return _ranges(sorted(browser.board.rows.by_name[name] for name in selection))


def _selection_from_json(flat: list[int], browser: Browser) -> list[tuple[str, int]]:
    rows = browser.board.rows.rows
    return [
        rows[place].name
        for first, last in zip(flat[::2], flat[1::2], strict=True)
        for place in range(first, last + 1)
    ]


def _value_to_json(value: tuple[str, int] | None, browser: Browser) -> int:
    return -1 if value is None else browser.board.rows.by_name[value]


def _value_from_json(place: int, browser: Browser) -> tuple[str, int] | None:
    return None if place < 0 else browser.board.rows.rows[place].name


class Browser(anywidget.AnyWidget):
    """Windows to look at, play, choose, rate and edit.

    ``browser.value``, ``browser.selection`` and ``browser.filter`` are what a person has chosen; they
    can be read, set and observed.

    Parameters
    ----------
    session
        A session, or the board that a workbench's widgets share.
    """

    _esm = _STATIC / "browser.js"
    _css = _STATIC / "browser.css"

    #: The chosen window as (video, window number), or None.
    value = traitlets.Tuple(
        traitlets.Unicode(), traitlets.Int(), allow_none=True, default_value=None
    ).tag(sync=True, to_json=_value_to_json, from_json=_value_from_json)
    #: The ticked windows, a list of (video, window number).
    selection = traitlets.List(traitlets.Tuple(traitlets.Unicode(), traitlets.Int())).tag(
        sync=True, to_json=_selection_to_json, from_json=_selection_from_json
    )
    #: What the list shows; keys and values as in `widgets.rows.check_filter`.
    filter = traitlets.Dict().tag(sync=True)
    _count = traitlets.Int(0).tag(sync=True)
    _total = traitlets.Int(0).tag(sync=True)
    _version = traitlets.Int(0).tag(sync=True)
    _cut = traitlets.Int(0).tag(sync=True)
    _videos = traitlets.List(traitlets.Unicode()).tag(sync=True)
    _status = traitlets.Unicode("").tag(sync=True)
    _busy = traitlets.Bool(False).tag(sync=True)
    _problem = traitlets.Unicode("").tag(sync=True)

    def __init__(self, session: Session | Board) -> None:
        self.board = session if isinstance(session, Board) else Board(session)
        self._owns_board = not isinstance(session, Board)
        self._shown: dict[int, tuple[int, int]] = {}
        self._view = list(range(len(self.board.rows.rows)))
        super().__init__()
        self._take_rows()
        self.observe(self._on_filter, names="filter")
        self.on_msg(self._on_message)
        self.board.listen(self._on_change)

    @traitlets.validate("value")
    def _check_value(self, proposal: Any) -> tuple[str, int] | None:
        value = proposal["value"]
        if value is not None and value not in self.board.rows.by_name:
            raise traitlets.TraitError(f"there is no window {value[1]} of {value[0]!r}")
        return value

    @traitlets.validate("selection")
    def _check_selection(self, proposal: Any) -> list[tuple[str, int]]:
        known = self.board.rows.by_name
        for video, window in proposal["value"]:
            if (video, window) not in known:
                raise traitlets.TraitError(f"there is no window {window} of {video!r}")
        return sorted(set(proposal["value"]), key=known.__getitem__)

    @traitlets.validate("filter")
    def _check_filter(self, proposal: Any) -> dict[str, Any]:
        try:
            return check_filter(proposal["value"], {row.name[0] for row in self.board.rows.rows})
        except ValueError as error:
            raise traitlets.TraitError(str(error)) from error

    @property
    def place(self) -> int | None:
        """The chosen window's place in the session's table."""
        return None if self.value is None else self.board.rows.by_name[self.value]

    @property
    def places(self) -> list[int]:
        """The ticked windows' places in the session's table."""
        return [self.board.rows.by_name[name] for name in self.selection]

    def caption(self, recipe: Recipe | None = None) -> None:
        """Caption the chosen window before all others; returns at once."""
        if self.place is None:
            raise ValueError("no window is chosen; click one in the list")
        self.board.caption(
            [self.place], recipe or self.board.recipe(), batch_size=self.board.batch_size(), priority=-1
        )

    def _take_rows(self) -> None:
        rows = self.board.rows.rows
        self.set_trait("value", None)
        self.set_trait("selection", [])
        self.set_trait("filter", {})
        self._videos = list(dict.fromkeys(row.name[0] for row in rows))[:_MOST_VIDEOS]
        self._total = len(rows)
        self._show()
        self._cut += 1

    def _show(self) -> None:
        """Work the list out again; the front end asks for its rows when the version changes."""
        self._view = self.board.rows.view(self.filter)
        with self.hold_sync():
            self._count = len(self._view)
            self._version += 1

    def _on_filter(self, _: Any) -> None:
        self._show()

    def _on_change(self, change: Change) -> None:
        if change.recut:
            self._take_rows()
        status, problem = visible(self.board.status), visible(self.board.problems.get("browser", ""))
        with self.hold_sync():
            self._status, self._problem, self._busy = status, problem, self.board.busy
        if change.ended and self.filter:
            self._show()
        wanted = {
            index: self._view[index]
            for first, last in list(self._shown.values())
            for index in range(first, min(last, len(self._view)))
            if self._view[index] in change.places
        }
        rows = [self._packed(index, place) for index, place in wanted.items()]
        if rows:
            self.send({"kind": "rows", "version": self._version, "rows": rows})
        if self.place is not None and self.place in change.places:
            self._send_detail(self.place)

    def _packed(self, index: int, place: int) -> dict[str, Any]:
        row: Row = self.board.rows.rows[place]
        stored = row.source.stored
        return {
            "index": index,
            "place": place,
            "video": visible(stored.video),
            "window": stored.number,
            "start": stored.start_s,
            "end": stored.end_s,
            "state": row.state,
            "stage": row.stage,
            "text": visible(row.text[:_SHOWN]),
            "cut": len(row.text) > _SHOWN,
            "error": visible(row.error[:_SHOWN]),
            "faults": list(row.faults),
            "rating": row.rating,
            "edited": row.edited,
        }

    def _send_detail(self, place: int) -> None:
        row = self.board.rows.rows[place]
        content = {"text": visible(row.text), "raw": row.text, "error": visible(row.error)}
        self.send({"kind": "detail", "place": place, **content, "row": self._packed(-1, place)})

    def _on_message(self, _: Any, message: dict[str, Any], buffers: Any) -> None:
        """What the front end asks for; slow answers come from the board's reading thread."""
        reads, kind = self.board.reads, message.get("kind")
        place: int = message.get("place", -1)
        if self.board.closed:
            return
        try:
            match kind:
                case "range":
                    self._on_range(message)
                case "find":
                    index = self._view.index(place) if place in self._view else -1
                    self.send({"kind": "at", "place": place, "index": index})
                    if place >= 0:
                        self._send_detail(place)
                case "thumbs":
                    places, view = message["places"][:_MOST_ROWS], message["view"]
                    reads.submit(("thumbs", view), lambda: self._send_thumbs(places, view))
                case "frames":
                    reads.submit("frames", lambda: self._send_frames(place), first=True)
                case "clip":
                    reads.submit("clip", lambda: self._send_clip(place))
                case "caption":
                    self.value = self.board.rows.rows[place].name
                    self.caption()
                case "rate":
                    self.board.rate(place, message["rating"])
                case "edit":
                    self.board.edit(place, message["text"] or None)
                case "tick-all":
                    self.selection = [self.board.rows.rows[each].name for each in self._view]
                case "stop":
                    self.board.stop()
                case "dismiss":
                    self.board.say("")
                case "gone":
                    self._shown.pop(message["view"], None)
        except (ValueError, KeyError) as error:
            self.board.say(str(error.args[0]))

    def _on_range(self, message: dict[str, Any]) -> None:
        first = max(0, int(message["first"]))
        last = min(len(self._view), int(message["last"]), first + _MOST_ROWS)
        self._shown[message["view"]] = (first, last)
        rows = [self._packed(index, self._view[index]) for index in range(first, last)]
        self.send({"kind": "rows", "version": self._version, "rows": rows})

    def _send_thumbs(self, places: list[int], view: int) -> None:
        """One picture at a time, so that frames that somebody waits for come between."""
        if not places:
            return
        name = self.board.rows.rows[places[0]].name
        data = self.board.session.thumbnails(*name)
        self.send({"kind": "thumb", "place": places[0]}, [data or b""])
        rest = places[1:]
        self.board.reads.submit_unless_waiting(("thumbs", view), lambda: self._send_thumbs(rest, view))

    def _send_frames(self, place: int) -> None:
        row = self.board.rows.rows[place]
        try:
            found = self.board.session.frames(*row.name, self.board.recipe())
        except (ValueError, KeyError) as error:
            self.send({"kind": "no-frames", "place": place, "why": visible(str(error))})
            return
        packed = []
        for pixels in found.pixels:
            file = io.BytesIO()
            # As good as the eye can tell; lossless would pass what a server lets through at once.
            Image.fromarray(pixels.transpose(1, 2, 0)).save(file, "JPEG", quality=92, subsampling=0)
            packed.append(file.getvalue())
        start, end = row.source.stored.start_s, row.source.stored.end_s
        size = [int(side) for side in found.pixels.shape[:1:-1]]
        facts = {"seconds": found.seconds, "start": start, "end": end, "size": size}
        self.send({"kind": "frames", "place": place, **facts}, packed)

    def _send_clip(self, place: int) -> None:
        try:
            data = self.board.clip(place)
        except (ValueError, KeyError) as error:
            self.send({"kind": "no-clip", "place": place, "why": visible(str(error))})
            return
        self.send({"kind": "clip", "place": place}, [data])

    def close(self) -> None:
        """Take it off the page; a board of its own ends with it."""
        self.board.forget(self._on_change)
        self.layout.close()
        super().close()
        if self._owns_board:
            self.board.close()
