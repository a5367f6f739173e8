"""The folder of a training set: claimed by one process, with a journal of the files that were written.

The journal makes an export resumable: a clip that it names, made of the same frames in the same way,
is not cut again if the file still has its hash. Only files that the journal names are ever removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from captionkit.export.errors import ExportError
from captionkit.export.files import write_file
from captionkit.video.encoding import Excerpt, file_hash

JOURNAL = ".captionkit-dataset.jsonl"
_PART = ".captionkit-part-"


class DatasetFolder:
    """A folder that this process writes.

    Parameters
    ----------
    path
        The folder; created if missing.
    overwrite
        Write into a folder that has a finished set or foreign files.

    Raises
    ------
    ExportError
        If the path is a file, has files and ``overwrite`` is false, or another process writes there.
        The folder of an export that was interrupted is resumed.
    """

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self.path = path.absolute()
        if path.exists() and not path.is_dir():
            raise ExportError(f"{path} is a file; give a folder")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            there = [each for each in os.listdir(self.path) if not each.startswith(_PART)]
            self._journal = (self.path / JOURNAL).open("a+b")
        except OSError as error:
            raise ExportError(f"cannot write to {path}: {error.strerror}") from error
        self._lock = threading.Lock()
        try:
            fcntl.flock(self._journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._journal.close()
            raise ExportError(f"another process is writing a data set to {path}") from error
        self._entries, unfinished = self._read()
        if there and not unfinished and not overwrite:
            self.close()
            if JOURNAL not in there:
                (self.path / JOURNAL).unlink()
            raise ExportError(f"{path} is there already; give overwrite=True to replace it")
        for left in self.path.rglob(f"{_PART}*"):
            left.unlink(missing_ok=True)

    def _read(self) -> tuple[dict[str, dict[str, Any]], bool]:
        """Return the entries by file, and whether an export was interrupted."""
        entries: dict[str, dict[str, Any]] = {}
        unfinished = False
        self._journal.seek(0)
        for line in self._journal.read().splitlines():
            # A kill may leave half a line at the end.
            with contextlib.suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                unfinished = not entry.get("finished", False)
                if "file" in entry:
                    entries[entry["file"]] = entry
        return entries, unfinished

    def begin(self, planned: Iterable[str]) -> None:
        """Remove the files of an earlier export that are not planned again."""
        wanted = set(planned)
        self._note({"finished": False})
        for file in self._entries.keys() - wanted:
            self.remove(file)

    def known_clip(self, file: str, stamp: str) -> Excerpt | None:
        """Return the facts of a clip that is there, unchanged, and was made as ``stamp`` says."""
        entry = self._entries.get(file)
        if entry is None or entry.get("stamp") != stamp:
            return None
        try:
            made = Excerpt(**entry["made"])
            return made if file_hash(self.path / file) == made.sha256 else None
        except (OSError, TypeError, KeyError):
            return None

    def part(self, file: str) -> Path:
        """Return the path under which a clip is written before it is complete."""
        target = self.path / file
        target.parent.mkdir(parents=True, exist_ok=True)
        return target.parent / f"{_PART}{target.name}"

    def add_clip(self, file: str, stamp: str, made: Excerpt) -> None:
        """Give a complete clip its name."""
        os.replace(self.part(file), self.path / file)
        self._note({"file": file, "stamp": stamp, "made": vars(made)})

    def add_packed(self, file: str) -> None:
        """Give a complete tar file its name."""
        os.replace(self.part(file), self.path / file)
        self._note({"file": file})

    def remove(self, file: str) -> None:
        """Remove a file that was written here, and its folder if that is empty then."""
        if self._entries.pop(file, None) is not None:
            (self.path / file).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                (self.path / file).parent.rmdir()

    def add(self, file: str, data: bytes) -> None:
        """Write a small file, whole or not at all."""
        write_file(self.path / file, data)
        self._note({"file": file})

    def finish(self) -> None:
        """Mark the set as complete; leave one line for each file."""
        kept = [entry for file, entry in self._entries.items() if (self.path / file).exists()]
        lines = [json.dumps(entry) + "\n" for entry in [*kept, {"finished": True}]]
        write_file(self.path / JOURNAL, "".join(lines).encode())

    def _note(self, entry: dict[str, Any]) -> None:
        with self._lock:
            if "file" in entry:
                self._entries[entry["file"]] = entry
            self._journal.write(json.dumps(entry).encode() + b"\n")
            self._journal.flush()

    def close(self) -> None:
        """Let other processes write the folder."""
        self._journal.close()
