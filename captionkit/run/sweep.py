"""Measure settings on the same windows, each cold and then warm; settings share no cache."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from captionkit import display
from captionkit.display import TextTable, overlap
from captionkit.engine import Backend, EngineError
from captionkit.models.weights import WeightsError
from captionkit.pipeline.events import Caption, WindowDone
from captionkit.pipeline.flow import caption
from captionkit.prompts import PREVIOUS, resolve
from captionkit.recipe import Recipe
from captionkit.review import Comparison, compare_tables, mean_scores, scores
from captionkit.run.run import Run
from captionkit.sources import PlannedWindow, Sources
from captionkit.system import loop
from captionkit.system.memory import GPU_SAMPLE_S, PeakMemory, UsedGpus, resident_children

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = (
    "prompt", "fp8", "batch_size", "cache", "windows", "windows_per_s", "output_tokens_per_s",
    "first_token_p50_s", "first_token_p95_s", "seconds_p50", "seconds_p95", "peak_memory_gb",
    "peak_memory_each_gb", "cached_tokens", "agreement", "error",
)  # fmt: skip
_TEXTS = (
    "prompt", "fp8", "batch_size", "video", "clip", "window", "key", "start_s", "end_s", "text",
)  # fmt: skip


class Measurable(Protocol):
    """Session of a measurement: a `session.Session`."""

    sources: Sources

    def make_recipe(self, prompt: str | None = None, **settings: Any) -> Recipe:
        """Return the session's recipe with changes."""

    def select(self, windows: pd.DataFrame | None) -> list[PlannedWindow]:
        """Return the windows of some rows; None takes all."""

    def texts(
        self, recipe: Recipe, windows: Sequence[PlannedWindow]
    ) -> Callable[[PlannedWindow], Mapping[str, str]]:
        """Return the texts beside the picture that a recipe's prompts have."""

    def open_backend(self, recipe: Recipe, stop: threading.Event | None = None) -> Backend:
        """Start the backend of a recipe; the event ends the start."""


@dataclass(frozen=True)
class Sweep:
    """Results of a sweep: ``table`` has one row for each setting and cache state, with `COLUMNS`.

    ``cache`` is ``cold`` (no cache knows the windows) or ``warm`` (the same windows again).
    ``windows_per_s`` includes decoding. Seconds count from the submission of a window, over all its
    stages, queue included; ``first_token`` belongs to stage 1. ``peak_memory_gb`` is resident memory
    of the engine and the decoders together while the setting ran, including memory that the engine
    keeps from earlier settings; of an engine on GPUs it is the memory in use on the fullest one, by
    anyone, and missing if the driver does not say it (MIG). ``peak_memory_each_gb`` has that of each
    of its GPUs, and nothing without one. ``agreement`` is the mean word overlap with the
    first setting that worked. A setting that cannot run has only its ``error``.
    ``captions`` has the cold text of each setting and window: prompt, fp8, batch_size, video, clip,
    window, key, start_s, end_s, text.
    """

    table: pd.DataFrame
    captions: pd.DataFrame

    def fp8_changes(self) -> Comparison:
        """Compare texts without and with fp8, at each prompt's first batch size.

        Raises
        ------
        ValueError
            If the sweep did not run both.
        """
        first = self.captions.drop_duplicates(["prompt", "fp8", "key"])
        keyed = first.assign(key=first["key"] + " " + first["prompt"])
        sides = [keyed[keyed["fp8"] == eight] for eight in (False, True)]
        if any(side.empty for side in sides):
            raise ValueError("the sweep has no texts with and without fp8; give fp8=[False, True]")
        return compare_tables(sides[0], sides[1], ("without fp8", "with fp8"))

    def scores(self, reference: Run) -> pd.DataFrame:
        """Compare each setting with a reference, the nearest first: the means of `review.scores`.

        The reference is a run of imported captions of people, say; see `Run.scores`.
        """
        measured = scores(self.captions, reference.human)
        means = mean_scores(measured, ["prompt", "fp8", "batch_size"])
        return means.sort_values("overlap", ascending=False, kind="stable").reset_index()

    def figure(self) -> Figure:
        """Draw windows a second and seconds a window by batch size, a line a prompt, fp8 and cache.

        Raises
        ------
        ValueError
            If no setting could run.
        """
        return display.sweep_figure(self.table)

    def _repr_html_(self) -> str:
        return display.frame_html(self.table)


def sweep(
    session: Measurable,
    *,
    batch_sizes: Sequence[int],
    fp8: Sequence[bool],
    prompts: Sequence[str],
    windows: pd.DataFrame | None,
    stopped: threading.Event | None = None,
    on_row: Callable[[dict[str, Any]], None] = lambda row: None,
    **settings: Any,
) -> Sweep:
    """Measure each combination of ``prompts``, ``fp8`` and ``batch_sizes`` on the same windows.

    Parameters
    ----------
    session
        Session with the windows; its store stays unchanged.
    batch_sizes, fp8, prompts
        The grid. fp8 varies slowest, because each value needs another engine.
    windows
        Rows of the session's table; None takes all.
    stopped
        Event that ends the sweep within a window; finished measurements stay.
    on_row
        Called with each new row of the table.
    settings
        Other fields of `Recipe`.

    Raises
    ------
    ValueError
        If an axis is empty, a value does not fit, or no setting could run.
    """
    for name, values in (("batch_sizes", batch_sizes), ("fp8", fp8), ("prompts", prompts)):
        if not values:
            raise ValueError(f"{name} is empty; give at least one value")
    if min(batch_sizes) < 1:
        raise ValueError(f"batch_sizes holds {min(batch_sizes)}; give 1 or more")
    for prompt in prompts:
        resolve(prompt)
    stopped = stopped or threading.Event()
    rows: list[dict[str, Any]] = []
    cold: list[dict[str, Any]] = []
    first: list[str | None] | None = None
    chosen = session.select(windows)
    for eight, prompt, batch_size in itertools.product(fp8, prompts, batch_sizes):
        if stopped.is_set():
            break
        row: dict[str, Any] = {"prompt": prompt, "fp8": eight, "batch_size": batch_size}
        try:
            recipe = session.make_recipe(prompt, **{**settings, "fp8": eight})
            if PREVIOUS in recipe.texts:
                raise ValueError(
                    "a sweep captions windows in any order, so it cannot fill in {previous}"
                )
            beside = session.texts(recipe, chosen)
            backend = session.open_backend(recipe, stopped)
        except (ValueError, EngineError, WeightsError) as error:
            if stopped.is_set():
                break
            rows.append({**row, "error": str(error)})
            on_row(rows[-1])
            continue
        setting = _Setting(session.sources, recipe, backend, batch_size, uuid.uuid4().hex, beside)
        for cache in ("cold", "warm"):
            measured, texts = setting.measure(chosen, stopped)
            if stopped.is_set():
                break
            first = first or texts
            if cache == "cold":
                cold += [{**row, **each} for each in _with_windows(chosen, texts)]
            pairs = [
                (a, b) for a, b in zip(first, texts, strict=True) if a is not None and b is not None
            ]
            agreement = float(np.mean([overlap(*pair) for pair in pairs])) if pairs else None
            rows.append({**row, "cache": cache, **measured, "agreement": agreement})
            on_row(rows[-1])
    table = TextTable(rows, columns=list(COLUMNS))
    if first is None and not stopped.is_set():
        reasons = "; ".join(dict.fromkeys(table["error"]))
        raise ValueError(f"no setting of the sweep can run: {reasons}")
    return Sweep(table, TextTable(cold, columns=list(_TEXTS)))


def _with_windows(
    windows: Sequence[PlannedWindow], texts: Sequence[str | None]
) -> Iterator[dict[str, Any]]:
    """Join texts with the columns of their windows."""
    for window, text in zip(windows, texts, strict=True):
        yield {
            "video": window.video,
            "clip": window.clip,
            "window": window.number,
            "key": window.key,
            "start_s": window.start_s,
            "end_s": window.end_s,
            "text": text,
        }


@dataclass(frozen=True)
class _Setting:
    """One combination of settings, with its own salt for all caches."""

    sources: Sources
    recipe: Recipe
    backend: Backend
    batch_size: int
    salt: str
    texts: Callable[[PlannedWindow], Mapping[str, str]]

    def measure(
        self, windows: Sequence[PlannedWindow], stopped: threading.Event
    ) -> tuple[dict[str, Any], list[str | None]]:
        """Caption the windows; return the figures by column, and the texts in the windows' order."""
        done: list[WindowDone] = []

        async def work() -> None:
            events = caption(
                windows, self.recipe, self.backend, self.sources.pool,
                batch_size=self.batch_size, salt=self.salt, texts=self.texts,
            )  # fmt: skip
            async for event in events:
                if stopped.is_set():
                    return
                if isinstance(event, WindowDone):
                    done.append(event)

        info = self.backend.info
        gpus = UsedGpus(info.get("devices", ()), info.get("tensor_parallel", 1))
        on_gpu = info.get("device") == "cuda"
        peak = PeakMemory(gpus, GPU_SAMPLE_S) if on_gpu else PeakMemory(resident_children)
        with peak:
            started = time.monotonic()
            loop.run(work())
            spent = time.monotonic() - started
        captioned = [each.captions for each in done if each.error is None]
        figures = {
            **_figures(captioned, spent),
            "peak_memory_gb": peak.most / 1e9 if peak.most else None,
            "peak_memory_each_gb": tuple(each / 1e9 for each in gpus.most) if peak.most else None,
            "error": "; ".join(dict.fromkeys(each.error for each in done if each.error)) or None,
        }
        texts = {each.window.key: each.captions[-1].text for each in done if each.captions}
        return figures, [texts.get(window.key) for window in windows]


def _figures(captioned: Sequence[Sequence[Caption]], spent: float) -> dict[str, Any]:
    """Return rates and times of captioned windows."""
    every = [each for stages in captioned for each in stages]
    figures: dict[str, Any] = {
        "windows": len(captioned),
        "windows_per_s": len(captioned) / spent,
        "output_tokens_per_s": sum(each.output_tokens for each in every) / spent,
        "cached_tokens": sum(each.cached_tokens for each in every),
    }
    first_tokens = [stages[0].first_token_s for stages in captioned]
    totals = [sum(each.seconds for each in stages) for stages in captioned]
    for name, values in (("first_token_{}_s", first_tokens), ("seconds_{}", totals)):
        for part in (50, 95):
            figures[name.format(f"p{part}")] = float(np.percentile(values, part)) if values else None
    return figures
