"""Results as rows: some windows at a time, so that a run of any size can be read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from captionkit.store import queries
from captionkit.store.file import StoreFile

# Beyond the position of any window.
_ALL = 2**62


class Results:
    """Reads captions, failures and facts of runs.

    Parameters
    ----------
    file
        The store's file.
    """

    def __init__(self, file: StoreFile) -> None:
        self._file = file

    def rows(
        self, run: int, first: int = 0, last: int = _ALL, repeat: int | None = None
    ) -> list[tuple[Any, ...]]:
        """Return captions, one row a window and stage, in the columns of `queries.CAPTIONS`.

        Parameters
        ----------
        run
            The run.
        first, last
            Positions of windows in the run, both included.
        repeat
            Only this repeat; None takes all.
        """
        values = {"run": run, "first": first, "last": last, "repeat": repeat}
        return self._file.rows(queries.CAPTIONS, values)

    def first_rows(self, run: int, windows: int) -> list[tuple[Any, ...]]:
        """Return `rows` of the first windows that have a result."""
        ((last,),) = self._file.rows(queries.LAST_OF_FIRST, (run, windows))
        return [] if last is None else self.rows(run, last=last)

    def latest(self) -> list[tuple[Any, ...]]:
        """Return the captions of each window in the newest run with a result, as `rows`."""
        return self._file.rows(queries.LATEST)

    def end(self, run: int) -> int:
        """Return the position behind the last window of a run."""
        ((last,),) = self._file.rows("SELECT max(position) FROM jobs WHERE run = ?", (run,))
        return 0 if last is None else int(last) + 1

    def has_caption(self, run: int, stage: int | None = None) -> bool:
        """Return whether a run has a caption, or one of a stage."""
        return bool(self._file.rows(queries.ANY_CAPTION, {"run": run, "stage": stage}))

    def failures(self, run: int, most: int = -1) -> list[tuple[str, int, str]]:
        """Return path, number and error of failed windows in their order; ``most`` -1 takes all."""
        return self._file.rows(queries.FAILURES, (run, most))

    def last_positions(self, run: int) -> dict[str, int]:
        """Return the last position in a run of each clip, by the clip's id."""
        return dict(self._file.rows(queries.LAST_POSITIONS, (run,)))

    def names(self, run: int) -> list[tuple[str, str, int]]:
        """Return key, video and number of all windows of a run."""
        return self._file.rows(
            "SELECT DISTINCT window_key, video, number FROM jobs WHERE run = ?", (run,)
        )

    def facts(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the decoder's facts of windows, by key; those of a damaged row are empty."""
        query = f"SELECT key, source FROM windows WHERE key IN ({','.join('?' * len(keys))})"  # noqa: S608
        return {key: _facts(source) for key, source in self._file.rows(query, keys)}


def _facts(source: Any) -> dict[str, Any]:
    try:
        facts = json.loads(source)
    except (ValueError, TypeError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}
