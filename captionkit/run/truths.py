"""Truth of a run's captions: verification, what was left out, and events in film time."""

from __future__ import annotations

import abc
import math
from typing import Any, Protocol

import pandas as pd

from captionkit.captions import with_edits
from captionkit.pipeline.questions import YES_NO, Words
from captionkit.recipe import Recipe
from captionkit.review import UNSUPPORTED
from captionkit.review.events import event_rows, join_events
from captionkit.review.omissions import omissions
from captionkit.run.asking import Askable, Asker, Asking
from captionkit.run.verification import (
    BY_MODEL,
    BY_RULE,
    SPLIT,
    SPLIT_SCHEMA,
    SPLITS,
    Verification,
    Way,
    check_question,
    check_words,
    unsupported_spans,
)
from captionkit.sources import rows
from captionkit.store import Store


class Captioner(Askable, Protocol):
    """A session that can list claims as well."""

    def correct(self, run: Any, prompt: str, **settings: Any) -> Any:
        """Let the model see each caption with its video; return the run of what it writes."""


class RunTruths(abc.ABC):
    """What a run's captions say of their windows, and whether it is true; a part of `Run`."""

    id: int
    store: Store
    recipe: Recipe
    repeats: int
    _session: Any

    @property
    def session(self) -> Any:
        """The session that can resume the run and read its videos; None without one."""
        return self._session

    @property
    @abc.abstractmethod
    def captions(self) -> pd.DataFrame:
        """One row for each window and stage."""

    @abc.abstractmethod
    def thumbnail(self, key: str) -> bytes | None:
        """Return a small JPEG of a window."""

    @abc.abstractmethod
    def _driver(self) -> Any:
        """Return the session that can ask, or raise."""

    def verify(
        self,
        by: str | Askable | None = None,
        *,
        stage: int | None = None,
        split: str = BY_RULE,
        question: str = "claim",
        words: Words | None = None,
        windows: pd.DataFrame | None = None,
        batch_size: int | None = None,
    ) -> Verification:
        """Ask a model whether each claim of the captions is true of its window.

        Claims are asked once in a store, and an interrupt keeps all answers. A window that the engine
        knows is neither decoded nor encoded again. `verification` tells the cost before. Afterwards
        `checks` has ``unsupported``, and comparisons and reports mark false claims.

        Parameters
        ----------
        by
            Who is asked: None for the model of the captions, the name of another model, the address of
            a server (``http://localhost:8000/v1``), or a session with another model.
        stage
            Only captions of this stage; None takes the last one of each window.
        split
            ``rule`` cuts captions into sentences and clauses; ``model`` lets the session's model list
            the claims of each caption by a schema.
        question
            A text with ``{claim}``, or a name of `prompts.QUESTIONS`.
        words
            Words for the answers, if the question wants other ones:
            ``{"yes": ["ja"], "no": ["nein"]}``.
        windows
            Rows of the session's windows; None takes all of the run.
        batch_size
            Questions that run at once; None takes the session's number.

        Raises
        ------
        ValueError
            If the run has no session, an argument does not fit, or the session lacks a window.
        EngineError, WeightsError
            If the model does not start.
        """
        asking, made = self.start_verify(
            by, stage=stage, split=split, question=question, words=words, windows=windows,
            batch_size=batch_size,
        )  # fmt: skip
        asking.follow(f"verify run {self.id}")
        made.errors = asking.errors
        return made

    def start_verify(
        self, by: str | Askable | None = None, *, batch_size: int | None = None, **how: Any
    ) -> tuple[Asking, Verification]:
        """Start to ask and return the work under way, and what it fills; see `verify`."""
        driver = self._driver()
        try:
            self.store.facts(self.id)
        except KeyError as error:
            raise ValueError(f"run {self.id} was deleted: {error.args[0]}") from error
        made = self.verification(by, **how)
        asker = Asker.of(by, self.recipe, driver)
        asking = Asking(
            self.store, asker, made.way.words, made.left(), driver, self.id,
            batch_size=batch_size,
            # A model that does not start leaves the verification before.
            on_open=lambda: self.store.answers.set_verified(self.id, made.way.to_json()),
        )  # fmt: skip
        return asking, made

    def verification(
        self,
        by: str | Askable | None = None,
        *,
        stage: int | None = None,
        split: str = BY_RULE,
        question: str = "claim",
        words: Words | None = None,
        windows: pd.DataFrame | None = None,
    ) -> Verification:
        """Return the claims of the captions with what was answered so far; ask nothing.

        ``cost`` of it says what `verify` would ask with the same arguments. Claims that a model lists
        (``split="model"``) have to be made for that, which captions.
        """
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}; give one of {', '.join(SPLITS)}")
        if stage is not None and stage not in self.recipe.stages:
            raise ValueError(f"stage is {stage!r}; run {self.id} has {self.recipe.stages}")
        way = Way(
            Asker.of(by, self.recipe, self._session).recipe.to_json(),
            check_question(question, ("claim",)),
            check_words(words, YES_NO),
            stage,
            self._listed(stage, windows).id if split == BY_MODEL else None,
        )
        return Verification(self, way, None if windows is None else rows.row_keys(windows))

    def _listed(self, stage: int | None, windows: pd.DataFrame | None) -> Any:
        """Return a run with the claims of each caption, as a model lists them."""
        if stage not in (None, self.recipe.stages[-1]) or self.repeats > 1:
            raise ValueError('split="model" takes the last stage of a run without repeats')
        return self._driver().correct(
            self, SPLIT, windows=windows, schema=SPLIT_SCHEMA, temperature=0, max_tokens=1024
        )

    @property
    def verified(self) -> Verification | None:
        """The claims as `verify` asked them last; None if it never did, or that cannot be read."""
        how = self.store.answers.verified(self.id)
        try:
            return None if how is None else Verification(self, Way.from_json(how))
        except ValueError:
            # A damaged row of a stranger's store must not cost the captions.
            return None

    def verdicts(self, captions: pd.DataFrame) -> pd.DataFrame:
        """Return what `verify` found in captions of this run, by the table's index.

        Returns
        -------
        pandas.DataFrame
            ``places`` (of false claims in the text), ``unsupported`` (whether a claim is false; missing
            where a claim was not asked and no other one is false), and ``supported`` (share of true
            claims among those with a verdict, NaN without one).
        """
        known = self.verified
        names = ["key", "repeat", "stage"]
        found: dict[tuple[Any, ...], list[bool | None]] = {}
        places: dict[tuple[str, int, int], list[tuple[int, int]]] = {}
        if known is not None:
            claims = known.marks(captions)
            places = unsupported_spans(claims)
            for row in claims[[*names, "verdict"]].itertuples(index=False):
                found.setdefault(tuple(row[:3]), []).append(None if row[3] is pd.NA else bool(row[3]))
        rows = []
        for name in captions[names].itertuples(index=False, name=None):
            asked = [each for each in found.get(name, []) if each is not None]
            whole = bool(asked) and len(asked) == len(found[name])
            false = True if False in asked else False if whole else None
            share = sum(asked) / len(asked) if asked else math.nan
            rows.append((places.get(name, []), false, share))
        table = pd.DataFrame(rows, captions.index, ["places", UNSUPPORTED, "supported"])
        return table.astype({"places": object, UNSUPPORTED: "boolean", "supported": "float64"})

    def unsupported(self, captions: pd.DataFrame) -> dict[Any, list[tuple[int, int]]]:
        """Return places of false claims in captions of this run, by the table's index."""
        found = self.verdicts(captions)["places"]
        return {index: places for index, places in found.items() if places}

    def is_unsupported(self, captions: pd.DataFrame) -> pd.Series:
        """Return whether captions of this run have a false claim; see `verdicts`."""
        return self.verdicts(captions)[UNSUPPORTED]

    @property
    def to_choose(self) -> pd.DataFrame:
        """`captions` with ``unsupported`` of the text that a data set takes: an edited one first."""
        table = self.captions
        return table.join(self.is_unsupported(with_edits(table)))

    def omissions(self, other: RunTruths | None = None) -> pd.DataFrame:
        """Return what captions leave out: claims of another text that a window's last stage lacks.

        Parameters
        ----------
        other
            A run on the same windows; None compares with stage 1 of this run.

        Returns
        -------
        pandas.DataFrame
            One row for each such claim: video, window, key, source, claim, missing (words that the
            caption lacks), and p_true and verdict if the claim was verified.

        Raises
        ------
        ValueError
            If the run has one stage, and no other run is given.
        """
        if other is None and self.recipe.stage2 is None:
            raise ValueError(f"run {self.id} has one stage; give another run to compare with")
        source: RunTruths = self if other is None else other
        name = "stage 1" if other is None else f"run {source.id}"
        table = source.captions.dropna(subset="text")
        if other is None:
            table = table[table["stage"] == 1]
        said = table.drop_duplicates("key", keep="last")
        own = self.captions.dropna(subset="text").drop_duplicates("key", keep="last")
        known = source.verified or self.verified
        claims = None if known is None else Verification(source, known.way).marks(said)
        return omissions(said, own, source.recipe.schema, name, claims)

    @property
    def events(self) -> pd.DataFrame:
        """Events of the captions in seconds of the film, one row each; see `review.events.event_rows`.

        The recipe's schema is ``events``, or another one with a list of start, end and text. An event
        that ends before it begins, lies outside its window, or comes before the one before has
        ``invalid``; its times are kept as they are. Up to half a second outside counts as rounded by
        the model: such an event is valid and clamped to its window.

        Raises
        ------
        ValueError
            If the recipe's schema has no events.
        """
        return event_rows(self.captions, self.recipe.schema)

    def join_events(self, gap_s: float = 0.5) -> pd.DataFrame:
        """Return `events` without the invalid ones, those that a border of windows cut joined.

        Parameters
        ----------
        gap_s
            Most seconds between an event's end and its border, and between the border and its next
            part, which has the same text.
        """
        return join_events(self.events, gap_s)
