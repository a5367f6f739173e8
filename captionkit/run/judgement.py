"""A model as a judge between two runs: pairs with their video, in both orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from captionkit import display, prompts
from captionkit.pipeline.questions import A_B_TIE, Reply, Words
from captionkit.review import compare as compare_runs
from captionkit.review.judges import Calibration, calibrate, combine, tally
from captionkit.run.asking import Askable, Asker, Asking
from captionkit.run.history import opened
from captionkit.run.run import Run
from captionkit.run.verification import check_question, check_words
from captionkit.sources import rows
from captionkit.store import Store

# Room for the reasons that a judge gives behind its answer.
_TOKENS = 64


class Judgement:
    """What a judge chose between the captions of two runs, on the windows where they differ.

    Parameters
    ----------
    run_a, run_b
        The runs.
    asker
        Who is asked.
    rubric
        Text of the question, with ``{a}`` and ``{b}``.
    words
        Words for a, b and tie.
    keys
        Only these windows; None takes all that both runs have.

    Raises
    ------
    ValueError
        If no common window has different captions.
    """

    def __init__(
        self,
        run_a: Run,
        run_b: Run,
        asker: Asker,
        rubric: str,
        words: Words,
        keys: Sequence[str] | None = None,
    ) -> None:
        self._runs = run_a, run_b
        self._asker, self._rubric, self._words = asker, rubric, words
        pairs = compare_runs(run_a, run_b).table
        if keys is not None:
            pairs = pairs[pairs["key"].isin(list(keys))]
            if pairs.empty:
                raise ValueError("none of these windows has a caption in both runs")
        self._pairs = pairs[~pairs["same"]].reset_index(drop=True)
        if self._pairs.empty:
            raise ValueError(
                "the two runs have equal captions for all windows; there is nothing to judge"
            )
        #: Errors of the last questions, by window key and question.
        self.errors: dict[tuple[str, str], str] = {}

    def __repr__(self) -> str:
        return f"<Judgement: {self._summary()}>"

    def _summary(self) -> str:
        facts, (run_a, run_b) = self.result, self._runs
        made = facts["a"] + facts["b"] + facts["tie"]
        opened_ = f", {len(self._pairs) - made} not judged" if made < len(self._pairs) else ""
        names = f"run {run_a.id} and run {run_b.id}, {len(self._pairs)} pairs{opened_}"
        if not made:
            return names
        return (
            f"{names}; {self._asker.recipe.model} finds run {run_a.id} better {facts['a']} times, "
            f"run {run_b.id} {facts['b']} times, {facts['tie']} ties: run {run_a.id} wins "
            f"{facts['win_rate']:.0%} ({facts['low']:.0%} to {facts['high']:.0%}), the first place "
            f"{facts['first_place']:.0%}. {self.calibration}"
        )

    @property
    def table(self) -> pd.DataFrame:
        """One row for each pair.

        Columns: video, window, key, a and b (the captions), first and second (what was chosen with a
        and with b shown first: a, b or tie), p_a, p_b, p_tie (means of both orders), choice (missing
        without both answers) and reason (what the judge wrote, in both orders).
        """
        store = self._runs[0].store
        known = store.answers.known(self._asker.recipe.key, self._pairs["key"])
        made = []
        for row in self._pairs.itertuples():
            orders = [known.get((row.key, text)) for text in self._questions(row)]
            first, second = orders[0], orders[1]
            shares = _shares(first, self._words), _swapped(_shares(second, self._words))
            choice, means = combine(*shares)
            made.append(
                {
                    "video": row.video,
                    "window": row.window,
                    "key": row.key,
                    "a": row.before,
                    "b": row.after,
                    "first": _likeliest(shares[0]),
                    "second": _likeliest(shares[1]),
                    **{f"p_{name}": means.get(name) for name in A_B_TIE},
                    "choice": choice,
                    "reason": "; ".join(each.text for each in orders if each is not None) or None,
                }
            )
        table = pd.DataFrame(made)
        return table.astype({f"p_{name}": "float64" for name in A_B_TIE})

    @property
    def result(self) -> dict[str, Any]:
        """Counts, win rate of the first run and bias for the first place; see `review.judges.tally`.

        The names are those of `AB.result`, the blind comparison by a person.
        """
        return tally(self.table)

    @property
    def people(self) -> dict[str, str]:
        """What people chose in `ab` of the same runs, by window key: ``a``, ``b`` or ``tie``."""
        run_a, run_b = self._runs
        reviews = run_a.store.reviews
        other = {"a": "b", "b": "a", "tie": "tie"}
        swapped = {key: other[each] for key, each in reviews.choices(run_b.id, run_a.id).items()}
        return {**swapped, **reviews.choices(run_a.id, run_b.id)}

    @property
    def calibration(self) -> Calibration:
        """Agreement with people on the pairs that both chose; as text, whether to trust the judge."""
        table = self.table.dropna(subset="choice")
        return calibrate(dict(zip(table["key"], table["choice"], strict=True)), self.people)

    def left(self) -> list[tuple[str, list[str]]]:
        """Return windows with the questions that have no answer yet."""
        known = self._runs[0].store.answers.known(self._asker.recipe.key, self._pairs["key"])
        left = []
        for row in self._pairs.itertuples():
            texts = [text for text in self._questions(row) if (row.key, text) not in known]
            if texts:
                left.append((row.key, texts))
        return left

    def _questions(self, row: Any) -> tuple[str, str]:
        """Return the question with a shown first, and with b shown first."""
        return (
            prompts.render(self._rubric, {"a": row.before, "b": row.after}),
            prompts.render(self._rubric, {"a": row.after, "b": row.before}),
        )

    def _repr_html_(self) -> str:
        rows = []
        for row in self.table.head(display.MOST_ROWS).itertuples():
            cells = display.diff_cells(display.word_diff(row.a, row.b))
            name = f"{display.escape(row.video)} {row.window}"
            chosen = "" if row.choice is None else display.escape(row.choice)
            rows.append([name, *cells, chosen])
        names = [f"{name}: run {run.id}" for name, run in zip("ab", self._runs, strict=True)]
        return display.table_html(["window", *names, "better"], rows, self._summary())


def judge(
    run_a: Run | int,
    run_b: Run | int,
    by: str | Askable | None = None,
    *,
    rubric: str = "judge",
    words: Words | None = None,
    windows: pd.DataFrame | None = None,
    batch_size: int | None = None,
    store: Store | str | Path | None = None,
) -> Judgement:
    """Let a model choose the better caption of each window, with its video and in both orders.

    Answers are kept in the first run's store; the same pair is asked once. What people chose in `ab`
    says how far to trust the judge: `Judgement.calibration`.

    Parameters
    ----------
    run_a, run_b, store
        As for `compare`.
    by
        Who judges: None for the model of the first run, the name of another model, the address of a
        server, or a session with another model; see `Run.verify`.
    rubric
        What better means: a text with ``{a}`` and ``{b}``, or a name of `prompts.QUESTIONS` (``judge``,
        ``judge-truth``, ``judge-detail``).
    words
        Words for the answers, if the rubric wants other ones than A, B and tie:
        ``{"a": ["1"], "b": ["2"], "tie": ["0"]}``.
    windows
        Rows of the session's windows; None takes all that both runs have.
    batch_size
        Questions that run at once; None takes the session's number.

    Raises
    ------
    ValueError
        If no session has the windows, nothing differs, or an argument does not fit.
    EngineError, WeightsError
        If the model does not start.
    """
    one, two = opened(run_a, run_b, store)
    asking, made = start_judge(
        one, two, by, rubric=rubric, words=words, windows=windows, batch_size=batch_size
    )
    asking.follow(f"judge runs {one.id} and {two.id}")
    made.errors = asking.errors
    return made


def start_judge(
    one: Run,
    two: Run,
    by: str | Askable | None = None,
    *,
    rubric: str = "judge",
    words: Words | None = None,
    windows: pd.DataFrame | None = None,
    batch_size: int | None = None,
) -> tuple[Asking, Judgement]:
    """Start to ask and return the work under way, and what it fills; see `judge`."""
    own = one.session or two.session or (None if isinstance(by, str) else by)
    if own is None:
        raise ValueError(
            f"run {one.id} has no session with its videos; open it with Session.open({one.id}), or "
            "give a session as by="
        )
    asker = Asker.of(by, one.recipe, own)
    keys = None if windows is None else rows.row_keys(windows)
    text = check_question(rubric, ("a", "b"))
    made = Judgement(one, two, asker, text, check_words(words, A_B_TIE), keys)
    asking = Asking(
        one.store, asker, made._words, made.left(), own, one.id, batch_size=batch_size, tokens=_TOKENS
    )
    return asking, made


def _shares(reply: Reply | None, words: Words) -> Mapping[str, float] | str | None:
    """Return the probabilities of a reply, or its answer where there are none."""
    if reply is None:
        return None
    return reply.shares(words) or reply.answer(words)


def _swapped(shares: Mapping[str, float] | str | None) -> Mapping[str, float] | str | None:
    """Return the probabilities of a pair that was shown the other way round."""
    if isinstance(shares, str):
        return {"a": "b", "b": "a"}.get(shares, shares)
    return shares and {"a": shares["b"], "b": shares["a"], "tie": shares["tie"]}


def _likeliest(shares: Mapping[str, float] | str | None) -> str | None:
    return max(shares, key=shares.__getitem__) if isinstance(shares, Mapping) else shares
