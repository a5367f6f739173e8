"""JSON lines that grow with a run, by the rows of each finished window."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from captionkit.export.base import without_home
from captionkit.export.errors import ExportError
from captionkit.export.formats.tables import json_lines


class JsonLines:
    """Writes finished windows to a file, the rows of each completely or not at all.

    Keep an existing file with content as ``NAME.bak``.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    ExportError
        If the file cannot be written.
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
        """Append rows of windows (with the columns of `CaptionRow`), all or none.

        Raises
        ------
        ExportError
            If the rows cannot be written (disk full, say); earlier lines stay complete.
        """
        data = json_lines({**each, "path": without_home(each["path"])} for each in records)
        try:
            written = self._file.write(data)
            if written != len(data):
                # Write the rest: a full disk may accept a part, and the next write raises the reason.
                self._file.write(data[written:])
        except OSError as failure:
            with contextlib.suppress(OSError):  # pipes such as /dev/stdout cannot be truncated
                self._file.truncate(self._end)
            raise ExportError(
                f"cannot write {self.path}: {failure.strerror}; the {self.windows} windows written "
                "before are in the file"
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
