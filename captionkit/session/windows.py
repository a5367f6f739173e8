"""The windows of a session: all of them, some of them, and what is stored of them."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from captionkit.display import WindowTable
from captionkit.review.disagreements import disagreements
from captionkit.run.history import compare, opened
from captionkit.run.latest import latest_captions
from captionkit.run.progress import opening_of
from captionkit.run.run import Run
from captionkit.run.watch import watch
from captionkit.sources import Opening, PlannedWindow, Sources, rows
from captionkit.store import Store

# Opening shows no bar before this many seconds.
_SILENT_S = 0.5


class SessionWindows:
    """What a session knows of its windows; a part of `Session`."""

    sources: Sources
    store: Store

    @property
    def opening(self) -> Opening:
        """How far the videos are opened; whatever needs all of them waits for the end."""
        return self.sources.opening

    def stop_opening(self) -> None:
        """Stop the opening; ready windows stay, and `problems` lists the other videos."""
        self.sources.stop()

    def _wait(self, *, first: bool = False) -> None:
        """Wait for all videos, or for the first window; an interrupt stops the opening."""
        watch(opening_of(self.sources, first=first), after_s=_SILENT_S)

    @property
    def windows(self) -> WindowTable:
        """All windows, one row each; waits until all videos are opened, with a progress bar.

        Columns: video, window (number), start_s, end_s, frames, note, tags, key, path, clip,
        start_frame, end_frame, fps; captions have them as well. A notebook shows the first rows with
        thumbnails; filter the table as any pandas table.
        """
        self._wait()
        table = rows.windows_table(self.sources.windows, self.store.window_marks())
        table.images, table.left_out = self.thumbnail, self.problems
        return table

    @property
    def problems(self) -> dict[str, str]:
        """Videos that cannot be read or have no window, with the reason; waits as `windows`."""
        self._wait()
        return dict(self.sources.problems)

    @property
    def captions(self) -> pd.DataFrame:
        """The latest captions of each window, of any run; columns as in `captions.CaptionRow`."""
        self._wait()
        return latest_captions(self.store, [each.key for each in self.sources.windows])

    def __len__(self) -> int:
        """The number of windows; waits until all videos are opened."""
        self._wait()
        return len(self.sources.windows)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[PlannedWindow]:
        """All windows, in order; waits until all videos are opened."""
        self._wait()
        return iter(self.sources.windows)

    def select(self, windows: pd.DataFrame | None) -> list[PlannedWindow]:
        """Return the windows of some rows of `windows`, in the order of the rows; None takes all.

        Raises
        ------
        ValueError
            If ``windows`` is not a table of windows, or a table of other videos.
        """
        if windows is None:
            self._wait()
            return self.sources.windows
        keys, known = rows.row_keys(windows), self.sources.by_key
        if not all(key in known for key in keys):
            # The rows may belong to a video that is not opened yet.
            self._wait()
            rows.refuse_unknown(windows, known)
        return [known[key] for key in keys]

    def sample(self, count: int, seed: int = 0) -> WindowTable:
        """Return ``count`` windows, spread evenly over the videos; all of them if there are fewer."""
        check_count("count", count)
        return rows.sample_rows(self.windows, count, seed)

    def annotate(
        self, windows: pd.DataFrame, note: str | None = None, *, tags: str | list[str] | None = None
    ) -> None:
        """Set the note and the tags of windows; None leaves them, an empty text removes them.

        The store keeps them; `windows` and the captions of every run show them.
        """
        given = [tags] if isinstance(tags, str) else tags
        self.store.mark_windows(self.select(windows), note, given)

    def disagreements(self, run_a: Run | int, run_b: Run | int) -> pd.DataFrame:
        """Return the windows on which two runs differ, the most different first.

        By facts: the share of claims that the other caption lacks. Rows go on as ``windows=`` to
        `caption`, `Run.verify` and `judge`; the columns are those of `review.disagreements`.
        """
        one, two = opened(run_a, run_b, self.store)
        return disagreements(compare(one, two).table, (one.recipe.schema, two.recipe.schema))

    def thumbnail(self, key: str) -> bytes | None:
        """Return a small JPEG of a window's middle frame; None if the frame cannot be read."""
        return self.sources.thumbnail(key)

    def clip(self, video: str, window: int) -> bytes:
        """Return a window as an H.264 mp4 file, at most 640 pixels wide and without sound."""
        return self.sources.clip(self.sources.find(video, window))


def check_count(name: str, count: int) -> None:
    """Refuse a count below 1.

    Raises
    ------
    ValueError
        If the count is 0 or less; the message names it.
    """
    if count < 1:
        raise ValueError(f"{name} is {count}; give 1 or more")
