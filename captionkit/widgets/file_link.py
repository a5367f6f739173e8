"""FileLink: saves a file of the kernel's machine through the browser.

The notebook's server may not serve the folder of an export, so the bytes go as a message when the link
is used.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from captionkit.display import visible
from captionkit.system.temp import TempFolder
from captionkit.widgets.board import Board
from captionkit.widgets.esm import bundle

# A larger message would hold up all others of the kernel.
_MOST_BYTES = 32 << 20


class FileLink(anywidget.AnyWidget):
    """Shows nothing while ``file`` is None."""

    _esm = bundle("file_link.js")
    _name = traitlets.Unicode("").tag(sync=True)
    _note = traitlets.Unicode("").tag(sync=True)
    file = traitlets.Instance(Path, allow_none=True)

    def __init__(self, board: Board) -> None:
        self._board = board
        super().__init__()
        self.on_msg(self._on_message)

    @traitlets.observe("file")
    def _on_file(self, change: Any) -> None:
        path = change["new"]
        self._note = ""
        self._name = (
            "" if path is None else visible(path.name if path.is_file() else f"{path.name}.zip")
        )

    def _on_message(self, _: Any, message: dict[str, Any], buffers: Any) -> None:
        if message.get("kind") == "save" and self.file is not None:
            path = self.file
            self._board.long.submit("save", lambda: self._deliver(path))

    def _deliver(self, path: Path) -> None:
        try:
            data = _packed(path)
        except OSError as error:
            self._note = f"{path} cannot be read: {error.strerror}"
            return
        if len(data) > _MOST_BYTES:
            self._note = f"{len(data) / 1e6:.0f} MB are too many for a page; the file is at {path}"
            return
        self.send({"kind": "file"}, [data])


def _packed(path: Path) -> bytes:
    """A file as it is, a folder as a zip."""
    if path.is_file():
        return path.read_bytes()
    with TempFolder("export") as folder:
        return Path(shutil.make_archive(f"{folder}/export", "zip", path)).read_bytes()
