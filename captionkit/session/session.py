"""Session: videos and a model, ready to be captioned again and again with other prompts.

A session knows the windows of its videos, runs recipes on them and keeps every result in the store.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import pandas as pd

from captionkit.engine import Backend
from captionkit.models.weights import locate
from captionkit.pipeline.backends import (
    EngineOptions,
    check_length,
    check_options,
    default_batch_size,
    open_backend,
)
from captionkit.pipeline.prepared import ModelFrames, model_frames
from captionkit.recipe import Recipe
from captionkit.run.asking import Asking
from captionkit.run.matrix import Matrix
from captionkit.run.progress import follow
from captionkit.run.run import Run
from captionkit.run.sweep import Sweep, sweep
from captionkit.run.task import RunTask
from captionkit.session.searching import SessionSearch
from captionkit.session.texts import Meta, WindowTexts
from captionkit.session.windows import check_count
from captionkit.sources import Cut, CutRule, PlannedWindow, Sources, Spans, refuse_recut, rows
from captionkit.stages.adapter import video_requests
from captionkit.stages.tasks import VideoTask
from captionkit.store import Store, open_store
from captionkit.video import DecodePool, Reader

logger = logging.getLogger(__name__)

_AT_ONCE_S = 0.5


class Session(SessionSearch):
    """Videos, a model and a store.

    A session is there as soon as its first windows are; other videos are opened in the background. What
    takes all windows (`windows`, `problems`, `caption` without rows) waits for the end.

    Parameters
    ----------
    source
        A path, a pattern (``"data/*.mp4"``; if nothing matches, the folders below are searched), a
        folder, `VideoTask` objects, or a list of these.
    spans
        Table or file of windows to take instead of cutting, see `sources.span_requests`; its videos are
        looked for in ``source``, if needed.
    meta
        Table (pandas, ``.csv``, ``.parquet``, ``.jsonl``) whose columns stand in prompts as
        ``{meta.COLUMN}``, see `session.texts`; None takes ``spans``, if that is a table.
    cut
        ``"frames"``, or ``"scenes"`` to cut at shots as well (extra ``scenes``; see `sources.scenes`).
    model
        A registered name, a folder with weights, or a repository id.
    recipe
        Settings of every run; ``model`` and the arguments of `caption` change single ones.
    batch_size
        Captions that run at once in an engine. None takes 16, and on a GPU what its memory has room
        for, up to 64; see `pipeline.default_batch_size`.
    decoders
        Processes that read frames; None takes one for each core that this process may use, up to 32.
    store
        Store of the runs: a path, or an open store, which `close` then leaves open.
    model_dir
        Folder for downloaded weights.
    reader
        ``"pyav"``, or ``"decord"`` for streams that decord reads exactly.
    endpoint
        Address of a vLLM server (``http://localhost:8000/v1``, see ``captionkit serve``), used instead
        of starting an engine. The environment variable ``CAPTIONKIT_API_KEY`` has the server's key.
    backend
        Backend for every recipe, whatever its model; None starts an engine or takes the endpoint.
    engine_options
        Memory of an engine, ``max_model_len`` and ``memory_share``, and GPUs: ``gpus`` for one engine
        on each, ``tensor_parallel`` for GPUs that share a model; see `pipeline.EngineOptions`.

    Raises
    ------
    FileNotFoundError, ValueError
        If no video is found, or none of them can be read; if an argument does not fit.
    """

    def __init__(
        self,
        source: str | Path | VideoTask | Iterable[str | Path | VideoTask] | None = None,
        model: str | None = None,
        *,
        spans: Spans | None = None,
        meta: Meta | None = None,
        cut: Cut = "frames",
        recipe: Recipe | None = None,
        batch_size: int | None = None,
        decoders: int | None = None,
        store: Store | str | Path | None = None,
        model_dir: str = "models/qwen",
        reader: Reader = "pyav",
        endpoint: str | None = None,
        backend: Backend | None = None,
        **engine_options: Unpack[EngineOptions],
    ) -> None:
        for name, count in (("batch_size", batch_size), ("decoders", decoders)):
            if count is not None:
                check_count(name, count)
        check_options(engine_options)
        recipe = recipe or Recipe()
        self.recipe = replace(recipe, model=model) if model else recipe
        if batch_size is None:
            own = endpoint is None and backend is None
            batch_size = default_batch_size(self.recipe, model_dir, **engine_options) if own else 16
        self.batch_size = batch_size
        self.model_dir = model_dir
        self.endpoint = endpoint
        self.backend = backend
        self.engine_options = engine_options
        self.store = open_store(store)
        self._owns_store = self.store is not store
        self.source = source if isinstance(source, (str, Path, VideoTask)) else list(source or [])
        self.spans, self.cut, self.meta = spans, cut, meta
        self._tasks: dict[int, RunTask] = {}
        self._askings: weakref.WeakSet[Asking] = weakref.WeakSet()
        self._lock = threading.Lock()
        videos, problems = video_requests(self.source, spans, cut)
        rule, pool = CutRule(self.recipe, cut), DecodePool(decoders, reader)
        self.sources = Sources(videos, rule, pool, problems, self.store.adopt)
        try:
            self._wait(first=True)
            # A small collection is complete from the start.
            self.sources.wait(_AT_ONCE_S)
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        opening, missing = self.opening, len(self.sources.left_out)
        left_out = f", {missing} left out (see .problems)" if missing else ""
        return f"<Session: {self.recipe.model}, {opening}{left_out}, {self.store.path}>"

    def frames(self, video: str, window: int, recipe: Recipe | None = None) -> ModelFrames:
        """Return the exact frames of a window that the model sees; recipe None is the session's."""
        recipe = recipe or self.recipe
        locate(recipe.model, self.model_dir)
        return model_frames(self.sources.find(video, window), recipe, self.sources.pool)

    def recut(
        self,
        window_size: int | None = None,
        cut: Cut | None = None,
        window_seconds: float | None = None,
    ) -> Session:
        """Return a session on the same videos and store, to be closed first; without given spans."""
        recipe = self.recipe.cut_by(window_size, window_seconds)
        return self._again(self.source or self.sources.paths, None, cut or self.cut, recipe)

    def look_again(self) -> Session:
        """Return a session on what the source has now: replaced files, and new files of a folder.

        This session is to be closed first.
        """
        return self._again(self.source, self.spans, self.cut, self.recipe)

    def _again(self, source: Any, spans: Spans | None, cut: Cut, recipe: Recipe) -> Session:
        return Session(
            source,
            spans=spans,
            meta=self.meta,
            cut=cut,
            recipe=recipe,
            batch_size=self.batch_size,
            decoders=self.sources.pool.workers,
            store=self.store,
            model_dir=self.model_dir,
            reader=self.sources.pool.reader,
            endpoint=self.endpoint,
            backend=self.backend,
            **self.engine_options,
        )

    def make_recipe(
        self,
        prompt: str | None = None,
        stage2: str | bool | None = None,
        recipe: Recipe | None = None,
        **settings: Any,
    ) -> Recipe:
        """Return the session's recipe with changes; see `caption`."""
        made = (recipe or self.recipe).changed(prompt, stage2, **settings)
        refuse_recut(self.recipe, made)
        return made

    def open_backend(self, recipe: Recipe, stop: threading.Event | None = None) -> Backend:
        """Start the backend of a recipe, or take the running one; see `pipeline.open_backend`."""
        if self.backend is not None:
            check_length(recipe, self.backend)
            return self.backend
        return open_backend(
            recipe, model_dir=self.model_dir, endpoint=self.endpoint, stop=stop, **self.engine_options
        )

    def start(
        self,
        prompt: str | None = None,
        stage2: str | bool | None = None,
        windows: pd.DataFrame | None = None,
        *,
        recipe: Recipe | None = None,
        batch_size: int | None = None,
        fresh: bool = False,
        repeats: int = 1,
        priority: int = 0,
        retry_failed: bool = False,
        **settings: Any,
    ) -> RunTask:
        """Start to caption and return the work under way at once; see `caption`.

        Work of lower ``priority`` goes first: -1 for a window on the screen. ``retry_failed`` tries the
        failed windows of an earlier run again.
        """
        size = self.batch_size if batch_size is None else batch_size
        check_count("repeats", repeats)
        check_count("batch_size", size)
        made = self.make_recipe(prompt, stage2, recipe, **settings)
        chosen = self.select(windows)
        if not chosen:
            raise ValueError("there is no window to caption: the table of windows is empty")
        texts = self.texts(made, chosen)
        for line in texts.missing():
            logger.warning("%s", line)
        number = self.store.add_run(
            made, chosen, repeats=repeats, batch_size=size, fresh=fresh, texts=texts.known()
        )
        if retry_failed:
            self.store.forget_failures(number)
        return self._work(Run(self.store, number, self), size, priority, texts)

    def caption(
        self,
        prompt: str | None = None,
        stage2: str | bool | None = None,
        windows: pd.DataFrame | None = None,
        *,
        recipe: Recipe | None = None,
        batch_size: int | None = None,
        fresh: bool = False,
        repeats: int = 1,
        **settings: Any,
    ) -> Run:
        """Caption windows and return the run.

        The same recipe on the same window is not computed again, and an interrupted run resumes. An
        interrupt (Ctrl-C, a notebook's stop button) keeps all finished captions. If another kernel
        works on the same run, the two kernels share its windows.

        Parameters
        ----------
        prompt
            Name from the prompt library, or a text.
        stage2
            Text of a second stage, which may place ``{caption}``; True takes the library's.
        windows
            Rows of `windows`; None takes all.
        recipe
            A recipe instead of the session's.
        batch_size
            Captions that run at once; None takes the session's number.
        fresh
            Compute every caption again.
        repeats
            How often each window is captioned; each repeat has its own seed.
        settings
            Other fields of `Recipe`, such as ``temperature=0``.
        """
        return follow(
            self.start(
                prompt,
                stage2,
                windows,
                recipe=recipe,
                batch_size=batch_size,
                fresh=fresh,
                repeats=repeats,
                **settings,
            )
        )

    def open(self, id: int) -> Run:  # noqa: A002
        """Return an earlier run, which this session can resume."""
        return Run(self.store, id, self)

    def work_on(self, run: Run, batch_size: int | None = None) -> RunTask:
        """Caption the open windows of a run; return at once.

        Raises
        ------
        ValueError
            If some of these windows are not in this session.
        """
        jobs = self.store.jobs(run.id)
        known = self.find_windows([job.window_key for job in jobs if not job.done], run.id)
        chosen = [known[job.window_key] for job in jobs if job.window_key in known]
        return self._work(run, batch_size or self.batch_size, 0, self.texts(run.recipe, chosen))

    def find_windows(self, keys: Iterable[str], run: int) -> Mapping[str, PlannedWindow]:
        """Return this session's windows by key, after a check that windows of a run are among them.

        Raises
        ------
        ValueError
            If some of these windows are not in this session.
        """
        wanted = set(keys)
        if not all(key in self.sources.by_key for key in wanted):
            self._wait()
            rows.refuse_missing(wanted, self.sources.by_key, run)
        return self.sources.by_key

    def keep(self, asking: Asking) -> None:
        """Cancel questions that are under way when this session closes."""
        self._askings.add(asking)

    def texts(self, recipe: Recipe, windows: Sequence[PlannedWindow]) -> WindowTexts:
        """Return the texts beside the picture that a recipe's prompts have; see `session.texts`."""
        spans = self.spans if isinstance(self.spans, pd.DataFrame) else None
        if isinstance(self.spans, (str, Path)) and Path(self.spans).suffix.lower() == ".csv":
            spans = self.spans
        return WindowTexts(recipe.texts, windows, self.meta if self.meta is not None else spans)

    def _work(self, run: Run, batch_size: int, priority: int, texts: WindowTexts) -> RunTask:
        """Return the work under way on a run in this session; start one if there is none."""
        with self._lock:
            self._tasks = {id_: task for id_, task in self._tasks.items() if task.running}
            if run.id not in self._tasks:
                self._tasks[run.id] = RunTask(
                    run,
                    self.sources.by_key,
                    self.open_backend,
                    self.sources.pool,
                    batch_size=batch_size,
                    priority=priority,
                    texts=texts,
                )
            return self._tasks[run.id]

    def matrix(
        self, prompts: Sequence[str], windows: pd.DataFrame | None = None, **settings: Any
    ) -> Matrix:
        """Caption windows with several prompts, one column each."""
        if not prompts:
            raise ValueError("there is no prompt; give a list of names or texts")
        runs = {prompt: self.caption(prompt, windows=windows, **settings) for prompt in prompts}
        return Matrix(runs, self.thumbnail)

    def sweep(
        self,
        *,
        batch_sizes: Sequence[int] | None = None,
        fp8: Sequence[bool] = (False,),
        prompts: Sequence[str] | None = None,
        windows: pd.DataFrame | None = None,
        **settings: Any,
    ) -> Sweep:
        """Measure each combination of settings on the same windows; see `run.sweep.sweep`."""
        return sweep(
            self,
            batch_sizes=batch_sizes or [self.batch_size],
            fp8=fp8,
            prompts=prompts or [self.recipe.prompt],
            windows=windows,
            **settings,
        )

    def close(self) -> None:
        """Stop all work and end the decoding processes; close a store that this session opened.

        The engine keeps running for other sessions.
        """
        for task in list(self._tasks.values()):
            task.cancel()
        for asking in list(self._askings):
            asking.cancel()
        self.sources.close()
        if self._owns_store:
            self.store.close()
