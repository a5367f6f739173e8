"""Session: videos and a model, ready to be captioned again and again with other prompts.

What a notebook holds: it knows the windows, runs recipes on them, and keeps every result in the store.
Imports stages, flow, runs and store; called by notebooks, widgets and the command line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from captionkit.system import loop
from captionkit.pipeline.caption import caption_windows
from captionkit.runs.matrix import Matrix
from captionkit.prompts import STAGE2_DEFAULT
from captionkit.recipe import Recipe
from captionkit.runs.run import Run, RunEvent, open_store
from captionkit.runs.progress import follow
from captionkit.sources.collection import ModelFrames, Sources, SourceWindow, WindowTable, task_of
from captionkit.stages import CaptionGenerationStage, CaptionPreparationStage
from captionkit.stages.generation import CaptionEvent
from captionkit.store import Job, Store
from captionkit.runs.sweep import Sweep, sweep
from captionkit.stages.tasks import VideoTask
from captionkit.video import Reader

_SETTINGS = {field.name for field in fields(Recipe)} - {"prompt", "stage2_prompt"}


class Session:
    """Videos, a model and a store.

    Parameters
    ----------
    source
        A path, a pattern (``"data/*.mp4"``; where nothing matches, folders below are searched), a
        folder, a list of these, or ``VideoTask`` objects.
    model
        See `models.variants.get_variant`.
    recipe
        What all runs begin with; ``model`` and what is given to `caption` change it.
    batch_size
        Captions that run at once.
    store
        Where runs are kept: a path, or an open store.
    model_dir
        Folder for downloaded weights.
    reader
        ``"pyav"``, or ``"decord"`` for the streams that it reads exactly.
    endpoint
        Address of a vLLM server (``http://localhost:8000/v1``, see ``captionkit serve``) that captions
        instead of an engine of this session's own. A key is read from ``CAPTIONKIT_API_KEY``.

    Raises
    ------
    FileNotFoundError, ValueError
        No video is found, or none of them can be read.
    """

    def __init__(
        self,
        source: str | Path | VideoTask | Iterable[str | Path | VideoTask],
        model: str | None = None,
        *,
        recipe: Recipe | None = None,
        batch_size: int = 16,
        store: Store | str | Path | None = None,
        model_dir: str = "models/qwen",
        reader: Reader = "pyav",
        endpoint: str | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; give 1 or more")
        recipe = recipe or Recipe()
        self.recipe = replace(recipe, variant=model) if model else recipe
        self.batch_size = batch_size
        self.model_dir = model_dir
        self.endpoint = endpoint
        self.store = open_store(store)
        planner = CaptionPreparationStage.from_recipe(self.recipe, reader=reader)
        self.source = source if isinstance(source, (str, Path, VideoTask)) else list(source)
        self.sources = Sources(self.source, planner)
        self.last_run: Run | None = None

    def __repr__(self) -> str:
        return (
            f"<Session: {self.recipe.variant}, {len(self.sources.windows)} windows, {self.store.path}>"
        )

    @property
    def windows(self) -> WindowTable:
        """All windows, a row each: video, window, start, end (seconds), frames, note, id.

        Shows itself with thumbnails in a notebook. Filter it as any pandas table.
        """
        notes = dict(self.store.rows("SELECT key, note FROM windows WHERE note != ''"))
        return self.sources.table(notes, self.thumbnails)

    @property
    def problems(self) -> dict[str, str]:
        """Videos that cannot be read or have no window, and why."""
        return dict(self.sources.problems)

    def sample(self, count: int, seed: int = 0) -> WindowTable:
        """Some windows, spread evenly over the videos; all of them where there are fewer."""
        if count < 1:
            raise ValueError(f"count is {count}; give 1 or more")
        table, rng = self.windows, np.random.default_rng(seed)
        turns = [
            (turn, rng.random(), row)
            for rows in table.groupby("video", sort=False).groups.values()
            for turn, row in enumerate(rng.permutation(np.array(rows)))
        ]
        chosen = sorted(row for _, _, row in sorted(turns)[:count])
        return table.loc[chosen]

    def annotate(self, windows: pd.DataFrame, note: str) -> None:
        """Set the note of windows; it is kept in the store and shown in `windows`."""
        self.store.note_windows([each.stored for each in self.sources.select(windows)], note)

    def thumbnails(self, video: str, window: int) -> bytes | None:
        """A small JPEG of a window's middle frame; None where it cannot be read."""
        return self.sources.thumbnail(video, window)

    def frames(self, video: str, window: int, recipe: Recipe | None = None) -> ModelFrames:
        """The very frames of a window that the model sees under a recipe (None: the session's)."""
        return self.sources.frames(video, window, recipe or self.recipe)

    def clip(self, video: str, window: int) -> bytes:
        """A window as an H.264 mp4 file to play, at most 640 wide and without sound."""
        return self.sources.clip(video, window)

    def recut(self, window_size: int) -> Session:
        """A session on the same videos and store, with windows of another length in frames."""
        shorter = min(self.recipe.remainder_threshold, window_size // 2)
        return Session(
            self.source,
            recipe=replace(self.recipe, window_size=window_size, remainder_threshold=shorter),
            batch_size=self.batch_size,
            store=self.store,
            model_dir=self.model_dir,
            reader=self.sources.pool.reader,
            endpoint=self.endpoint,
        )

    def make_recipe(
        self,
        prompt: str | None = None,
        stage2: str | bool | None = None,
        recipe: Recipe | None = None,
        **settings: Any,
    ) -> Recipe:
        """The session's recipe with changes; see `caption`."""
        made = recipe or self.recipe
        unknown = sorted(set(settings) - _SETTINGS)
        if unknown:
            raise TypeError(
                f"unknown setting {', '.join(unknown)}; there are: {', '.join(sorted(_SETTINGS))}"
            )
        if prompt is not None:
            settings["prompt"] = prompt
        if stage2 is not None:
            text = STAGE2_DEFAULT if stage2 is True else stage2 or None
            settings["stage2_prompt"] = text
        made = replace(made, **settings)
        for name in ("window_size", "remainder_threshold"):
            own, wanted = getattr(self.recipe, name), getattr(made, name)
            if own != wanted:
                raise ValueError(
                    f"{name} is {wanted}, but this session's windows were cut with {own}; make a "
                    f"session for it: Session(…, recipe=Recipe({name}={wanted}))"
                )
        return made

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
        **settings: Any,
    ) -> Run:
        """Begin to caption, and return at once with the run that fills up; see `caption`.

        A run of lower ``priority`` goes first: -1 for a window that somebody is looking at.
        """
        if repeats < 1:
            raise ValueError(f"repeats is {repeats}; give 1 or more")
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; give 1 or more")
        made = self.make_recipe(prompt, stage2, recipe, **settings)
        chosen = self.sources.select(windows)
        if not chosen:
            raise ValueError("there is no window to caption: the table of windows is empty")
        number = self.store.add_run(
            made,
            [each.stored for each in chosen],
            repeats=repeats,
            batch_size=batch_size or self.batch_size,
            fresh=fresh,
        )
        run = self.last_run if self.last_run and self.last_run.id == number else None
        run = run or Run(self.store, number, self)
        self.last_run = run
        if run.status != "running":
            self.work_on(run, batch_size, priority)
        return run

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

        What the same recipe said of the same window before is not computed again, and a run that was
        interrupted goes on. An interrupt (Ctrl-C, a notebook's stop button) keeps what is done.

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
            Captions that run at once; None takes the session's.
        fresh
            Compute everything anew.
        repeats
            How often each window is captioned; each time has a seed of its own.
        settings
            Other fields of `Recipe`, as ``temperature=0``.
        """
        run = self.start(
            prompt,
            stage2,
            windows,
            recipe=recipe,
            batch_size=batch_size,
            fresh=fresh,
            repeats=repeats,
            **settings,
        )
        return follow(run)

    def open(self, id: int) -> Run:  # noqa: A002
        """A run of earlier that this session can go on with."""
        return Run(self.store, id, self)

    def matrix(
        self, prompts: Sequence[str], windows: pd.DataFrame | None = None, **settings: Any
    ) -> Matrix:
        """Caption windows with several prompts: one column a prompt."""
        if not prompts:
            raise ValueError("there is no prompt; give a list of names or texts")
        return Matrix(
            {p: self.caption(p, windows=windows, **settings) for p in prompts}, self.thumbnails
        )

    def sweep(
        self,
        *,
        batch_sizes: Sequence[int] | None = None,
        fp8: Sequence[bool] = (False,),
        prompts: Sequence[str] | None = None,
        windows: pd.DataFrame | None = None,
        **settings: Any,
    ) -> Sweep:
        """Measure each combination of settings on the same windows; see `sweep.sweep`."""
        return sweep(
            self,
            batch_sizes=batch_sizes or [self.batch_size],
            fp8=fp8,
            prompts=prompts or [self.recipe.prompt],
            windows=windows,
            **settings,
        )

    def work_on(self, run: Run, batch_size: int | None = None, priority: int = 0) -> None:
        """Caption what waits in a run; returns at once."""
        waiting = [job for job in self.store.jobs(run.id) if not job.done]
        known = {each.stored.key: each for each in self.sources.windows}
        missing = {job.window_key for job in waiting} - known.keys()
        if missing:
            raise ValueError(
                f"{len(missing)} windows of run {run.id} are not in this session; open the videos "
                "that it was made of"
            )
        size = batch_size or self.batch_size
        run.begin(lambda: loop.submit(self._work(run, waiting, known, size, priority)))

    async def _work(
        self,
        run: Run,
        jobs: list[Job],
        known: Mapping[str, SourceWindow],
        batch_size: int,
        priority: int,
    ) -> None:
        try:
            run.begun()
            for repeat in sorted({job.repeat for job in jobs}):
                recipe = run.recipe
                if run.repeats > 1:
                    recipe = replace(recipe, seed=(recipe.seed or 0) + repeat)
                these = [job for job in jobs if job.repeat == repeat]
                windows = [known[job.window_key] for job in these]
                await self._caption(run, recipe, these, windows, batch_size, priority)
        finally:
            run.tell(RunEvent("end"))

    async def _caption(
        self,
        run: Run,
        recipe: Recipe,
        jobs: list[Job],
        windows: list[SourceWindow],
        batch_size: int,
        priority: int,
    ) -> None:
        generation = CaptionGenerationStage.from_recipe(
            recipe,
            model_dir=self.model_dir,
            caption_batch_size=batch_size,
            endpoint=self.endpoint,
        )
        preparation = CaptionPreparationStage.from_recipe(recipe, pool=self.sources.pool)
        # Loading takes seconds to minutes: not in the loop that other runs share.
        await asyncio.to_thread(generation.setup)
        task, homes = task_of(windows)

        def on_event(event: CaptionEvent) -> None:
            if event.error is not None:
                return
            place = homes[event.clip_index][event.window_index]
            shown = windows[place].stored
            if event.caption is None:
                run.tell(RunEvent("text", shown.video, shown.number, event.stage, event.text))
                return
            job = jobs[place]
            self.store.add_caption(run.id, job.position, job.repeat, event.caption)
            run.tell(RunEvent("caption", shown.video, shown.number, event.stage, event.text))

        clips = {id(clip): number for number, clip in enumerate(task.data.clips)}
        async for result in caption_windows(
            [task], preparation, generation, on_event, priority=priority
        ):
            place = homes[clips[id(result.clip)]][result.window_index]
            job, shown = jobs[place], windows[place].stored
            self.store.finish(run.id, job.position, job.repeat, result.error, result.window.warnings)
            stages = result.window.captions.get(recipe.variant, [])
            text = stages[-1].text if stages else ""
            run.tell(RunEvent("window", shown.video, shown.number, len(stages), text, result.error))

    def close(self) -> None:
        """End the decoding processes and close the store; the engine stays for other sessions."""
        self.sources.close()
        self.store.close()
