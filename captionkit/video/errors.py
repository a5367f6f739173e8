"""The error of this room, and how it names a file."""

from __future__ import annotations

from os import PathLike


class VideoError(ValueError):
    """Raised when a video or some of its frames cannot be read; names the file and the reason."""


def shown_path(path: str | PathLike[str]) -> str:
    """Return a path as text that any file holds; it differs from a path that is not valid UTF-8."""
    return str(path).encode(errors="replace").decode()
