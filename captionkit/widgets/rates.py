"""Rates: what was measured of the runs of a board, to estimate what the next one will take."""

from __future__ import annotations

from captionkit.engine import Engine, EngineKey
from captionkit.recipe import Recipe
from captionkit.widgets.change import Work
from captionkit.widgets.rows import Rows


class Rates:
    """Seconds a window, by model and stages; the windows that an engine has seen, and its start."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, object], set[int]] = {}
        self._seconds: dict[tuple[object, ...], float] = {}
        #: Seconds that engines took to start, by their `EngineKey.anywhere`.
        self.starts: dict[EngineKey, float] = {}

    def take(self, work: Work, windows: Rows) -> None:
        """Measure a run that ended."""
        engine, run = Engine.live(), work.task.run
        if engine is not None:
            self.starts[engine.key.anywhere] = engine.info["start_s"]
        seen = self._seen.setdefault((_pid(engine), run.recipe.frames_key), set())
        captioned = run.store.captioned_keys(run.id)
        indexes = {windows.by_key[key] for key in captioned if key in windows.by_key}
        rate = work.task.progress.windows_per_s
        if work.waiting and rate and run.status == "done":
            kind = "known" if indexes <= seen else "cold"
            self._seconds[kind, *_work_of(run.recipe)] = 1 / rate
        seen |= indexes

    def seconds(self, recipe: Recipe, known: int, cold: int) -> float | None:
        """Return the seconds for windows that the engine knows and others; None if not measured."""
        measured = [self._seconds.get((kind, *_work_of(recipe))) for kind in ("known", "cold")]
        if (known and not any(measured)) or (cold and measured[1] is None):
            return None
        # A known window takes no longer than one that is new.
        return (measured[0] or measured[1] or 0.0) * known + (measured[1] or 0.0) * cold

    def seen(self, recipe: Recipe) -> set[int]:
        """Return indexes of windows whose frames the live engine knows, as a recipe shows them."""
        return self._seen.get((_pid(Engine.live()), recipe.frames_key), set())

    def forget_windows(self) -> None:
        """Forget which windows were seen, since their indexes are others now."""
        self._seen.clear()


def _work_of(recipe: Recipe) -> tuple[object, ...]:
    """Return what decides the work of a window: the model and its stages, not the words of a prompt."""
    return recipe.model, recipe.fp8, len(recipe.stages), recipe.sampling_fps, recipe.pixel_budget


def _pid(engine: Engine | None) -> int:
    """Return the process of an engine; 0 stands for a backend or a server that is not ours."""
    return 0 if engine is None else engine.pid
