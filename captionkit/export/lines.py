"""JSON lines that grow with a run: the rows of a window the moment it is done."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from captionkit.export.base import without_home
from captionkit.export.errors import ExportError
from captionkit.export.formats.tables import json_lines


class JsonLines:
    """Writes windows to a file as they are done, the rows of each whole or not at all.

    A file of that name that holds something is kept beside it as ``NAME.bak``.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    ExportError
        The file cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.windows = 0
        self._end = 0
        try:
            if self.path.is_file() and self.path.stat().st_size:
                self.path.replace(self.path.with_name(self.path.name + ".bak"))
            self._file = self.path.open("wb", buffering=0)
        except OSError as error:
            raise ExportError(f"cannot write {self.path}: {error.strerror}") from error

    def write(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Append the rows of some windows (as of `CaptionRow`), all or none.

        Raises
        ------
        ExportError
            The rows cannot be written (disk full, say); the lines before are whole.
        """
        data = json_lines({**each, "path": without_home(each["path"])} for each in records)
        try:
            written = self._file.write(data)
            if written != len(data):
                # A full disk may take a part first; asking again says why.
                self._file.write(data[written:])
        except OSError as failure:
            with contextlib.suppress(OSError):  # /dev/stdout and its like cannot be cut
                self._file.truncate(self._end)
            raise ExportError(
                f"cannot write {self.path}: {failure.strerror}; the {self.windows} windows written "
                "before are in it"
            ) from failure
        self._end += len(data)
        self.windows += len({each["key"] for each in records})

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
