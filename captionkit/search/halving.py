"""Search for the best recipe: successive halving over windows, each round's captions as runs.

Libraries for such searches stop one trial after another and keep a store of their own. Here all
settings of a round share windows, frames and captionkit's store, which leaves the few lines below.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from captionkit.engine import EngineError
from captionkit.models.weights import WeightsError
from captionkit.recipe import Recipe
from captionkit.run.asking import Asking
from captionkit.run.run import Run
from captionkit.search.aim import Aim, Searchable
from captionkit.search.found import Found
from captionkit.search.measured import HeldOut, Measured, cost_of, mean, rank
from captionkit.search.metric import (
    Means,
    Metric,
    MetricError,
    companion,
    metric_of,
    penalised,
)
from captionkit.search.paired import paired
from captionkit.search.plan import LEAST_WINDOWS, Setting, rounds, settings_of
from captionkit.search.proposals import Proposals
from captionkit.sources.rows import spread_rows

# Seconds between two looks at a run, for Stop and for the end of the time.
_LOOK_S = 0.1
# Windows that decide nothing, as a share of those that decide.
_HELD_OUT = 1 / 4


def search(
    session: Searchable,
    axes: Mapping[str, Any],
    aim: Aim,
    stopped: threading.Event | None = None,
    on_change: Callable[[Found], None] = lambda found: None,
) -> Found:
    """Find the best setting of a grid by successive halving; see `session.Session.search`.

    Parameters
    ----------
    session
        Session with the windows; its store keeps all captions.
    axes
        Fields of `Recipe`, each with a list of values.
    aim
        The metric, and how many windows and seconds the search may take.
    stopped
        Event that ends the search; what was captioned stays, and the same search goes on.
    on_change
        Called with what is known, after each setting of each round.

    Raises
    ------
    ValueError
        If nothing varies, no two settings can run, the budget is too small for two, or the metric
        cannot be used on these windows.
    """
    return _Search(session, axes, aim, stopped or threading.Event(), on_change).run()


class _Search:
    def __init__(
        self,
        session: Searchable,
        axes: Mapping[str, Any],
        aim: Aim,
        stopped: threading.Event,
        on_change: Callable[[Found], None],
    ) -> None:
        self.session, self.aim = session, aim
        self._stopped, self._on_change = stopped, on_change
        self._deadline: float | None = None
        self._first: Run | None = None
        means = Means(aim.reference, aim.by, self._wait_for)
        plain = metric_of(aim.metric, means)
        self.metric = penalised(plain, aim.fault_penalty, aim.word_penalty)
        settings, refused = settings_of(axes, session.make_recipe)
        self._refused = [
            Measured(Setting(name, session.recipe, {}), error=reason)
            for name, reason in refused.items()
        ]
        self._order = list(settings)
        self.measured = {each.recipe.key: Measured(each) for each in settings}
        self._costs: dict[str, dict[str, float]] = {}
        self._done = self._planned = 0
        # Whether a round ended before its last setting, or a run before its last window.
        self._cut = False
        self._against_first = self.metric.against_first
        self._require_two()
        shown = axes.get("prompt")
        known = shown.windows if isinstance(shown, Proposals) else frozenset[str]()
        self._choose_windows(known)
        self.beside = (
            companion(plain, self._deciding, means)
            if aim.beside is None
            else metric_of(aim.beside, means)
        )

    def _require_two(self) -> None:
        able = [each for each in self.measured.values() if each.error is None]
        if len(able) < 2:
            failed = [*self._refused, *self.measured.values()]
            reasons = "; ".join(f"{each.name}: {each.error}" for each in failed if each.error)
            raise ValueError(f"no two settings of the search can run: {reasons}")

    def _choose_windows(self, shown: frozenset[str]) -> None:
        """Choose the windows that decide and those that are held out, spread over the films.

        Windows that a model saw as it proposed the prompts are neither.
        """
        aim = self.aim
        table = self.session.windows if isinstance(aim.windows, int) else aim.windows
        usable = self.metric.usable(table)
        if not len(usable):
            raise MetricError(
                f"no window has what the metric {self.metric.name!r} needs: the films have no truth "
                "file beside them (harbour.json beside harbour.mp4), and there is no reference= run of "
                "people's captions for them; take another metric"
            )
        usable = usable[~usable["key"].isin(list(shown))].reset_index(drop=True)
        order = spread_rows(usable, aim.seed)
        count = len(order)
        wanted = aim.windows if isinstance(aim.windows, int) else count
        held = aim.held_out
        if held is None:
            # Of all windows, four of five decide, so that a quarter as many are held out.
            wanted = min(wanted, math.ceil(count / (1 + _HELD_OUT)))
            held = min(count - wanted, round(wanted * _HELD_OUT))
        else:
            wanted = min(wanted, count - held)
        if wanted < LEAST_WINDOWS:
            raise ValueError(
                f"{max(0, wanted)} windows are left to decide, of {count} that the metric can use"
                f"{' and that no proposal was made from' if shown else ''}: one window tells no "
                f"settings apart; give {LEAST_WINDOWS} or more"
            )
        self._deciding = usable.loc[order[:wanted]]
        self._held = usable.loc[order[wanted : wanted + held]]
        # The leader and the first setting caption the windows that are held out, and a first setting
        # that is compared with stays to the end.
        apart = 2 * len(self._held) + (wanted if self._against_first else 0)
        self._rounds = rounds(len(self._order), wanted, aim.budget_windows, apart=apart)

    @property
    def _over(self) -> bool:
        late = self._deadline is not None and time.monotonic() >= self._deadline
        return late or self._stopped.is_set()

    def run(self) -> Found:
        """Measure round after round."""
        if self.aim.budget_s is not None:
            # Loading a model takes minutes and is no part of what a setting costs.
            self._open_first()
            self._deadline = time.monotonic() + self.aim.budget_s
        active = self._order
        for number, each in enumerate(self._rounds):
            active = self._best(active, each.settings) if number else active
            # All that were left may have failed meanwhile.
            self._cut = self._cut or not active
            self._planned = (
                self._done + len(active) + sum(later.settings for later in self._rounds[number + 1 :])
            )
            windows = self._deciding.head(each.windows)
            for setting in active:
                self._emit(
                    f"round {number + 1} of {len(self._rounds)}: {len(active)} settings on "
                    f"{each.windows} windows; now {setting.name}"
                )
                if self._over:
                    self._cut = True
                    break
                self._measure(setting, windows)
                self._done += 1
            self._require_two()
            if self._cut:
                break
        self._require_comparison()
        held = None if self._over else self._hold_out()
        found = self._found("", held)
        self._on_change(found)
        return found

    def _open_first(self) -> None:
        for setting in self._order:
            try:
                self.session.open_backend(setting.recipe, self._stopped)
            except (ValueError, EngineError, WeightsError):
                # The measurement says why.
                continue
            return

    def _require_comparison(self) -> None:
        scored = [each for each in self.measured.values() if len(each.scores) >= LEAST_WINDOWS]
        if len(scored) < 2 and not self._stopped.is_set():
            given = f"budget_s={self.aim.budget_s:g} ended" if self._over else "the search ended"
            raise ValueError(
                f"{given} before two settings had {LEAST_WINDOWS} windows with a score each: give more "
                "time, or fewer settings; captions so far are kept"
            )

    def _measure(self, setting: Setting, windows: pd.DataFrame) -> None:
        before = self.measured[setting.recipe.key]
        if before.error is not None:
            return
        try:
            run = self._caption(setting.recipe, windows)
        except (ValueError, EngineError, WeightsError) as error:
            if not self._over:
                self.measured[setting.recipe.key] = replace(before, error=str(error))
            return
        if setting is self._order[0] or self._first is None:
            self._first = run
        scores, beside = self._scores(self.metric, run), self._scores(self.beside, run)
        costs = self._costs[setting.recipe.key] = cost_of(run.captions)
        self.measured[setting.recipe.key] = replace(
            before,
            run=run,
            scores=scores,
            beside=beside,
            tokens=costs["tokens"],
            words=costs["words"],
            failed=run.progress.failed,
            error=None if scores or self._over else self._why_nothing(run),
        )

    def _why_nothing(self, run: Run) -> str:
        failures = run.store.results.failures(run.id)
        if failures:
            return f"no window was captioned; the first: {failures[0][-1]}"
        return f"the metric {self.metric.name} has no number for any of its captions"

    def _caption(self, recipe: Recipe, windows: pd.DataFrame) -> Run:
        """Caption windows with a recipe, until they are done, or the search is over."""
        task = self.session.start(windows=windows, recipe=recipe)
        try:
            while True:
                try:
                    return task.wait(_LOOK_S)
                except TimeoutError:
                    if self._over:
                        self._cut = True
                        return task.cancel()
        except BaseException:
            task.cancel()
            raise

    def _wait_for(self, asking: Asking) -> None:
        """Wait for questions until they are answered, or the search is over."""
        while not asking.wait(_LOOK_S):
            if self._over:
                self._cut = True
                asking.cancel()

    def _scores(self, metric: Metric, run: Run) -> dict[str, float]:
        found = metric.score(run, self._first or run)
        return {key: float(value) for key, value in found.items() if not math.isnan(value)}

    def _best(self, active: Sequence[Setting], count: int) -> list[Setting]:
        """Return the better half by the mean of common windows, without settings that are worse.

        The first two stay, so that the last round has a comparison.
        """
        found = [self.measured[each.recipe.key] for each in active]
        able = [each for each in found if each.scores and each.error is None]
        common = set.intersection(*(set(each.scores) for each in able)) if able else set()

        ranked = sorted(
            able,
            key=lambda each: rank(replace(each, scores=_only(each.scores, common) or each.scores)),
            reverse=True,
        )
        compare = self._found("").difference
        kept = {
            each.setting.recipe.key
            for place, each in enumerate(ranked[:count])
            if place < 2 or not compare(ranked[0], each).told
        }
        if self._against_first:
            kept.add(self._order[0].recipe.key)
        return [each for each in active if each.recipe.key in kept]

    def _hold_out(self) -> HeldOut | None:
        """Score the leader and the first setting on the windows that are held out."""
        found = self._found("")
        lead, first = found.lead, found.first
        if not len(self._held):
            return None
        self._first = self._apart(first)
        others = self._scores(self.metric, self._first)
        scores = others if first is lead else self._scores(self.metric, self._apart(lead))
        if not scores:
            return None
        deciding, score = mean(lead.scores), mean(scores)
        if first is lead:
            return HeldOut(lead.name, len(scores), deciding, score)
        common = sorted(scores.keys() & others.keys())
        gain = paired(np.array([scores[key] - others[key] for key in common], dtype=float))
        return HeldOut(lead.name, len(scores), deciding, score, first.name, gain)

    def _apart(self, each: Measured) -> Run:
        self._emit(f"{each.name} on {len(self._held)} windows that decide nothing")
        return self._caption(each.recipe, self._held)

    def _emit(self, now: str) -> None:
        self._on_change(self._found(now))

    def _found(self, now: str, held_out: HeldOut | None = None) -> Found:
        fresh: dict[Any, list[float]] = {}
        for each in self._order:
            cost = self._costs.get(each.recipe.key)
            if cost is not None and not math.isnan(cost["fresh_s"]):
                fresh.setdefault(each.recipe.frames_key, []).append(cost["fresh_s"])
        made = [*map(self._with_seconds(fresh), self.measured.values()), *self._refused]
        return Found(
            made,
            self.metric.name,
            self.beside.name,
            held_out=held_out,
            stopped=self._cut,
            now=now,
            steps=(self._done, self._planned),
        )

    def _with_seconds(self, fresh: Mapping[Any, list[float]]) -> Callable[[Measured], Measured]:
        """Return a function that adds the seconds of a window as if its film were new."""

        def add(each: Measured) -> Measured:
            cost = self._costs.get(each.setting.recipe.key)
            if cost is None:
                return each
            begins = fresh.get(each.setting.recipe.frames_key)
            begin = float(np.mean(begins)) if begins else cost["known_s"]
            return replace(each, seconds=begin + cost["rest_s"])

        return add


def _only(scores: Mapping[str, float], keys: set[str]) -> dict[str, float]:
    return {key: scores[key] for key in scores.keys() & keys}
