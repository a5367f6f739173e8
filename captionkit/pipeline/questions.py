"""Questions about windows, each answered by one of a few words: known windows run no encoder.

The probability of an answer is the one of its first token. A backend that reports none, or whose first
token belongs to no answer, is asked for text, and the first answer in it counts.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from captionkit import prompts
from captionkit.engine import (
    Backend,
    CacheMissError,
    Completion,
    EngineError,
    EngineGoneError,
    Request,
    RequestError,
)
from captionkit.engine.protocol import MOST_LOGPROBS
from captionkit.pipeline.flow import emitted, reason, sampling_of
from captionkit.pipeline.prepared import PreparedWindow, prepare
from captionkit.recipe import Recipe
from captionkit.sources import PlannedWindow
from captionkit.video import DecodePool

# Answers with the words for each.
Words = Mapping[str, Sequence[str]]

YES_NO: Words = {"yes": ("yes", "true"), "no": ("no", "false", "not true")}
A_B_TIE: Words = {"a": ("a",), "b": ("b",), "tie": ("tie", "equal", "neither", "same")}
# Longest answer, in tokens, that is read as text.
_TEXT_TOKENS = 32
# Share of all probability that the answers must have together.
_LEAST_SHARE = 0.1
# Before an answer within its sentence, it takes the answer back, and nobody knows what is meant.
_NEGATED = re.compile(r"(?:\b(?:not|never|hardly|cannot)|n['’]t)\b[^.;!?\n]*\Z", re.IGNORECASE)
# "No car is there" denies a car first: any other answer in the text goes before it.
_DETERMINES = re.compile(r"\s+[a-z]", re.IGNORECASE)
# Question and answers repeated before the answer.
_CHOICE = re.compile(
    r"\A\W*(?:(?:true or false|yes or no|yes/no|true/false|a,? b,? or tie|a or b|a/b(?:/tie)?)\b\W*)+",
    re.IGNORECASE,
)
# Scripts without spaces between words: Chinese, Japanese, Thai, Lao, Khmer, Burmese.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
# Before a name of one of two captions, it says that the other one is better.
_WORSE = re.compile(r"\s+(?:is|seems) (?:worse|less|not|wrong|false|incorrect)\b", re.IGNORECASE)
# Behind a name of one of two captions, it says that this one is better: "between A and B, B is better".
_BETTER = re.compile(
    r"\b(B\b|A\b(?=['’:,]|\s+(?:is|was|seems|looks|appears|has|does|describes|matches|fits|wins|gives)\b))"
    r"(?:(?!\b(?:[AB]|not|never|less|neither)\b|n['’]t\b)[^.;!?\n]){0,60}?"
    r"\b(?:better|best|more|right|correct|true|wins|preferable|preferred)\b"
)
# Two captions that are alike: neither is the answer.
_BOTH = re.compile(r"\bA and B\b[^.;!?]*\b(?:equal|same|alike|tie)|\bequally\b")
_NEITHER = re.compile(r"\b(?:neither|none|no(?:t| one))\b", re.IGNORECASE)
# What stands around a word in a token, marks of a beginning word included.
_AROUND = " \n\t\"'.,:*()▁Ġ"


@dataclass(frozen=True)
class Reply:
    """What a backend said: its text, and the probabilities of its likeliest first tokens or None."""

    text: str
    first_tokens: dict[str, float] | None = None

    def shares(self, words: Words) -> dict[str, float] | None:
        """Return the probability of each answer, which add up to 1; None if the tokens do not tell.

        A token counts for the answer of which it begins a word; none that begins words of two.
        """
        totals = dict.fromkeys(words, 0.0)
        for token, share in (self.first_tokens or {}).items():
            if found := _answer_of(token.strip(_AROUND).lower(), words):
                totals[found] += share
        total = sum(totals.values())
        return (
            {name: share / total for name, share in totals.items()} if total >= _LEAST_SHARE else None
        )

    def answer(self, words: Words) -> str | None:
        """Return the likeliest answer, or else the first one in the text; None if there is none."""
        if (shares := self.shares(words)) is not None:
            return max(shares, key=shares.__getitem__)
        text = _CHOICE.sub("", prompts.without_thoughts(self.text)).lstrip(_AROUND)
        if "tie" in words and _BOTH.search(text):
            return "tie"
        better = {each.lower() for each in _BETTER.findall(text)}
        if {"a", "b"} <= words.keys() and len(better) == 1 and not _NEITHER.search(text):
            return better.pop()
        found = [
            (word == "no" and bool(_DETERMINES.match(text, match.end())), match.start(), name)
            for name, each in words.items()
            for word in each
            for match in _pattern(word).finditer(text)
            if not _NEGATED.search(text[: match.start()])
            and not (len(word) == 1 and _WORSE.match(text, match.end()))
        ]
        return min(found)[2] if found else None


def _answer_of(said: str, words: Words) -> str | None:
    """Return the answer that has a word, or else the only one with a word that begins so."""
    if not said:
        return None
    lower = {name: [word.lower() for word in each] for name, each in words.items()}
    found = [name for name, each in lower.items() if said in each] or [
        name for name, each in lower.items() if any(word.startswith(said) for word in each)
    ]
    return found[0] if len(found) == 1 else None


def _pattern(word: str) -> re.Pattern[str]:
    if _UNSPACED.search(word):
        # Not every script puts spaces between words.
        return re.compile(re.escape(word), re.IGNORECASE)
    if len(word) == 1:
        # "a" is an article as well: it is an answer alone, or as a capital that no adjective follows.
        upper = re.escape(word.upper())
        article = r"(?!\s+(?!is\b|has\b|was\b|and\b|or\b|because\b)[a-z])" if word == "a" else ""
        return re.compile(rf"\A(?i:{upper})(?=\W*\Z)|\b{upper}\b{article}")
    return re.compile(rf"\b{re.escape(word)}\b", re.IGNORECASE)


@dataclass(frozen=True)
class Asked:
    """A question about a window, and what came: a reply or an error."""

    window: PlannedWindow
    question: str
    reply: Reply | None
    error: str | None = None


def ask(
    questions: Iterable[tuple[PlannedWindow, Sequence[str]]],
    words: Words,
    recipe: Recipe,
    backend: Backend,
    pool: DecodePool,
    *,
    batch_size: int = 16,
    tokens: int = 1,
) -> AsyncGenerator[Asked, None]:
    """Ask questions about windows; yield each with its reply or error, in no fixed order.

    A window that the backend knows is neither decoded nor encoded; another one is with its first
    question. A question that fails costs no other one. Leaving the loop early cancels the rest.

    Parameters
    ----------
    questions
        Windows, each with the texts that are asked of it.
    words
        The words of each answer: `YES_NO`, or own ones.
    recipe, backend
        Model, frames and sampling; the recipe's prompt is not used.
    pool
        Processes that read the frames.
    batch_size
        Questions that run at once.
    tokens
        Longest answer where probabilities tell; more than one keeps the reasons that a model gives.

    Raises
    ------
    EngineGoneError
        If the engine was closed, or the server is away.
    """
    asking = _Asking(words, recipe, backend, pool, batch_size, tokens)
    return emitted(asking.asked, lambda group: asking.run(questions, group), asking.threads)


@dataclass
class _Asking:
    """One call of `ask`, with its bound and its threads."""

    words: Words
    recipe: Recipe
    backend: Backend
    pool: DecodePool
    batch_size: int
    tokens: int

    def __post_init__(self) -> None:
        self.asked: asyncio.Queue[Asked | None] = asyncio.Queue()
        # Windows under way, each of which may hold frames.
        self.room = asyncio.Semaphore(self.batch_size * self.backend.info.get("engines", 1))
        self.threads = ThreadPoolExecutor(self.pool.workers, "captionkit-ask")
        # Windows under way without their frames: prepared once for all questions.
        self.light: dict[str, PreparedWindow] = {}
        # Whether the backend reports probabilities, once it has answered.
        self.reports = True

    async def run(
        self, questions: Iterable[tuple[PlannedWindow, Sequence[str]]], group: asyncio.TaskGroup
    ) -> None:
        """Take windows while there is room, up to the last one."""
        for window, texts in questions:
            await self.room.acquire()
            group.create_task(self.window(window, texts))

    async def window(self, window: PlannedWindow, texts: Sequence[str]) -> None:
        """Ask all questions of a window; of an unknown one the first alone, which brings the frames."""
        try:
            alone = 0 if await self.known(window) else 1
            for text in texts[:alone]:
                await self.question(window, text)
            await asyncio.gather(*(self.question(window, text) for text in texts[alone:]))
        finally:
            self.light.pop(window.key, None)
            self.room.release()

    async def known(self, window: PlannedWindow) -> bool:
        """Return whether the backend has the frames of a window."""
        try:
            return self.backend.knows((await self.request(window, "", frames=False)).uid)
        except Exception:
            # Its first question says what is wrong.
            return False

    async def question(self, window: PlannedWindow, text: str) -> None:
        """Ask one question and emit what came."""
        reply, error = None, None
        try:
            request = await self.request(window, text, frames=False)
            try:
                if not self.backend.knows(request.uid):
                    raise CacheMissError("the backend has not seen this window")
                reply = await self.reply(request)
            except CacheMissError:
                reply = await self.reply(await self.request(window, text, frames=True))
        except EngineGoneError:
            raise
        except Exception as failure:
            error = reason(failure, f"a question about window {window.number} of {window.video}")
        self.asked.put_nowait(Asked(window, text, reply, error))

    async def request(self, window: PlannedWindow, text: str, *, frames: bool) -> Request:
        """Return a question as a request, with or without the window's frames."""
        made = None if frames else self.light.get(window.key)
        if made is None:
            made = await asyncio.get_running_loop().run_in_executor(
                self.threads, lambda: prepare(window, self.recipe, self.pool, frames=frames)
            )
        if not frames:
            self.light[window.key] = made
        sampling = replace(sampling_of(self.recipe), max_tokens=self.tokens, logprobs=MOST_LOGPROBS)
        return Request(prompts.disarm(text), made.video, sampling, 0, self.batch_size)

    async def reply(self, request: Request) -> Reply:
        """Return the reply to a question; where the first token does not tell, to one for text."""
        if self.reports:
            try:
                found = await self._say(request)
                self.reports = found.first_tokens is not None
            except RequestError as error:
                if "logprob" not in str(error):
                    raise
                self.reports, found = False, Reply("")
            enough = request.sampling.max_tokens >= _TEXT_TOKENS and found.text
            if enough or found.shares(self.words) is not None:
                return found
        longer = max(_TEXT_TOKENS, request.sampling.max_tokens)
        sampling = replace(request.sampling, max_tokens=longer, logprobs=0)
        return await self._say(replace(request, sampling=sampling))

    async def _say(self, request: Request) -> Reply:
        reply = None
        async for item in self.backend.stream(request):
            if isinstance(item, Completion):
                reply = Reply(item.text, item.first_tokens)
        if reply is None:
            raise EngineError("the backend ended an answer before its end")
        return reply
