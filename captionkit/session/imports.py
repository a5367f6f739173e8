"""Captions of other tools as a run of this session's windows, for people and stage 2 to correct."""

from __future__ import annotations

import abc
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from captionkit.display import TextTable, WindowTable
from captionkit.export import ExportError
from captionkit.export.rows import ForeignRow, foreign_rows
from captionkit.pipeline import Caption
from captionkit.recipe import Recipe
from captionkit.run.asking import IMPORTED
from captionkit.run.run import Run
from captionkit.session.films import Films
from captionkit.session.windows import SessionWindows
from captionkit.sources import PlannedWindow
from captionkit.store import Store

logger = logging.getLogger(__name__)

CORRECT = "Correct this caption: {caption}"
_AT_ONCE = 1000
_MOST_NAMED = 3


class ImportedRun(Run):
    """A run of imported captions.

    ``unmatched`` has the rows that belong to no window: where, text, reason.
    """

    def __init__(self, store: Store, id: int, session: Any, unmatched: pd.DataFrame) -> None:  # noqa: A002
        super().__init__(store, id, session)
        self.unmatched = unmatched


class SessionImports(SessionWindows):
    """What a session takes from other tools; a part of `Session`."""

    recipe: Recipe

    @abc.abstractmethod
    def make_recipe(
        self,
        prompt: str | None = None,
        stage2: str | bool | None = None,
        recipe: Recipe | None = None,
        **settings: Any,
    ) -> Recipe:
        """Return the session's recipe with changes."""

    @abc.abstractmethod
    def caption(
        self,
        prompt: str | None = None,
        stage2: str | bool | None = None,
        windows: pd.DataFrame | None = None,
        **settings: Any,
    ) -> Run:
        """Caption windows and return the run."""

    def import_captions(
        self,
        path: str | Path,
        name: str | None = None,
        *,
        columns: Mapping[str, str] | None = None,
        encoding: str = "utf-8",
    ) -> ImportedRun:
        """Take captions of another tool, or of people, as a run.

        A row belongs to the window of its key; else to a window of its film (by path, file name or
        name without a suffix) that covers at least half of the row's and the window's time together;
        else to the window of its number, or of a name such as ``harbour-0002``; else to the only window
        of its film. Rows that belong to none, or to one that is taken, are listed in ``unmatched``:
        nothing is guessed.

        Parameters
        ----------
        path
            Text files beside films, a table, subtitles, metas, tar files or a folder; see
            `export.foreign_rows`.
        name
            Name of the run; by default the one of the file.
        columns
            Names of a table's columns: ``{"text": "my_caption", "video": "clip_name"}``.
        encoding
            Encoding of files without a byte-order mark.

        Raises
        ------
        ExportError
            If the file cannot be read, or no row belongs to a window of this session.
        """
        rows = foreign_rows(path, columns, encoding)
        self._wait()
        found, unmatched = match(rows, self.sources.windows)
        if not found:
            raise ExportError(
                f"none of {len(rows)} captions of {path} belongs to a window of this session; the "
                f"first: {_line(unmatched[0])}"
            )
        name = name or Path(path).stem
        number = self.keep_texts(f"imported: {name}", [(each, row.text or "") for each, row in found])
        self.store.note_run(
            number, f"{len(found)} of {len(rows)} captions of {Path(path).name} belong to a window"
        )
        if unmatched:
            listed = "; ".join(_line(each) for each in unmatched[:_MOST_NAMED])
            more = "; …" if len(unmatched) > _MOST_NAMED else ""
            logger.warning(
                "%d of %d captions of %s belong to no window: %s%s",
                len(unmatched), len(rows), path, listed, more,
            )  # fmt: skip
        table = TextTable(
            [(row.where, row.text, why) for row, why in unmatched], columns=["where", "text", "reason"]
        )
        return ImportedRun(self.store, number, self, table)

    def correct(
        self,
        run: Run,
        prompt: str = CORRECT,
        windows: pd.DataFrame | None = None,
        **settings: Any,
    ) -> Run:
        """Let the model correct the captions of a run, and return the run of the corrections.

        Stage 1 is the caption of ``run`` as the model or the file has it, without people's edits, and
        stage 2 sees the video and ``{caption}``. `Run.compare_stages` shows what was changed.

        Parameters
        ----------
        run
            A run of imported captions, or any other.
        prompt
            Text of stage 2.
        windows
            Rows of `windows`; None takes all windows with a caption in ``run``.
        settings
            As for `caption`: other fields of `Recipe`, ``batch_size``, ``fresh``.
        """
        known = self.store.final_texts(run.recipe.key)
        if windows is None:
            windows = self.windows
        windows = windows[windows["key"].isin(list(known))]
        of_call = {name: settings.pop(name) for name in _OF_A_CALL if name in settings}
        recipe = replace(
            self.make_recipe(stage2=prompt, **settings),
            prompt=run.recipe.prompt,
            given=run.recipe.key,
        )
        corrected = self.store.final_texts(recipe.key, stage=1)
        if any(corrected.get(key, known[key]) != known[key] for key in windows["key"]):
            # What is known corrects captions that were made anew since.
            of_call.setdefault("fresh", True)
        return self.caption(windows=windows, recipe=recipe, **of_call)

    def gaps(self, run: Run) -> WindowTable:
        """Return the windows without a caption in a run, to be captioned by a model, say."""
        table = self.windows
        return table[~table["key"].isin(list(self.store.captioned_keys(run.id)))]

    def keep_texts(self, title: str, texts: Sequence[tuple[PlannedWindow, str]]) -> int:
        """Keep texts that no model made as the captions of a run; return its id.

        Parameters
        ----------
        title
            Stands for the prompt; two words or more.
        texts
            Windows of this session with their texts. Other texts of the same title are another run.
        """
        content = json.dumps(sorted((window.key, text) for window, text in texts))
        digest = hashlib.sha256(content.encode()).hexdigest()[:8]
        plain = title.replace("{", "(").replace("}", ")")
        own = self.recipe
        recipe = Recipe(
            model=IMPORTED,
            prompt=f"{plain} ({digest})",
            window_size=own.window_size,
            remainder_threshold=own.remainder_threshold,
            window_seconds=own.window_seconds,
        )
        windows = [window for window, _ in texts]
        number = self.store.add_run(recipe, windows, repeats=1, batch_size=1, fresh=False)
        by_key = {window.key: text for window, text in texts}
        work = self.store.begin_work(number)
        try:
            while jobs := work.claim(_AT_ONCE):
                for job in jobs:
                    work.add_caption(job, Caption.of_text(by_key[job.window_key], recipe.prompt))
                    work.finish(job, None)
        finally:
            work.end()
        return number


_OF_A_CALL = ("batch_size", "fresh", "repeats")
_Unmatched = tuple[ForeignRow, str]


def _line(unmatched: _Unmatched) -> str:
    row, why = unmatched
    return f"{row.where}: {why}"


def match(
    rows: Iterable[ForeignRow], windows: Iterable[PlannedWindow]
) -> tuple[list[tuple[PlannedWindow, ForeignRow]], list[_Unmatched]]:
    """Return each window with its row, and the rows without a window with the reason."""
    films = Films(windows)
    found: dict[str, tuple[PlannedWindow, ForeignRow]] = {}
    unmatched: list[_Unmatched] = []
    for row in rows:
        if row.text is None:
            unmatched.append((row, row.problem or "it has no caption"))
            continue
        window = films.window_of(row)
        if isinstance(window, str):
            unmatched.append((row, window))
            continue
        taken = found.get(window.key)
        if taken is not None and taken[1].stage >= row.stage:
            if taken[1].stage == row.stage:
                why = f"{window.video} {window.number} has the caption of {taken[1].where}"
                unmatched.append((row, why))
            continue
        found[window.key] = window, row
    order = {window.key: index for index, window in enumerate(films.windows)}
    return sorted(found.values(), key=lambda pair: order[pair[0].key]), unmatched
