"""Measuring settings: each on the same windows, cold and warm, no one with another's cache.

Imports stages, flow and compare; called by sessions.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
import psutil

from captionkit.review import comparison
from captionkit.display import html as display
from captionkit.system import loop
from captionkit.display.diff import overlap
from captionkit.engine.errors import EngineError
from captionkit.pipeline.caption import caption_windows
from captionkit.models.weights import WeightsError
from captionkit.prompts import resolve
from captionkit.recipe import Recipe
from captionkit.sources.collection import Sources, task_of
from captionkit.stages import CaptionGenerationStage, CaptionPreparationStage
from captionkit.stages.tasks import Caption

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = (
    "prompt", "fp8", "batch_size", "cache", "windows", "windows_per_s", "output_tokens_per_s",
    "first_token_p50_s", "first_token_p95_s", "seconds_p50", "seconds_p95", "peak_memory_gb",
    "cached_tokens", "agreement", "error",
)  # fmt: skip
_SAID = ("prompt", "fp8", "batch_size", "video", "clip", "window", "start_s", "end_s", "text")
_SAMPLE_S = 0.05


class Measurable(Protocol):
    """What is measured with: a `session.Session`."""

    sources: Sources
    model_dir: str
    endpoint: str | None

    def make_recipe(self, prompt: str | None = None, **settings: Any) -> Recipe:
        """The session's recipe with changes."""


@dataclass(frozen=True)
class Sweep:
    """What a sweep measured: ``table`` has the columns `COLUMNS`, one row a setting and cache state.

    ``cache`` is ``cold`` (no cache knows the windows) or ``warm`` (the same once more).
    ``windows_per_s`` counts decoding in. Seconds are those of a window from submission on, over all
    its stages, with the wait for its turn; ``first_token`` is that of stage 1. ``peak_memory_gb`` is
    resident memory of the engine and the decoders together while the setting ran; what the engine
    holds from settings before is in it. ``agreement`` is the mean word overlap with the first setting
    that worked. A setting that cannot run has only its ``error``.
    ``captions`` has the cold text of each setting and window: prompt, fp8, batch_size, video, clip,
    window, start_s, end_s, text.
    """

    table: pd.DataFrame
    captions: pd.DataFrame

    def fp8_changes(self) -> comparison.Comparison:
        """What fp8 changed in the texts: bf16 against fp8 at each prompt's first batch size.

        Raises
        ------
        ValueError
            The sweep did not run both.
        """
        first = self.captions.drop_duplicates(["prompt", "fp8", "clip", "window"])
        keyed = first.assign(clip=first["clip"] + " " + first["prompt"])
        sides = [keyed[keyed["fp8"] == eight] for eight in (False, True)]
        if any(side.empty for side in sides):
            raise ValueError("the sweep has no texts with and without fp8; give fp8=[False, True]")
        return comparison.compare_tables(sides[0], sides[1], ("without fp8", "with fp8"))

    def figure(self) -> Figure:
        """Windows a second and seconds a window by batch size: a line for each prompt, fp8 and cache.

        Raises
        ------
        ValueError
            No setting could run.
        """
        return display.sweep_figure(self.table)

    def _repr_html_(self) -> str:
        return str(
            self.table.to_html(index=False, float_format="{:.3g}".format, na_rep="", escape=True)
        )


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
        What to measure with; its store is not written to.
    batch_sizes, fp8, prompts
        The grid. fp8 varies slowest: it needs another engine.
    windows
        Rows of the session's table; None takes all.
    stopped
        Once it is set, the sweep ends within a window, with what it has measured whole.
    on_row
        Told of each row of the table as it is measured.
    settings
        Other fields of `Recipe`.

    Raises
    ------
    ValueError
        An axis is empty or a value does not fit, or no setting at all could run.
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
    said: list[dict[str, Any]] = []
    first: list[str | None] | None = None
    for eight, prompt, batch_size in itertools.product(fp8, prompts, batch_sizes):
        if stopped.is_set():
            break
        row: dict[str, Any] = {"prompt": prompt, "fp8": eight, "batch_size": batch_size}
        try:
            recipe = session.make_recipe(prompt, **{**settings, "fp8": eight})
            stage = CaptionGenerationStage.from_recipe(
                recipe,
                model_dir=session.model_dir,
                caption_batch_size=batch_size,
                endpoint=session.endpoint,
            )
            stage.setup()
        except (ValueError, EngineError, WeightsError) as error:
            rows.append({**row, "error": str(error)})
            on_row(rows[-1])
            continue
        salt = uuid.uuid4().hex
        for cache in ("cold", "warm"):
            measured, texts = _measure(session, recipe, stage, windows, salt, stopped)
            if stopped.is_set():
                break
            first = first or texts
            if cache == "cold":
                said += [{**row, **each} for each in _told(session, windows, texts)]
            pairs = [
                (a, b) for a, b in zip(first, texts, strict=True) if a is not None and b is not None
            ]
            agreement = float(np.mean([overlap(*pair) for pair in pairs])) if pairs else None
            rows.append({**row, "cache": cache, **measured, "agreement": agreement})
            on_row(rows[-1])
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    if first is None and not stopped.is_set():
        reasons = "; ".join(dict.fromkeys(table["error"]))
        raise ValueError(f"no setting of the sweep can run: {reasons}")
    return Sweep(table, pd.DataFrame(said, columns=list(_SAID)))


def _told(
    session: Measurable, windows: pd.DataFrame | None, texts: Sequence[str | None]
) -> Iterator[dict[str, Any]]:
    """Texts with their windows, as far as there are texts."""
    for each, text in zip(session.sources.select(windows), texts, strict=True):
        known = each.stored
        yield {
            "video": known.video,
            "clip": known.clip,
            "window": known.number,
            "start_s": known.start_s,
            "end_s": known.end_s,
            "text": text,
        }


def _measure(
    session: Measurable,
    recipe: Recipe,
    generation: CaptionGenerationStage,
    windows: pd.DataFrame | None,
    salt: str,
    stopped: threading.Event,
) -> tuple[dict[str, Any], list[str | None]]:
    chosen = session.sources.select(windows)
    preparation = CaptionPreparationStage.from_recipe(
        recipe, pool=session.sources.pool, cache_salt=salt
    )
    task, homes = task_of(chosen)
    errors: list[str] = []
    first_tokens: list[float] = []
    totals: list[float] = []
    captions: list[Caption] = []

    async def work() -> None:
        async for result in caption_windows([task], preparation, generation):
            if stopped.is_set():
                return
            if result.error:
                errors.append(result.error)
                continue
            stages = result.window.captions[recipe.variant]
            captions.extend(stages)
            first_tokens.append(stages[0].first_token_s)
            totals.append(sum(each.seconds for each in stages))

    with PeakMemory(_resident_children) as memory:
        begun = time.monotonic()
        loop.run(work())
        spent = time.monotonic() - begun
    texts: list[str | None] = [None] * len(chosen)
    for clip, places in zip(task.data.clips, homes, strict=True):
        for window, place in zip(clip.windows, places, strict=True):
            texts[place] = window.caption.get(recipe.variant)
    measured: dict[str, Any] = {
        "windows": len(totals),
        "windows_per_s": len(totals) / spent,
        "output_tokens_per_s": sum(each.output_tokens for each in captions) / spent,
        "peak_memory_gb": memory.most / 1e9,
        "cached_tokens": sum(each.cached_tokens for each in captions),
        "error": "; ".join(dict.fromkeys(errors)) or None,
    }
    for name, values in (("first_token_{}_s", first_tokens), ("seconds_{}", totals)):
        for part in (50, 95):
            measured[name.format(f"p{part}")] = float(np.percentile(values, part)) if values else None
    return measured, texts


def _resident_children() -> int:
    """Resident memory of all child processes, in bytes."""
    total = 0
    for child in psutil.Process(os.getpid()).children(recursive=True):
        try:
            total += child.memory_info().rss
        except psutil.Error:
            continue
    return total


class PeakMemory:
    """The most that ``total`` says while a block runs and at its end, in bytes."""

    def __init__(self, total: Callable[[], int]) -> None:
        self.most = 0
        self._total = total
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        ended = False
        while not ended:
            ended = self._ended.wait(_SAMPLE_S)
            self.most = max(self.most, self._total())

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
