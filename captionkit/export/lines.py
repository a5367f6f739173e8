"""JSON lines that grow with a run, by the rows of each finished window."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

from captionkit.export.errors import ExportError
from captionkit.export.formats.tables import json_lines
from captionkit.export.names import named

# Errors of a file system without locks, such as Lustre without the option ``flock``.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class JsonLines:
    """Writes finished windows to a file, the rows of each completely or not at all.

    Keep an existing file with content as ``NAME.bak``. Append to a link or a device (``/dev/stdout``,
    say) instead. The file is locked until it is closed, so that two processes cannot mix their lines.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    ExportError
        If the file cannot be written, or another process is writing it; its content stays intact.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.windows = 0
        try:
            self._file = _open(self.path)
        except ExportError:
            raise
        except OSError as error:
            raise ExportError(f"cannot write {self.path}: {error.strerror}") from error

    def write(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Append rows of windows (with the columns of `CaptionRow`), all or none.

        Raises
        ------
        ExportError
            If the rows cannot be written (disk full, say); earlier lines stay complete.
        """
        data = json_lines(named(each, self.path.parent) for each in records)
        end = os.fstat(self._file.fileno()).st_size
        try:
            written = self._file.write(data)
            if written != len(data):
                # Write the rest: a full disk may accept a part, and the next write raises the reason.
                self._file.write(data[written:])
        except OSError as failure:
            with contextlib.suppress(OSError):  # pipes such as /dev/stdout cannot be truncated
                self._file.truncate(end)
            raise ExportError(
                f"cannot write {self.path}: {failure.strerror}; the {self.windows} windows written "
                "before are in the file"
            ) from failure
        self.windows += len({each["key"] for each in records})

    def close(self) -> None:
        """Close the file."""
        if not self._file.closed:
            # Unlock first: a forked process may hold the same open file, and its lock.
            with contextlib.suppress(OSError):
                fcntl.flock(self._file, fcntl.LOCK_UN)
        self._file.close()

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open(path: Path) -> FileIO:
    """Open a file to append to, locked; first rename a regular file with content to ``NAME.bak``."""
    while True:
        # Open without truncation: the content may belong to the process that holds the lock.
        file = path.open("ab", buffering=0)
        try:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return file
            _lock(file, path)
            if path.is_symlink():
                return file
            # Check the name after the lock: another process may have renamed the file before.
            current = _is_at(file, path)
            if current and os.fstat(file.fileno()).st_size == 0:
                return file
            if current:
                path.replace(path.with_name(path.name + ".bak"))
        except BaseException:
            file.close()
            raise
        file.close()


def _is_at(file: FileIO, path: Path) -> bool:
    """Return whether a path still leads to an open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False


def _lock(file: FileIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ExportError(f"{path} is being written by another process; give another file") from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
