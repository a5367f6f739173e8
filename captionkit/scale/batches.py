"""A recipe as a function over batches, for Ray Data, `datasets.Dataset.map`, Daft and the like."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Unpack

import pandas as pd
import pyarrow as pa

from captionkit.captions import KINDS, CaptionRow, caption_rows, unread_columns, window_columns
from captionkit.engine import Backend, EngineGoneError
from captionkit.models.variants import get_variant
from captionkit.models.weights import locate
from captionkit.pipeline.backends import EngineOptions, check_options, open_backend
from captionkit.pipeline.events import WindowDone
from captionkit.pipeline.flow import caption
from captionkit.recipe import Recipe
from captionkit.scale.parts import SCHEMA
from captionkit.sources import PlannedWindow, SourceClip, plan
from captionkit.system import loop
from captionkit.video import DecodePool

# Name of a video in its rows, and its path or the bytes of its file.
_Video = tuple[str, str | bytes]


class map_batches:  # noqa: N801 (a function to its users)
    """Return a function from a batch of videos to their captions, a row for each stage of a window.

    The function can be pickled. The engine starts at the first batch, one for each process, whichever
    library calls::

        dataset.map(ck.scale.map_batches(recipe), batched=True, remove_columns=dataset.column_names)
        ray_dataset.map_batches(ck.scale.map_batches(recipe), batch_size=8)

    On GPUs, give Ray ``num_gpus=1`` as well. A function of Daft takes one video and yields its rows
    (tried with Daft 0.7)::

        captions = ck.scale.map_batches(recipe)
        kinds = {name: daft.DataType.infer_from_type(kind) for name, kind in captions.kinds.items()}

        @daft.func(return_dtype=daft.DataType.struct(kinds), unnest=True)
        def caption(video: str) -> Iterator[dict]:
            yield from captions.rows(video)

        films.select(caption(films["video"]))

    Parameters
    ----------
    recipe
        Settings of all captions.
    column
        Column of the videos: paths, the bytes of files, or dicts of ``bytes`` and ``path`` as of
        `datasets.Video` without decoding. A row names its video by the path; bytes without one are
        ``sha256-…``.
    batch_size
        Captions that run at once, of all videos of a batch.
    model_dir
        Folder of downloaded weights.
    endpoint
        Address of a vLLM server with the model, used instead of an engine in each process.
    backend
        Backend of the captions; None starts the recipe's engine.
    options
        Further options of the engine, see `pipeline.backends.EngineOptions`. Give ``engines=`` the
        number of processes that share a machine: each plans with its part of the memory.

    Raises
    ------
    ValueError
        If the model is unknown, the recipe has `Recipe.given`, ``batch_size`` is below 1, or an option
        does not fit.
    TypeError
        If an option is unknown.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        column: str = "video",
        batch_size: int = 16,
        model_dir: str | Path = "models/qwen",
        endpoint: str | None = None,
        backend: Backend | None = None,
        **options: Unpack[EngineOptions],
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; give 1 or more")
        recipe.check_without_session("map_batches")
        get_variant(recipe.model)
        check_options(options)
        self.options = options
        self.endpoint = endpoint
        self.recipe = recipe
        self.column = column
        self.batch_size = batch_size
        self.model_dir = str(Path(model_dir).resolve())
        self.backend = backend

    def __call__(self, batch: Any) -> Any:
        """Caption the videos of a batch; return the columns of `captions.CaptionRow`.

        A dict of lists, as a streaming dataset of `datasets` gives and wants it, returns as one. Any
        other batch (a table, a data frame, a dict of arrays) returns as a `pyarrow.Table`.

        A video that is missing or cannot be read is a row with an ``error`` and the window -1; a
        window that cannot be captioned has an ``error``. Columns have the same types in all batches,
        also without a value.

        Raises
        ------
        KeyError
            If the batch lacks the column.
        ValueError
            If the batch has the column twice.
        TypeError
            If the column is no list, or a value neither a path nor bytes.
        EngineError, WeightsError
            If the engine does not start.
        """
        given = self._column(batch)
        table = self._table([_video(each) for each in given])
        return table.to_pydict() if type(batch) is dict and isinstance(given, list) else table

    def _column(self, batch: Any) -> Iterable[Any]:
        """Return the column of the videos."""
        is_arrow = isinstance(batch, (pa.Table, pa.RecordBatch))
        names = list(map(str, batch.schema.names if is_arrow else batch))
        if self.column not in names:
            raise KeyError(
                f"the batch has no column {self.column!r} but {', '.join(names)}; give column="
            )
        if (count := names.count(self.column)) > 1:
            raise ValueError(f"the batch has {count} columns {self.column!r}; drop or rename one")
        given: Iterable[Any] = batch[self.column]
        if isinstance(given, (str, bytes)):
            raise TypeError(f"the column {self.column!r} is a {type(given).__name__}; give a list")
        return given

    def _table(self, videos: list[_Video]) -> pa.Table:
        if self.endpoint is None:
            locate(self.recipe.model, self.model_dir)
        try:
            rows = self._caption(videos)
        except EngineGoneError:
            # Start the engine again for the whole batch, of which nothing has been returned.
            rows = self._caption(videos)
        return pa.Table.from_pylist([asdict(row) for row in rows], SCHEMA)

    #: Type of each column, None aside.
    kinds = KINDS

    def rows(self, video: str | Path | bytes) -> Iterator[dict[str, Any]]:
        """Caption one video and yield its rows; raise as a call does."""
        yield from self._table([_video(video)]).to_pylist()

    def _caption(self, videos: list[_Video]) -> list[CaptionRow]:
        # `Engine.get` returns the engine that runs in this process.
        backend = self.backend or open_backend(
            self.recipe, model_dir=self.model_dir, endpoint=self.endpoint, **self.options
        )

        async def run(windows: list[PlannedWindow], pool: DecodePool) -> list[WindowDone]:
            events = caption(windows, self.recipe, backend, pool, batch_size=self.batch_size)
            return [each async for each in events if isinstance(each, WindowDone)]

        with DecodePool() as pool:
            # A video that comes twice is captioned once.
            planned = {video: self._windows(*video, pool) for video in dict.fromkeys(videos)}
            every = [window for windows, _ in planned.values() for window in windows]
            ended = loop.run(run(every, pool))
        # A copy of a video has the same keys.
        done = {(each.window.path, each.window.key): each for each in ended}
        rows: list[CaptionRow] = []
        for windows, failed in map(planned.__getitem__, videos):
            rows += failed
            for each in (done[window.path, window.key] for window in windows):
                rows += caption_rows(
                    window_columns(each.window), self.recipe, each.captions, each.error, each.warnings
                )
        return rows

    def _windows(
        self, path: str, video: str | bytes, pool: DecodePool
    ) -> tuple[list[PlannedWindow], list[CaptionRow]]:
        """Return a video's windows, or the row that says why it has none."""
        made, name = self.recipe, Path(path).stem
        try:
            if not video:
                raise ValueError("there is no video in this row")
            clip = SourceClip.open(pool, video, path)
            spans = clip.cut(made.window_size, made.remainder_threshold, made.window_seconds)
            return plan(clip, spans, name), []
        except ValueError as error:
            return [], caption_rows(unread_columns(name, path), made, [], str(error))


def _video(value: Any) -> _Video:
    """Return what a row calls a video, and its path or its bytes; a missing value is an empty path."""
    if isinstance(value, pa.Scalar):
        value = value.as_py()
    if isinstance(value, Mapping):
        path, content = value.get("path"), value.get("bytes")
        return (str(path or ""), bytes(content)) if content and path else _video(content or path)
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "", ""
    if isinstance(value, (bytes, bytearray, memoryview)):
        content = bytes(value)
        return f"sha256-{hashlib.sha256(content).hexdigest()[:16]}" if content else "", content
    if isinstance(value, (str, Path)):
        return str(value), str(value)
    raise TypeError(f"a video is a {type(value).__name__}; give a path or the bytes of a file")
