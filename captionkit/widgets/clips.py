"""Clips: the windows' films that were played last."""

from __future__ import annotations

from collections.abc import Callable

_MOST_BYTES = 32 << 20


class Clips:
    """Keeps the last clips, up to 32 MiB, by the index of their window."""

    def __init__(self) -> None:
        self._kept: dict[int, bytes] = {}

    def get(self, index: int, make: Callable[[], bytes]) -> bytes:
        """Return a window's clip; one that is not kept is made."""
        if index not in self._kept:
            self._kept[index] = make()
            while sum(map(len, self._kept.values())) > _MOST_BYTES and len(self._kept) > 1:
                del self._kept[next(iter(self._kept))]
        return self._kept[index]

    def clear(self) -> None:
        """Drop all clips; they are of other windows."""
        self._kept.clear()
