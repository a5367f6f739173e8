"""Propose prompts: by a model that sees where the present prompt fails, or from ready sentences."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd

from captionkit import prompts as library
from captionkit.engine import Completion, EngineError, Request
from captionkit.models.weights import WeightsError
from captionkit.pipeline import prepare
from captionkit.pipeline.flow import sampling_of
from captionkit.recipe import Recipe
from captionkit.review import faults
from captionkit.run.asking import Askable
from captionkit.run.run import Run
from captionkit.search.metric import missing_facts
from captionkit.sources import PlannedWindow
from captionkit.system import loop

#: Sentences that a prompt is built of, by what they ask for.
BLOCKS: dict[str, str] = {
    "objects": "Name every thing in it, with its colour and size.",
    "motion": "Say how each thing moves, and in which direction.",
    "camera": "Say how the camera moves.",
    "setting": "Say where it takes place, and at what time of day.",
    "order": "Tell what happens in the order in which it happens.",
    "length": "Write two or three sentences.",
    "certainty": "Leave out what you are not sure of.",
}
# The demo model captions its painted world and follows no other instruction.
_WITHOUT_IDEAS = ("demo",)
_LEAST_WORDS, _MOST_WORDS = 4, 200
_WORST = 4
_ASK = (
    "You improve prompts for captioning videos like this one. The present prompt:\n{prompt}\n\n"
    "Its worst captions, and what was wrong with them:\n{worst}\n\n"
    "Write {count} other prompts that would avoid this, each one to five sentences and different from "
    "the others. Answer as JSON."
)
_ANSWER = {
    "type": "object",
    "properties": {
        "prompts": {"type": "array", "items": {"type": "string", "minLength": 20, "maxLength": 1200}}
    },
    "required": ["prompts"],
    "additionalProperties": False,
}


class Proposals(list[str]):
    """Prompts to search among, the present one first.

    ``how`` says who made them; ``windows`` has the keys of the windows that they were made from, which
    a search leaves out.
    """

    def __init__(self, texts: Iterable[str], how: str, windows: Iterable[str] = ()) -> None:
        super().__init__(texts)
        self.how = how
        self.windows = frozenset(windows)

    def __repr__(self) -> str:
        return "\n".join([f"<Proposals: {self.how}>", *(f"- {each}" for each in self)])


class Proposer(Askable, Protocol):
    """Session whose model proposes: a `session.Session`."""

    @property
    def windows(self) -> Any:
        """All windows as a table."""

    def sample(self, count: int, seed: int = 0) -> Any:
        """Return some windows, spread over the videos."""

    def select(self, windows: pd.DataFrame | None) -> list[PlannedWindow]:
        """Return the windows of some rows."""

    def make_recipe(self, prompt: str | None = None, **settings: Any) -> Recipe:
        """Return the session's recipe with changes."""

    def caption(
        self,
        prompt: str | None = None,
        stage2: str | bool | None = None,
        windows: pd.DataFrame | None = None,
    ) -> Run:
        """Caption windows."""


def propose(
    session: Proposer,
    start: str | Sequence[str] = "default",
    n: int = 12,
    *,
    by: Proposer | None = None,
    reference: Run | None = None,
    windows: int = 6,
    seed: int = 0,
) -> Proposals:
    """Propose ``n`` prompts beside the present ones, for `session.Session.search`.

    A model is asked with the present prompt, its worst captions on some windows, and what was wrong
    with these: claims that the model itself finds untrue (`Run.verify`), facts of truth files or of a
    reference that are missing, and faults. The search then
    decides on other windows. Without a model that can do this, prompts are built from `BLOCKS`, which
    ``how`` of the result says.

    Parameters
    ----------
    session
        A session.
    start
        The present prompt, a name or a text; or several, the best first, such as the winners of a
        search (``found.prompts``), for a second round.
    n
        Number of new prompts.
    by
        Session whose model is asked, say at an endpoint; None takes ``session``.
    reference
        Run of people's captions.
    windows
        Number of windows to show the worst captions of; a search leaves them out.
    seed
        Choice of these windows, and of blocks.

    Raises
    ------
    ValueError
        If ``start`` is not a prompt, or ``n`` or ``windows`` is below 1.
    """
    for name, count in (("n", n), ("windows", windows)):
        if count < 1:
            raise ValueError(f"{name} is {count}; give 1 or more")
    given = [start] if isinstance(start, str) else list(start)
    if not given:
        raise ValueError("start has no prompt; give a name or a text")
    own = [session.make_recipe(each).prompt_text for each in given]
    asked = session if by is None else by
    found: list[str] = []
    reason = f"the model {asked.recipe.model} only captions"
    shown: list[str] = []
    if asked.recipe.model not in _WITHOUT_IDEAS:
        table = session.sample(windows, seed)
        shown = list(table["key"])
        try:
            found = _by_model(session, asked, given[0], own, table, n, reference, seed)
            reason = f"of {asked.recipe.model}'s answer {len(found)} could be used"
        except (ValueError, EngineError, WeightsError) as error:
            reason = f"{asked.recipe.model} could not be asked: {error}"
    how = f"by {asked.recipe.model}, shown the worst of {len(shown)} windows"
    if len(found) < n:
        built = list(itertools.islice(_built(own, {*own, *found}, seed), n - len(found)))
        how = f"built from ready sentences, as {reason}"
        if found:
            how = f"{len(found)} by {asked.recipe.model}, {len(built)} built from ready sentences"
        found += built
    return Proposals([*given, *found], how, shown)


def _by_model(
    session: Proposer,
    asked: Proposer,
    start: str,
    own: Sequence[str],
    table: pd.DataFrame,
    count: int,
    reference: Run | None,
    seed: int,
) -> list[str]:
    """Ask a model for prompts; return those that are templates, none twice."""
    run = session.caption(start, False, table)
    run.verify(asked)
    worst = worst_captions(run, reference)
    if not worst:
        raise ValueError("no window was captioned with the present prompt")
    text = _ASK.format(prompt="\n".join(own), worst="\n".join(line for _, line in worst), count=count)
    how: dict[str, Any] = {"temperature": 0.7, "top_p": 0.95, "max_tokens": 2048, "seed": seed}
    # Any prompt without texts beside the picture will do: the question takes its place.
    recipe = asked.make_recipe("default", stage2=False, schema=_ANSWER, **how)
    backend = asked.open_backend(recipe)
    chosen = table[table["key"] == worst[0][0]]
    (window,) = session.select(chosen)
    prepared = prepare(window, recipe, session.sources.pool)
    request = Request(library.disarm(text), prepared.video, sampling_of(recipe))

    async def ask() -> str:
        answer = ""
        async for item in backend.stream(request):
            if isinstance(item, Completion):
                answer = item.text
        return answer

    return usable_prompts(loop.run(ask()), own)[:count]


def usable_prompts(answer: str, known: Iterable[str]) -> list[str]:
    """Return the prompts of a model's answer that can be used, each once.

    An answer is a JSON object with ``prompts``, or a list with a marked line each. Skip texts that are
    known, too short or too long, or that have an unknown placeholder.
    """
    try:
        listed = json.loads(answer)["prompts"]
    except (ValueError, KeyError, TypeError, RecursionError):
        # Lines without a mark are a caption, more likely than prompts.
        listed = re.findall(r"^\s*(?:[-*•]|\d+[.)])\s+(.+)$", answer, re.MULTILINE)
    taken = {_plain(each) for each in known}
    found = []
    for each in listed if isinstance(listed, list) else []:
        text = " ".join(each.split()) if isinstance(each, str) else ""
        if not _LEAST_WORDS <= len(text.split()) <= _MOST_WORDS or _plain(text) in taken:
            continue
        try:
            library.check_template(text, library.STAGE1_PLACEHOLDERS)
        except ValueError:
            continue
        taken.add(_plain(text))
        found.append(text)
    return found


def worst_captions(run: Run, reference: Run | None) -> list[tuple[str, str]]:
    """Return keys of windows with their captions and what is wrong with these, the worst first."""
    table = run.final.dropna(subset="text")
    wrong = {key: list(found) for key, found in zip(table["key"], faults(table).values(), strict=True)}
    for key, missing in missing_facts(table, reference).items():
        wrong[key] += missing
    if run.verified is not None:
        claims = run.verified.claims
        for claim in claims[claims["verdict"].eq(False).fillna(False)].itertuples():
            wrong[claim.key].append(f"not true: {claim.claim}")
    ranked = sorted(table.itertuples(), key=lambda row: -len(wrong[row.key]))
    return [
        (row.key, f"- {row.text}\n  Wrong: {'; '.join(wrong[row.key]) or 'nothing that was found'}.")
        for row in ranked[:_WORST]
    ]


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def _built(own: Sequence[str], known: set[str], seed: int) -> Iterator[str]:
    """Yield prompts of the present ones and some blocks, in a random order."""
    rng = np.random.default_rng(seed)
    some = [parts for size in (1, 2, 3) for parts in itertools.combinations(BLOCKS.values(), size)]
    for index in rng.permutation(len(some)):
        for text in own:
            made = " ".join([text.rstrip(), *(each for each in some[index] if each not in text)])
            if made not in known:
                known.add(made)
                yield made
