"""Whether the claims of a run's captions are true of their windows, by asking a model about each."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import pandas as pd

from captionkit import display, prompts, structured
from captionkit.captions import COLUMNS as CAPTION_COLUMNS
from captionkit.pipeline.questions import YES_NO, Reply, Words
from captionkit.recipe import Recipe
from captionkit.review.claims import Claim, placed, split_claims
from captionkit.run.latest import caption_row
from captionkit.store import Store

COLUMNS = (
    "video", "window", "key", "repeat", "stage", "claim", "start", "end", "p_true", "verdict", "answer",
)  # fmt: skip
BY_RULE, BY_MODEL = SPLITS = ("rule", "model")
SPLIT = (
    "List every single statement that this caption makes about the video, one fact each, in its own "
    "words.\nCaption: {caption}"
)
SPLIT_SCHEMA = {
    "type": "object",
    "properties": {
        "claims": {
            "type": "array",
            "items": {"type": "string", "minLength": 2, "maxLength": 200},
            "maxItems": 24,
        }
    },
    "required": ["claims"],
    "additionalProperties": False,
}
_SPLIT_SCHEMA = json.dumps(SPLIT_SCHEMA)
_TRUE = 0.5


class Verifiable(Protocol):
    """A `run.Run`."""

    id: int
    store: Store
    recipe: Recipe

    @property
    def captions(self) -> pd.DataFrame:
        """One row for each window and stage."""

    def thumbnail(self, key: str) -> bytes | None:
        """Return a small JPEG of a window."""


@dataclass(frozen=True)
class Way:
    """How claims are asked; stored with the run, so that its checks and reports know the answers.

    Parameters
    ----------
    asker
        Recipe of the model that is asked, as JSON.
    question
        Template with ``{claim}``.
    words
        Words for ``yes`` and ``no``.
    stage
        Only this stage; None takes the last one of each window.
    split
        Run whose captions are the claims, by a model's schema; None splits by rule.
    """

    asker: str
    question: str
    words: Mapping[str, Sequence[str]]
    stage: int | None = None
    split: int | None = None

    def to_json(self) -> str:
        """Return the way as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Way:
        """Read the output of `to_json`.

        Raises
        ------
        ValueError
            If the text is not that.
        """
        try:
            made = cls(**json.loads(text))
            Recipe.from_json(made.asker)
            check_question(made.question, ("claim",))
            check_words(made.words, YES_NO)
        except (TypeError, RecursionError, AttributeError) as error:
            raise ValueError(f"how the claims were asked cannot be read: {error}") from error
        return made


def check_question(question: str, needed: Sequence[str]) -> str:
    """Return the text of a question from its name in `prompts.QUESTIONS`, or from a text.

    Raises
    ------
    ValueError
        If the name is unknown, or the text lacks one of the placeholders or has others.
    """
    text = prompts.resolve(question, prompts.QUESTIONS)
    prompts.check_template(text, tuple(needed))
    missing = [name for name in needed if name not in prompts.placeholders(text)]
    if missing:
        raise ValueError(f"the question {text!r:.60} has no {{{missing[0]}}}, which is asked about")
    return text


def check_words(words: Words | None, usual: Words) -> dict[str, list[str]]:
    """Return the words of each answer; one text counts as one word.

    Raises
    ------
    ValueError
        If an answer has no word, is unknown or missing, or two answers share a word.
    """
    given = usual if words is None else words
    if not isinstance(given, Mapping) or set(given) != set(usual):
        listed = ", ".join(usual)
        raise ValueError(
            f"words are for the answers {listed}: give {{'{next(iter(usual))}': [...], …}}"
        )
    made = {}
    for name, each in given.items():
        several = [each] if isinstance(each, str) else list(each or ())
        if not all(isinstance(word, str) for word in several):
            raise ValueError(f"the words for {name} are {several!r:.60}; give texts")
        made[name] = list(dict.fromkeys(word.strip().lower() for word in several))
    every = [word for each in made.values() for word in each]
    if not all(every) or not all(made.values()):
        raise ValueError("an answer has no word; give at least one for each")
    if len(set(every)) < len(every):
        raise ValueError("two answers have the same word; give each its own")
    return made


@dataclass(frozen=True)
class Cost:
    """What is still to be asked, before anything is.

    ``seconds`` is None as long as this asker has answered nothing in this store. Windows that the
    engine knows run no encoder pass.
    """

    questions: int
    windows: int
    known: int
    seconds: float | None

    def __str__(self) -> str:
        about = "" if self.seconds is None else f", about {self.seconds:.0f} s"
        plural = "" if self.questions == 1 else "s"
        on = f"{self.windows} window{'' if self.windows == 1 else 's'}"
        return f"{self.questions} question{plural} about {on}{about}; {self.known} answered before"


class Verification:
    """The claims of a run's captions with a model's verdicts, as far as they are asked.

    Parameters
    ----------
    run
        The run.
    way
        How claims are asked.
    keys
        Only these windows; None takes all.
    """

    def __init__(self, run: Verifiable, way: Way, keys: Sequence[str] | None = None) -> None:
        self.run, self.way = run, way
        self._keys = None if keys is None else set(keys)
        self._asker = Recipe.from_json(way.asker)
        #: Errors of the last questions, by window key and question.
        self.errors: dict[tuple[str, str], str] = {}

    def __repr__(self) -> str:
        return f"<Verification of run {self.run.id}: {self._summary(self.claims)}>"

    def _summary(self, claims: pd.DataFrame) -> str:
        asked = claims["verdict"].notna()
        false = int((claims["verdict"] == False).sum())  # noqa: E712 (a column with missing values)
        unread = claims.loc[~asked, "answer"].dropna()
        missing = int((~asked).sum()) - len(unread)
        opened = f", {missing} not answered" if missing else ""
        if len(unread):
            opened += (
                f", {len(unread)} answered neither yes nor no, as {unread.iloc[0]!r:.60} (give words= "
                "for its own, or by= for another model)"
            )
        if asked.any() and claims["p_true"].isna().all():
            opened += ", without probabilities (the model's text counts)"
        return f"{len(claims)} claims, {false} unsupported{opened}; asked {self._asker.model}"

    @property
    def claims(self) -> pd.DataFrame:
        """One row for each claim, in the order of the captions.

        Columns: video, window, key, repeat, stage, claim, start and end (its place in the caption, in
        characters; missing if it is not there word by word), p_true (missing where a backend gives no
        probabilities), verdict (True, False, or missing as long as there is no answer) and answer (the
        model's text).
        """
        rows = self._captions()
        said = {
            (row.key, row.repeat, row.stage): self._split(row.text, row.key)
            for row in rows.itertuples()
        }
        return self._asked(rows, said)

    def marks(self, captions: pd.DataFrame) -> pd.DataFrame:
        """Return `claims` of any captions of the run, such as those of both stages."""
        rows = captions.dropna(subset="text")
        schema, last = self.run.recipe.schema, self.run.recipe.stages[-1]
        return self._asked(
            rows,
            {
                # A model lists the claims of last stages only.
                (row.key, row.repeat, row.stage): self._split(row.text, row.key)
                if row.stage == last
                else split_claims(row.text, schema)
                for row in rows.itertuples()
            },
        )

    def _asked(
        self, rows: pd.DataFrame, said: Mapping[tuple[str, int, int], Sequence[Claim]]
    ) -> pd.DataFrame:
        replies = self.run.store.answers.known(self._asker.key, rows["key"])
        found: list[tuple[Any, ...]] = []
        for row in rows.itertuples():
            for claim in said[row.key, row.repeat, row.stage]:
                reply = replies.get((row.key, self.question(claim.text)))
                about = (row.video, row.window, row.key, row.repeat, row.stage)
                place = (claim.text, claim.start, claim.end)
                found.append((*about, *place, *_verdict(reply, self.way.words)))
        table = display.TextTable(found, columns=list(COLUMNS))
        kinds = {
            "window": "Int64",
            "repeat": "Int64",
            "stage": "Int64",
            "start": "Int64",
            "end": "Int64",
        }
        return table.astype({**kinds, "p_true": "float64", "verdict": "boolean"})

    @property
    def captions(self) -> pd.DataFrame:
        """One row for each caption: video, window, key, repeat, stage, claims, asked, true, supported.

        ``supported`` is the share of true claims among those with a verdict, NaN without one.
        """
        names = ["video", "window", "key", "repeat", "stage"]
        verdicts = self.claims.groupby(names, sort=False)["verdict"]
        table = verdicts.agg(claims="size", asked="count", true="sum").reset_index()
        table["true"] = table["true"].astype("Int64")
        asked = table["asked"].where(table["asked"] > 0)
        table["supported"] = (table["true"].astype("float64") / asked).astype("float64")
        return table

    @property
    def worst(self) -> pd.DataFrame:
        """`captions` that have a verdict, the least supported first; rows go on as ``windows=``."""
        table = self.captions.dropna(subset="supported")
        return table.sort_values("supported", kind="stable", ignore_index=True)

    @property
    def supported(self) -> float:
        """Mean share of supported claims a caption; NaN if nothing was asked."""
        return float(self.captions["supported"].mean())

    @property
    def cost(self) -> Cost:
        """What is still to be asked."""
        left = self.left()
        questions = sum(len(texts) for _, texts in left)
        pace = self.run.store.answers.pace(self._asker.key)
        claims = self.claims[["key", "claim"]].drop_duplicates()
        known = len(claims) - questions
        return Cost(questions, len(left), known, None if pace is None else pace * questions)

    def left(self) -> list[tuple[str, list[str]]]:
        """Return windows with the questions that have no answer yet, each once."""
        claims = self.claims
        opened = claims[claims["verdict"].isna() & claims["answer"].isna()]
        left: dict[str, dict[str, None]] = {}
        for key, text in zip(opened["key"], opened["claim"], strict=True):
            left.setdefault(key, {})[self.question(text)] = None
        return [(key, list(texts)) for key, texts in left.items()]

    def question(self, claim: str) -> str:
        """Return a claim as the text that is asked."""
        return prompts.render(self.way.question, {"claim": claim})

    def _captions(self) -> pd.DataFrame:
        table = self.run.captions.dropna(subset="text")
        if self.way.stage is not None:
            table = table[table["stage"] == self.way.stage]
        if self._keys is not None:
            table = table[table["key"].isin(list(self._keys))]
        return table.drop_duplicates(["repeat", "key"], keep="last")

    def _split(self, text: str, key: str) -> list[Claim]:
        # Another text, such as a person's edit, has no list.
        values, problem = structured.read(self._listed.get((key, text), ""), _SPLIT_SCHEMA)
        if problem is not None:
            # Nothing was listed, or the model failed to.
            return split_claims(text, self.run.recipe.schema)
        return [placed(each, text) for each in values["claims"]]

    @functools.cached_property
    def _listed(self) -> dict[tuple[str, str], str]:
        """Lists of claims as JSON that a model took out of captions, by window key and caption.

        Empty where the run that listed them was deleted: the rule takes over.
        """
        if self.way.split is None:
            return {}
        texts: dict[int, dict[str, str]] = {1: {}, 2: {}}
        for values in self.run.store.results.rows(self.way.split):
            row = dict(zip(CAPTION_COLUMNS, caption_row(values, None, None), strict=True))
            if row["text"] is not None:
                texts[row["stage"]][row["key"]] = row["text"]
        return {(key, text): texts[2][key] for key, text in texts[1].items() if key in texts[2]}

    def _repr_html_(self) -> str:
        claims = self.claims
        keys = claims["key"].drop_duplicates().head(display.MOST_ROWS)
        table = self._captions()
        shown = table[table["key"].isin(list(keys))]
        found = unsupported_spans(claims)
        supported = self.captions.set_index(["key", "repeat", "stage"])["supported"]
        rows = []
        for row in shown.to_dict("records"):
            name = (row["key"], row["repeat"], row["stage"])
            share = supported.get(name, math.nan)
            rows.append(
                [
                    display.picture(
                        self.run.thumbnail, row["key"], f"{row['video']}, window {row['window']}"
                    ),
                    display.where(row),
                    display.marked_spans(row["text"], found.get(name, ())),
                    "" if math.isnan(share) else f"{share:.0%}",
                ]
            )
        return display.table_html(["", "window", "caption", "supported"], rows, self._summary(claims))


def unsupported_spans(claims: pd.DataFrame) -> dict[tuple[str, int, int], list[tuple[int, int]]]:
    """Return the places of claims that were found false, by key, repeat and stage of their captions."""
    found: dict[tuple[str, int, int], list[tuple[int, int]]] = {}
    false = claims[claims["verdict"].eq(False).fillna(False) & claims["start"].notna()]
    for row in false.itertuples():
        place = (int(row.start), int(row.end))
        found.setdefault((row.key, row.repeat, row.stage), []).append(place)
    return found


def _verdict(reply: Reply | None, words: Words) -> tuple[float, bool | None, str | None]:
    """Return p_true, verdict and answer of a reply."""
    if reply is None:
        return math.nan, None, None
    shares = reply.shares(words)
    if shares is not None:
        return shares["yes"], shares["yes"] >= _TRUE, reply.text
    answer = reply.answer(words)
    return math.nan, None if answer is None else answer == "yes", reply.text
