"""What a search goes by: a number for each caption, more being better, and what each cannot see."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pandas as pd

from captionkit import structured
from captionkit.demo.marks import mark
from captionkit.demo.recall import fact_f1, true_scenes
from captionkit.display import TextTable
from captionkit.review import compare, faults, scores
from captionkit.run.asking import Askable, Asking
from captionkit.run.judgement import start_judge
from captionkit.run.run import Run
from captionkit.system.hints import hint

logger = logging.getLogger(__name__)

#: What a claim that a model finds false, or not true, takes away from the metric ``verified``.
UNSUPPORTED = 2.0
#: Gives a number for one caption, a row of `Run.final`.
RowScore = Callable[[pd.Series], float]


@dataclass(frozen=True)
class Metric:
    """A number for each caption.

    Parameters
    ----------
    name
        Its name.
    measures
        What the number is.
    blind
        What the number cannot see.
    score
        Function from a run, and the run of the search's first setting, to numbers by window key; a
        window without one is missing or NaN.
    usable
        Function from a table of windows to those that can have a number.
    against_first
        Whether the numbers compare with the first setting, which then captions all windows.
    """

    name: str
    measures: str
    blind: str
    score: Callable[[Run, Run], Mapping[str, float]]
    usable: Callable[[pd.DataFrame], pd.DataFrame] = lambda windows: windows
    against_first: bool = False


@dataclass(frozen=True)
class Means:
    """What metrics use beside captions.

    Parameters
    ----------
    reference
        Run of people's captions.
    by
        Who verifies and judges, the same for all settings: a session, a model's name or an address.
    wait
        Waits for questions, until they end or the search does.
    """

    reference: Run | None = None
    by: str | Askable | None = None
    wait: Callable[[Asking], object] = Asking.wait


class MetricError(ValueError):
    """A metric that cannot be used here, or fails on every caption."""


def truth(means: Means) -> Metric:
    """F1 of facts, against truth files beside the films or against a run of people's captions.

    With a reference in JSON, the facts are its values; of another reference, its words.
    """
    known = None if means.reference is None else means.reference.human

    def score(run: Run, first: Run) -> dict[str, float]:
        table = run.final
        if known is None:
            return dict(zip(table["key"], fact_f1(table), strict=True))
        found = scores(table, known)
        both = 2 * found["precision"] * found["recall"] / (found["precision"] + found["recall"])
        # A share of right values says more than words, if the reference has values.
        return dict(zip(found["key"], found["facts"].fillna(both.fillna(0.0)), strict=True))

    def usable(windows: pd.DataFrame) -> pd.DataFrame:
        if known is not None:
            return windows[windows["key"].isin(list(known.dropna(subset="text")["key"]))]
        return windows[[scene is not None for scene in true_scenes(windows)]]

    about = _ABOUT["truth"]
    return Metric("truth", about.measures, about.blind, score, usable)


def missing_facts(captions: pd.DataFrame, reference: Run | None = None) -> dict[str, list[str]]:
    """Return what truth files, or a reference, have and captions do not state, by window key."""
    found: dict[str, list[str]] = {}
    if reference is not None:
        known = reference.human.dropna(subset="text").set_index("key")["text"]
        for key in captions["key"]:
            if key in known:
                found[key] = [f"a person wrote instead: {known[key]}"]
        return found
    for key, text, scene in zip(captions["key"], captions["text"], true_scenes(captions), strict=True):
        if scene is not None:
            facts = mark(text, scene).facts
            found[key] = [f"{name} missing or wrong" for (name, _), right in facts.items() if not right]
    return found


def schema(means: Means) -> Metric:
    """Return 1 for a caption that is valid JSON of its recipe's schema, else 0."""

    def score(run: Run, first: Run) -> dict[str, float]:
        if run.recipe.schema is None:
            raise MetricError('the metric "schema" needs captions as JSON: give schema= to the search')
        table = run.final.dropna(subset="text")
        return {
            key: float(structured.read(text, run.recipe.schema)[1] is None)
            for key, text in zip(table["key"], table["text"], strict=True)
        }

    about = _ABOUT["schema"]
    return Metric("schema", about.measures, about.blind, score)


def sound(means: Means) -> Metric:
    """Return 1 for a caption without a fault that `review.CHECKS` find, else 0."""

    def score(run: Run, first: Run) -> dict[str, float]:
        return {key: float(not found) for key, found in faults_of(run).items()}

    about = _ABOUT["sound"]
    return Metric("sound", about.measures, about.blind, score)


def verified(means: Means) -> Metric:
    """Count the claims of a caption that a model finds true, minus `UNSUPPORTED` for each other one.

    All settings are asked about with the same frames: those of the session's own recipe.
    """

    def score(run: Run, first: Run) -> dict[str, float]:
        asking, made = run.start_verify(means.by or run.session)
        means.wait(asking)
        table = made.captions
        whole = table[table["asked"] == table["claims"]]
        true = whole["true"].astype(float)
        points = true - UNSUPPORTED * (whole["claims"].astype(float) - true)
        return dict(zip(whole["key"], points, strict=True))

    about = _ABOUT["verified"]
    return Metric("verified", about.measures, about.blind, score)


def judge(means: Means) -> Metric:
    """Return 1 where a judge prefers a caption to the first setting's, 0.5 for a tie, else 0."""

    def score(run: Run, first: Run) -> dict[str, float]:
        found = dict.fromkeys(run.final.dropna(subset="text")["key"], 0.5)
        if run.id == first.id or compare(first, run).table["same"].all():
            return found
        asking, made = start_judge(first, run, means.by or run.session)
        means.wait(asking)
        worth = {"a": 0.0, "b": 1.0, "tie": 0.5}
        choices = zip(made.table["key"], made.table["choice"], strict=True)
        return found | {key: worth.get(choice, math.nan) for key, choice in choices}

    about = _ABOUT["judge"]
    return Metric("judge", about.measures, about.blind, score, against_first=True)


def own(function: RowScore) -> Metric:
    """Return a person's own function of a row as a metric.

    A row that it fails on has no number, and a warning names the first one.
    """
    warned: list[str] = []
    name = getattr(function, "__name__", type(function).__name__)

    def score(run: Run, first: Run) -> dict[str, float]:
        found: dict[str, float] = {}
        problems = []
        for _, row in run.final.dropna(subset="text").iterrows():
            try:
                found[row["key"]] = float(function(row))
            except Exception as error:  # a stranger's function may raise anything
                where = f"window {row['window']} of {row['video']}"
                problems.append(f"{where}: {type(error).__name__}: {error}")
        if problems and not found:
            raise MetricError(f"the metric {name} fails on every caption; the first, {problems[0]}")
        if problems and not warned:
            # Each round scores the same captions again.
            warned.append(problems[0])
            logger.warning(
                "the metric %s fails on %d captions of run %d, which do not count; the first, %s",
                name, len(problems), run.id, problems[0],
            )  # fmt: skip
        return found

    return Metric(name, "your own function", "whatever it does not look at", score)


@dataclass(frozen=True)
class _About:
    measures: str
    blind: str


_ABOUT = {
    "truth": _About(
        "F1 of facts, against truth files or a reference: 0 to 1",
        "facts that nobody wrote down, style, order; of a reference in plain text, words that say the "
        "same count as wrong",
    ),
    "verified": _About(
        f"claims that a model finds true, minus {UNSUPPORTED:g} for each other one, a caption",
        "what is missing, and what the model that is asked cannot see or believes wrongly: it shares "
        "the errors of its own captions; more claims count more, also small ones",
    ),
    "judge": _About(
        "share of captions that a model prefers to the first setting's, ties half: 0 to 1",
        "how much better; a judge likes long captions and its own, so calibrate it (`ck.judge`)",
    ),
    "schema": _About(
        "share of captions that are valid JSON of the schema",
        "whether a value is true: constrained captions are valid and may be false",
    ),
    "sound": _About(
        "share of captions without a fault that `checks` find",
        "whether a caption is true or says much: a short one has few faults",
    ),
}
_MADE: dict[str, Callable[[Means], Metric]] = {
    "truth": truth,
    "verified": verified,
    "judge": judge,
    "schema": schema,
    "sound": sound,
}
#: Names of the metrics.
METRICS = tuple(_MADE)


def metrics() -> TextTable:
    """Return the metrics of a search: what each measures, and what it cannot see."""
    rows = [(name, about.measures, about.blind) for name, about in _ABOUT.items()]
    return TextTable(rows, columns=["metric", "measures", "cannot see"]).set_index("metric")


def metric_of(metric: str | RowScore, means: Means) -> Metric:
    """Return a metric by its name, or of a function.

    Raises
    ------
    ValueError
        If there is no metric of this name.
    """
    if callable(metric):
        return own(metric)
    if metric not in _MADE:
        raise ValueError(
            f"there is no metric {metric!r}{hint(metric, _MADE)}; there are: {', '.join(_MADE)}, or a "
            "function from a row of captions to a number"
        )
    return _MADE[metric](means)


def companion(metric: Metric, windows: pd.DataFrame, means: Means) -> Metric:
    """Return the metric to show beside another one, so that nobody tunes to one alone."""
    if metric.name != "truth":
        beside = truth(means)
        if len(beside.usable(windows)) == len(windows):
            return beside
    return sound(means) if metric.name != "sound" else own(_words)


def _words(row: pd.Series) -> float:
    return len(row["text"].split())


_words.__name__ = "words"


def faults_of(run: Run) -> dict[str, list[str]]:
    """Return the faults of each final caption that rules find, by window key."""
    table = run.final.dropna(subset="text")
    found = faults(table, run.recipe.schema)
    return {key: found[index] for index, key in table["key"].items()}


def penalised(metric: Metric, fault: float, word: float) -> Metric:
    """Return a metric minus a penalty for each fault of a caption and for each of its words."""
    if not fault and not word:
        return metric

    def score(run: Run, first: Run) -> dict[str, float]:
        numbers, found = metric.score(run, first), faults_of(run)
        texts = run.final.set_index("key")["text"]
        return {
            key: number - fault * len(found.get(key, ())) - word * len((texts[key] or "").split())
            for key, number in numbers.items()
            if not math.isnan(number)
        }

    parts = [f"{fault:g} a fault"] * bool(fault) + [f"{word:g} a word"] * bool(word)
    measures = f"{metric.measures}, minus {' and '.join(parts)}"
    return replace(metric, measures=measures, score=score)
