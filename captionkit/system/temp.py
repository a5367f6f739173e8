"""Temporary files of captionkit, in a folder that only this user can change.

The temporary folder of a machine is open to all its users: another one could create a folder of our
name first, with links in it, and have captionkit overwrite the files they lead to.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import shutil
import stat
import tempfile
import time
import weakref
from collections.abc import Iterable
from io import FileIO
from pathlib import Path

_LOCK = ".lock"
# Keep the logs of ended processes for this long: they explain a crash.
_KEEP_LOGS_S = 7 * 24 * 3600


def own_folder() -> Path:
    """Return the folder of this user, mode 700; a new one if another user has taken its name."""
    return _own_folder(tempfile.gettempdir())


@functools.cache
def _own_folder(parent: str) -> Path:
    folder = Path(parent) / f"captionkit-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    # Do not follow a link: it belongs to whoever made it.
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        return Path(tempfile.mkdtemp(prefix="captionkit-", dir=parent))
    _sweep(folder.iterdir())
    return folder


class TempFolder:
    """A folder for the life of an object; one that a kill leaves behind is swept by a later process.

    Parameters
    ----------
    purpose
        First part of its name.
    parent
        Where to make it, as hidden folder; None takes the folder of this user.
    """

    def __init__(self, purpose: str, parent: Path | None = None) -> None:
        prefix = f"{purpose}-" if parent is None else f".{purpose}-"
        if parent is not None:
            _sweep(parent.glob(f"{prefix}*/"))
        lock = None
        while lock is None:
            self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent or own_folder()))
            lock = _locked(self.path)
        self._end = weakref.finalize(self, _remove, self.path, lock)

    def remove(self) -> None:
        """Delete the folder; may be called twice."""
        self._end()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.remove()


def _locked(folder: Path) -> FileIO | None:
    """Lock a new folder; None if another process has swept it just before."""
    try:
        lock = (folder / _LOCK).open("xb", buffering=0)
    except FileNotFoundError:
        return None
    # The kernel releases the lock with the process, however that ends. Some file systems lack locks.
    with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX)
    if (folder / _LOCK).exists():
        return lock
    lock.close()
    return None


def _remove(path: Path, lock: FileIO) -> None:
    shutil.rmtree(path, ignore_errors=True)
    lock.close()


def _sweep(paths: Iterable[Path]) -> None:
    """Delete folders whose process is gone, and old logs."""
    for path in paths:
        with contextlib.suppress(OSError):
            if path.is_symlink() or not path.is_dir():
                if time.time() - path.lstat().st_mtime > _KEEP_LOGS_S:
                    path.unlink()
                continue
            with (path / _LOCK).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path)


def create(path: Path) -> FileIO:
    """Create a file for writing, readable by this user alone; an earlier one of the name is replaced.

    Raises
    ------
    OSError
        If the file cannot be created; a link is never followed.
    """
    path.unlink(missing_ok=True)
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    return FileIO(number, "wb")
