"""Run: one recipe on some windows, a view on the store that any kernel may open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from captionkit import display, structured
from captionkit.captions import with_edits
from captionkit.export import export_run
from captionkit.export.dataset import DatasetOptions
from captionkit.recipe import Recipe
from captionkit.review import (
    Comparison,
    SetReport,
    check_table,
    compare_tables,
    report,
    scores,
    stability,
)
from captionkit.run.dataset import export_dataset
from captionkit.run.latest import caption_row, sound_table
from captionkit.run.truths import RunTruths
from captionkit.sources import Sources
from captionkit.store import RunCounts, Store
from captionkit.store.reviews import joined
from captionkit.system.hints import hint

_RATINGS = range(1, 6)
_OF_A_SET = [each.name for each in fields(DatasetOptions)]
_OF_EXPORT = ["path", "format", "stage", "checks", "prefer_human", "overwrite"]


@dataclass(frozen=True)
class Progress:
    """Counts of a run's windows; ``windows_per_s`` is the rate of the work under way, else 0."""

    done: int
    failed: int
    total: int
    windows_per_s: float = 0.0

    def __str__(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        rate = f", {self.windows_per_s:.1f} windows/s" if self.windows_per_s else ""
        return f"{self.done} of {self.total} windows captioned{failed}{rate}"


class RunWork(Protocol):
    """Work under way on a run: a `RunTask`."""

    @property
    def progress(self) -> Progress:
        """Counts of the run's windows, with the rate of this work."""

    def wait(self, timeout_s: float | None = None) -> Run:
        """Wait until the work has ended."""

    def cancel(self) -> Run:
        """Stop, and wait until the work has ended."""


class RunDriver(Protocol):
    """Driver that can resume a run and read its videos: a `session.Session`."""

    sources: Sources

    def work_on(self, run: Run, batch_size: int | None = None) -> RunWork:
        """Caption the open windows of a run; return at once."""

    def thumbnail(self, key: str) -> bytes | None:
        """Return a small JPEG of a window."""


class Run(RunTruths):
    """One recipe on some windows.

    `Session.caption` returns a run, `Session.start` a `RunTask` with the run as ``run``, and `open_run`
    opens an earlier run. Each property reads the store anew, also while another kernel works on the
    run.

    Parameters
    ----------
    store, id
        Store of the run, and the run's id.
    session
        Session that can resume the run and read its videos; None for a run without a session.
    """

    def __init__(self, store: Store, id: int, session: RunDriver | None = None) -> None:  # noqa: A002
        facts = store.facts(id)
        self.recipe: Recipe = facts.recipe
        self.repeats = facts.repeats
        self.id = id
        self.store = store
        self._session = session

    def __repr__(self) -> str:
        return f"<Run {self._summary(self.store.counts(self.id))}>"

    def _summary(self, counts: RunCounts) -> str:
        return f"{self.id}: {self.recipe.model}, {_status(counts)}, {_progress(counts)}"

    @property
    def status(self) -> str:
        """``running``, ``done``, ``failed`` (some or all windows), ``interrupted`` or ``deleted``.

        Work by another kernel counts as ``running``.
        """
        return _status(self.store.counts(self.id))

    @property
    def progress(self) -> Progress:
        """Counts of the run's windows."""
        return _progress(self.store.counts(self.id))

    def resume(self) -> RunWork:
        """Resume the open windows; return at once.

        Raises
        ------
        ValueError
            If the run has no session, or the session lacks some of the run's videos.
        """
        return self._driver().work_on(self)

    def retry_failed(self) -> Run:
        """Try only the failed windows again, and wait until they end."""
        driver = self._driver()
        self.store.forget_failures(self.id)
        return driver.work_on(self).wait()

    def _driver(self) -> RunDriver:
        if self._session is None:
            raise ValueError(f"run {self.id} has no session to run in; use Session.open({self.id})")
        return self._session

    @property
    def captions(self) -> pd.DataFrame:
        """One row for each window and stage, in the order of the windows; see `captions.CaptionRow`.

        A failed window has a row with its ``error``; an open window has no row.
        """
        return self._table(self.store.results.rows(self.id))

    def head(self, windows: int = display.MOST_ROWS) -> pd.DataFrame:
        """Return `captions` of the first windows that have a result; fast for a run of any size."""
        return self._table(self.store.results.first_rows(self.id, windows))

    def tables(self, windows: int, *, by_window: bool = False) -> Iterator[pd.DataFrame]:
        """Yield `captions` of some windows at a time, for a run of any size.

        ``by_window`` puts the repeats of a window together; otherwise each repeat has all windows.
        """
        end = self.store.results.end(self.id)
        for repeat in [None] if by_window or self.repeats == 1 else range(self.repeats):
            for first in range(0, end, windows):
                last = first + windows - 1
                yield self._table(self.store.results.rows(self.id, first, last, repeat))

    def _table(self, rows: list[tuple[Any, ...]]) -> pd.DataFrame:
        recipe = self.recipe.to_json()
        made = [caption_row(values, self.recipe.model, recipe) for values in rows]
        return sound_table(made, self.store)

    @property
    def final(self) -> pd.DataFrame:
        """One row for each window, with its last stage."""
        return last_stages(self.captions)

    @property
    def checks(self) -> pd.DataFrame:
        """`captions` with a column for each check of `review.CHECKS`, and ``unsupported``.

        ``unsupported`` is whether `verify` found a false claim, missing where it was not asked.
        """
        table = self.captions
        false = self.is_unsupported(table)
        return table.join(check_table(table, schema=self.recipe.schema, unsupported=false))

    @property
    def structured(self) -> pd.DataFrame:
        """`captions` as columns, if the recipe has a schema: one for each property, and ``invalid``.

        ``invalid`` names the error of a text that is not JSON or violates the schema. A property named
        as a column of the window has an underscore behind its name.

        Raises
        ------
        ValueError
            If the recipe has no schema.
        """
        if self.recipe.schema is None:
            raise ValueError(
                f"run {self.id} has captions of free text; caption with schema= for columns"
            )
        table = self.captions
        names = ["video", "window", "start_s", "end_s", "stage", "finish_reason", "error"]
        fields = structured.table(table["text"], self.recipe.schema)
        return table[names].join(fields.rename(columns=lambda name: structured.free_name(name, names)))

    def compare_stages(self) -> Comparison:
        """Compare stage 1 with stage 2, window by window.

        Raises
        ------
        ValueError
            If the recipe has one stage.
        """
        if self.recipe.stage2 is None:
            raise ValueError(f"run {self.id} has one stage; caption with stage2= to compare two")
        table = self.captions
        first, second = (table[table["stage"] == stage] for stage in (1, 2))
        return compare_tables(
            first, second, ("stage 1", "stage 2"), self.thumbnail, (self.unsupported, self.unsupported)
        )

    def stability(self) -> pd.DataFrame:
        """Compare the repeats of each window: share of equal pairs, mean word overlap."""
        if self.repeats < 2:
            raise ValueError(f"run {self.id} has one caption a window; caption with repeats=3")
        return stability(self.final)

    def report(self, names: Iterable[str] = (), near: float = 0.9) -> SetReport:
        """Report on the final captions as a set: lengths, phrases, repeats, words, faults by video.

        Parameters
        ----------
        names
            Words that no caption should have, such as names of people.
        near
            Word overlap from which two captions count as nearly the same.
        """
        table = self.final
        return report(table, self.recipe.schema, names, near, self.is_unsupported(table))

    def scores(self, reference: Run) -> pd.DataFrame:
        """Compare each caption with the one of a reference, such as imported captions of people.

        Returns the columns of `review.scores`; an edited text of the reference counts.
        """
        return scores(self.captions, reference.human)

    @property
    def human(self) -> pd.DataFrame:
        """`final`, with a person's edits instead of the texts that were edited."""
        return with_edits(self.final)

    def rate(
        self,
        video: str,
        window: int,
        rating: int | None,
        *,
        stage: int | None = None,
        repeat: int = 0,
        reviewer: str = "",
    ) -> None:
        """Rate a caption from 1 to 5; rating None removes the rating, stage None is the last stage.

        The caption shows the last rating; those of each ``reviewer`` are kept, see `agreement`.
        """
        if rating is not None and rating not in _RATINGS:
            raise ValueError(f"the rating is {rating!r}; give 1 to 5, or None to remove the rating")
        self._annotate(video, window, stage, repeat, reviewer=reviewer, rating=rating)

    def edit(
        self, video: str, window: int, text: str | None, *, stage: int | None = None, repeat: int = 0
    ) -> None:
        """Set the edited text of a caption; None removes the text."""
        self._annotate(video, window, stage, repeat, edited_text=text)

    def set_note(
        self, video: str, window: int, text: str | None, *, stage: int | None = None, repeat: int = 0
    ) -> None:
        """Set the note of a caption; None removes the note."""
        self._annotate(video, window, stage, repeat, note=text)

    def tag(
        self, video: str, window: int, *tags: str, stage: int | None = None, repeat: int = 0
    ) -> None:
        """Set the tags of a caption; without one, remove them. For a window see `Session.annotate`."""
        self._annotate(video, window, stage, repeat, tags=joined(tags) or None)

    def _annotate(self, video: str, window: int, stage: int | None, repeat: int, **values: Any) -> None:
        stage = stage or self.recipe.stages[-1]
        self.store.annotate(self.id, video, window, stage, repeat, **values)

    def note(self, text: str) -> None:
        """Set the run's note, which `runs` shows."""
        self.store.note_run(self.id, text)

    def delete(self) -> None:
        """Delete the run from the store, with the captions that no other run uses.

        Raises
        ------
        ValueError
            If work on the run is under way.
        """
        if self.store.counts(self.id).working:
            raise ValueError(f"run {self.id} is running; cancel the run before you delete it")
        self.store.delete(self.id)

    def export(
        self,
        path: str | Path,
        format: str | None = None,  # noqa: A002
        *,
        stage: int | None = None,
        checks: bool = False,
        prefer_human: bool = False,
        overwrite: bool = False,
        **dataset: Any,
    ) -> Path:
        """Write captions to a file or folder and return the path.

        Parameters
        ----------
        path
            The file; for ``nemo``, ``dataset`` and for subtitles of several videos, a folder.
        format
            ``jsonl``, ``csv``, ``parquet``, ``html``, ``srt``, ``vtt``, ``nemo``, or ``dataset`` (clips
            with captions to train on, see `export_dataset`); None takes the path's suffix.
        stage
            Only this stage, 1 or 2. None takes all stages, and for subtitles the last one.
        checks
            Add the findings of `checks`; a data set has them in its tables.
        prefer_human
            Prefer an edited text, and of a window with ratings only the stage rated best.
        overwrite
            Replace an existing file.
        dataset
            ``layout`` and other options of a data set, see `export.dataset.DatasetOptions`.

        Raises
        ------
        ExportError
            If the format is unknown, the run has no captions, or the path exists or is not writable.
        """
        if format == "dataset":
            known = self._session.sources.by_key if self._session else {}
            return export_dataset(
                self.to_choose, path, stage=stage, prefer_human=prefer_human, overwrite=overwrite,
                windows=known, **dataset,
            )  # fmt: skip
        for name in dataset:
            of_a_set = ' (only with the format "dataset")'
            near = of_a_set if name in _OF_A_SET else hint(name, _OF_EXPORT)
            raise TypeError(f"Run.export has no argument {name!r}{near}")
        return export_run(
            self, path, format, stage=stage, checks=checks, prefer_human=prefer_human,
            overwrite=overwrite,
        )  # fmt: skip

    def thumbnail(self, key: str) -> bytes | None:
        """Return a small JPEG of a window's middle frame; None without a session."""
        return None if self._session is None else self._session.thumbnail(key)

    def _repr_html_(self) -> str:
        two = self.recipe.stage2 is not None
        # Count once: in a run of a million windows each count takes about 50 ms.
        counts = self.store.counts(self.id)
        summary = f"run {self._summary(counts)}"
        table = self.head()
        return display.run_html(
            table, self.thumbnail, two_stages=two, summary=summary, total=counts.total,
            unsupported=self.unsupported(table),
        )  # fmt: skip


def _status(counts: RunCounts) -> str:
    if not counts.total:
        return "deleted"
    if counts.done + counts.failed < counts.total:
        return "running" if counts.working else "interrupted"
    return "failed" if counts.failed else "done"


def _progress(counts: RunCounts) -> Progress:
    return Progress(counts.done, counts.failed, counts.total)


def last_stages(captions: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each window and repeat of a table of captions, with its last stage."""
    return captions.drop_duplicates(["repeat", "key"], keep="last").reset_index(drop=True)
