"""Which window of a session a row of another tool's table is about."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from captionkit.export.dataset.choose import plain_name
from captionkit.export.rows import ForeignRow
from captionkit.sources import PlannedWindow

# Least share of the time that a row and its window cover together; half leaves no second window.
_LEAST_SHARED = 0.5
_NUMBERED = re.compile(r"(.+)-(\d{4,})")


class Films:
    """Windows by key, and by the names that a row may give their film."""

    def __init__(self, windows: Iterable[PlannedWindow]) -> None:
        self.windows = list(windows)
        self._by_key = {window.key: window for window in self.windows}
        self._of_film: dict[str, list[PlannedWindow]] = {}
        self._names: dict[str, set[str]] = {}
        for window in self.windows:
            self._of_film.setdefault(window.video, []).append(window)
            path = Path(window.path)
            for name in (window.path, str(path.with_suffix("")), path.name, path.stem, window.video):
                self._names.setdefault(name, set()).add(window.video)
            self._names.setdefault(plain_name(window.video), set()).add(window.video)

    def window_of(self, row: ForeignRow) -> PlannedWindow | str:
        """Return the window of a row, or the reason that there is none."""
        if row.key in self._by_key:
            return self._by_key[row.key or ""]
        if row.video is None:
            return "it names no film and no known key"
        videos, number = self._videos(row.video), row.window
        numbered = _NUMBERED.fullmatch(_stem(row.video))
        if not videos and numbered:
            videos, number = self._names.get(numbered[1], set()), int(numbered[2])
        if not videos:
            return f"no film of this session is called {row.video}"
        if len(videos) > 1:
            return f"{row.video} may be {' or '.join(sorted(videos))}"
        return self._of_one_film(row, self._of_film[next(iter(videos))], number)

    def windows_of(
        self,
        video: str | None,
        key: str | None,
        start_s: float | None,
        end_s: float | None,
        number: int | None,
    ) -> list[PlannedWindow]:
        """Return the windows that a row of facts is about: one, all of a film, or none."""
        row = ForeignRow("", "", video, key, number, start_s, end_s)
        window = self.window_of(row)
        if not isinstance(window, str):
            return [window]
        if video is None or number is not None or (start_s is not None and end_s is not None):
            return []
        named = self._videos(video)
        return self._of_film[next(iter(named))] if len(named) == 1 else []

    def _videos(self, name: str) -> set[str]:
        for each in (name, Path(name).name, _stem(name)):
            if each in self._names:
                return self._names[each]
        return set()

    @staticmethod
    def _of_one_film(
        row: ForeignRow, windows: list[PlannedWindow], number: int | None
    ) -> PlannedWindow | str:
        film = windows[0].video
        if row.start_s is not None and row.end_s is not None:
            best = max(windows, key=lambda window: _shared(row, window))
            if _shared(row, best) < _LEAST_SHARED:
                return f"no window of {film} lies at {row.start_s:g} to {row.end_s:g} s"
            return best
        if number is not None:
            numbered = [window for window in windows if window.number == number]
            return numbered[0] if numbered else f"{film} has no window {number}"
        if len(windows) > 1:
            return f"{film} has {len(windows)} windows, and it tells no key, time or number"
        return windows[0]


def _stem(name: str) -> str:
    """Return a name without folder and suffix; a dot in the name of a text file is kept."""
    path = Path(name)
    return path.stem if re.fullmatch(r"\.[A-Za-z0-9]{2,4}", path.suffix) else path.name


def _shared(row: ForeignRow, window: PlannedWindow) -> float:
    """Return the time that row and window have in common, as a share of the time that either has."""
    assert row.start_s is not None
    assert row.end_s is not None
    common = min(row.end_s, window.end_s) - max(row.start_s, window.start_s)
    either = max(row.end_s, window.end_s) - min(row.start_s, window.start_s)
    return common / either if either > 0 else 0.0
