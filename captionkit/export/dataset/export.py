"""Write a training set: choose captions, cut their clips beside one another, list them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from captionkit.export.dataset import hub
from captionkit.export.dataset.card import card
from captionkit.export.dataset.choose import Choice, Sample, choose
from captionkit.export.dataset.films import Films, Stretch
from captionkit.export.dataset.folder import DatasetFolder
from captionkit.export.dataset.layouts import LAYOUTS, Clip, Setting, one_line
from captionkit.export.dataset.options import DatasetOptions
from captionkit.export.dataset.shards import pack
from captionkit.export.errors import ExportError
from captionkit.sources import PlannedWindow
from captionkit.video import DecodePool, VideoError

logger = logging.getLogger(__name__)

_MOST_NAMED = 3
_MEGABYTE = 1_000_000


class DatasetExport:
    """A training set that is being written; starts at construction.

    Parameters
    ----------
    table
        Captions, with the columns of `CaptionRow`.
    path
        The folder.
    options
        What goes into the set, and how.
    known
        Windows of a session by key, where films have moved or are not files.
    stage, by_rating
        See `choose.choose`.
    overwrite
        Write into a folder that has a finished set or foreign files.

    Raises
    ------
    ExportError
        If no caption is left, the films cannot be split, or the folder cannot be used.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        path: Path,
        options: DatasetOptions,
        known: Mapping[str, PlannedWindow],
        *,
        stage: int | None = None,
        by_rating: bool = False,
        overwrite: bool = False,
    ) -> None:
        self._options, self._known = options, known
        self._layout = LAYOUTS[options.layout]
        self._choice: Choice = choose(table, options, stage, by_rating)
        self._folder = DatasetFolder(path, overwrite=overwrite)
        #: Reasons for windows whose clip could not be made, by the clip's name.
        self.problems: dict[str, str] = {}
        self._done = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._end: Future[None] = Future()
        threading.Thread(target=self._run, name="captionkit-dataset", daemon=True).start()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; False after the timeout.

        Raises
        ------
        ExportError
            If the set cannot be completed; the next export resumes.
        """
        try:
            self._end.result(timeout_s)
        except FutureTimeoutError:
            if not self._end.done():
                return False
            raise
        return True

    def state(self) -> tuple[int, int, str]:
        """Return how many windows are done, how many there are, and both in words."""
        total = len(self._choice.samples)
        lost = f", {len(self.problems)} left out" if self.problems else ""
        return self._done, total, f"{self._done:,} of {total:,} clips{lost}"

    def stop(self) -> None:
        """Stop after the clips under way, and wait for them; the next export resumes."""
        self._stopped.set()
        self._end.exception()

    def _run(self) -> None:
        try:
            with DecodePool(workers=os.cpu_count()) as pool:
                self._write(pool)
        except OSError as error:
            if not isinstance(error, ExportError):
                reason = error.strerror or error
                error = ExportError(
                    f"cannot write to {self._folder.path}: {reason}; {self._done} clips are complete, "
                    "export again to resume"
                )
            self._end.set_exception(error)
        except BaseException as error:
            self._end.set_exception(error)
        else:
            self._end.set_result(None)
        finally:
            self._folder.close()

    def _write(self, pool: DecodePool) -> None:
        folder, options, layout = self._folder, self._options, self._layout
        samples = self._choice.samples
        files = [layout.path(pattern, each) for each in samples for pattern in self._patterns()]
        folder.begin(files)
        clips = self._clips(pool)
        if not clips:
            reason = next(iter(self.problems.values()))
            raise ExportError(f"no clip could be made; the first: {reason}")
        if layout.text is not None:
            for clip in clips:
                text = one_line(clip.sample.text)
                folder.add(
                    layout.path(layout.text, clip.sample), f"{text}\n".encode("utf-8", "replace")
                )
        for name, data in layout.lists(clips, Setting(folder.path, options.metadata)).items():
            folder.add(name, data)
        if layout.packed:
            pack(folder, clips, options.shard_mb * _MEGABYTE)
            for clip in clips:
                folder.remove(clip.file)
        folder.add(hub.CARD, card(clips, options, self._choice.left_out, self.problems))
        folder.finish()
        if self.problems:
            first = list(self.problems.items())[:_MOST_NAMED]
            listed = "; ".join(f"{name}: {why}" for name, why in first)
            more = "; …" if len(self.problems) > len(first) else ""
            logger.warning(
                "%d of %d windows are left out of %s, see %s: %s%s",
                len(self.problems), len(samples), folder.path, hub.CARD, listed, more,
            )  # fmt: skip
        if options.push_to_hub:
            hub.push(folder.path, options.push_to_hub)

    def _patterns(self) -> list[str]:
        return [each for each in (self._layout.clip, self._layout.text) if each is not None]

    def _clips(self, pool: DecodePool) -> list[Clip]:
        """Cut all clips, each complete or not at all; windows that fail become problems."""
        films = Films(self._known, pool)
        made: list[Clip | None] = []
        with ThreadPoolExecutor(pool.workers) as threads:
            waiting = [threads.submit(self._clip, each, films, pool) for each in self._choice.samples]
            for future in waiting:
                try:
                    made.append(future.result())
                except BaseException:
                    # A full disk would fail all others, too.
                    self._stopped.set()
                    raise
        if self._stopped.is_set():
            raise ExportError(
                f"the export to {self._folder.path} was stopped; {self._done} clips are complete, "
                "export again to resume"
            )
        return [each for each in made if each is not None]

    def _clip(self, sample: Sample, films: Films, pool: DecodePool) -> Clip | None:
        if self._stopped.is_set():
            return None
        try:
            stretch = films.find(sample.row)
            clip = self._cut(sample, stretch, pool)
        except VideoError as error:
            self.problems[sample.name] = str(error)
            for pattern in self._patterns():
                self._folder.remove(self._layout.path(pattern, sample))
            return None
        with self._lock:
            self._done += 1
        return clip

    def _cut(self, sample: Sample, stretch: Stretch, pool: DecodePool) -> Clip:
        shown = stretch.metadata
        if self._layout.clip is None:
            return Clip(sample, "", None, shown.duration)
        file = self._layout.path(self._layout.clip, sample)
        stamp = _stamp(stretch, self._options)
        made = self._folder.known_clip(file, stamp)
        if made is None:
            part = self._folder.part(file)
            try:
                made = pool.excerpt(
                    stretch.file,
                    stretch.first,
                    stretch.last,
                    part,
                    self._options.encoding,
                    shown.identity,
                )
            except BaseException:
                part.unlink(missing_ok=True)
                raise
            self._folder.add_clip(file, stamp, made)
        return Clip(sample, file, made, shown.duration)


def _stamp(stretch: Stretch, options: DatasetOptions) -> str:
    """Return what decides a clip's content."""
    content = [stretch.metadata.content, stretch.first, stretch.last, asdict(options.encoding)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
