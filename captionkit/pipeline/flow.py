"""Caption windows one by one: decoding overlaps generation, and memory is bounded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
)
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TypeVar

from captionkit import prompts
from captionkit.engine import (
    Backend,
    CacheMissError,
    Completion,
    EngineError,
    EngineGoneError,
    Request,
    RequestError,
    Sampling,
)
from captionkit.pipeline.events import Caption, Event, StageDone, TextGrew, WindowDone
from captionkit.pipeline.prepared import PreparedWindow, prepare
from captionkit.recipe import Recipe
from captionkit.sources import PlannedWindow
from captionkit.video import DecodePool

logger = logging.getLogger(__name__)

Item = TypeVar("Item")


async def caption_stages(
    prepared: PreparedWindow,
    recipe: Recipe,
    backend: Backend,
    on_text: Callable[[int, str], None] = lambda stage, text: None,
    *,
    batch_size: int = 16,
    priority: int = 0,
    given: str | None = None,
) -> AsyncIterator[Caption]:
    """Caption one prepared window; yield the `Caption` of each stage as it ends.

    Stage 2 starts as soon as stage 1 ends. Its prompt has the stage-2 text and the caption of stage 1,
    with the same video unless the recipe is `Recipe.text_only`.

    Parameters
    ----------
    prepared, recipe, backend
        The window, its settings and its backend.
    on_text
        Called with the stage and its whole text so far, at each growth.
    batch_size
        Captions that run at once.
    priority
        Lower goes first: -1 for a window on the screen.
    given
        Caption of stage 1 for a recipe with `Recipe.given`.

    Raises
    ------
    RequestError, CacheMissError, EngineError
        As `engine.Backend.stream`.
    """
    text = prepared.prompt
    # A schema's text cannot begin with a thought, and a value of it may hold any text.
    shown = prompts.without_thoughts if recipe.schema is None else str
    caption: Caption | None = None
    if recipe.given is not None:
        if given is None:
            raise RequestError(
                "the caption that stage 2 should correct is not in the store; import it again"
            )
        caption = Caption.of_text(given, text)
        yield caption
    for stage in recipe.stages:
        if stage == 1 and caption is not None:
            text = _of_stage2(recipe, prepared, caption)
            continue
        text = prompts.disarm(text)
        if not text.strip():
            raise RequestError("the prompt has no text")
        video = None if stage == 2 and recipe.text_only else prepared.video
        request = Request(text, video, sampling_of(recipe), priority, batch_size)
        async for item in backend.stream(request):
            if isinstance(item, Completion):
                whole = asdict(item) | {"text": shown(item.text)}
                caption = Caption(stage=stage, prompt_text=text, **whole)
                yield caption
            else:
                on_text(stage, shown(item))
        if stage == 1 and recipe.stage2 is not None:
            assert caption is not None
            text = _of_stage2(recipe, prepared, caption)


def _of_stage2(recipe: Recipe, prepared: PreparedWindow, first: Caption) -> str:
    template = prompts.stage2_template(recipe.stage2 or "")
    return prompts.render(template, {**prepared.values, "caption": first.text})


def sampling_of(recipe: Recipe) -> Sampling:
    """Return the sampling parameters of a recipe."""
    return Sampling(
        max_tokens=recipe.max_tokens,
        temperature=recipe.temperature,
        top_p=recipe.top_p,
        repetition_penalty=recipe.repetition_penalty,
        seed=recipe.seed,
        schema=recipe.schema,
    )


def caption(
    windows: Iterable[PlannedWindow] | AsyncIterable[PlannedWindow],
    recipe: Recipe,
    backend: Backend,
    pool: DecodePool,
    *,
    batch_size: int = 16,
    priority: int = 0,
    salt: str = "",
    given: Mapping[str, str] = MappingProxyType({}),
    texts: Callable[[PlannedWindow], Mapping[str, str]] = lambda window: {},
) -> AsyncGenerator[Event, None]:
    """Caption windows and yield events, each with its window, in no fixed order.

    At most ``2 x batch_size`` windows of each engine hold frames in memory. Leaving the loop early
    cancels the rest. A failed window ends with a `WindowDone` that has an ``error``; other windows keep
    their captions. If the backend is gone, the rest would fail as well: they get no event, and the
    error is raised.

    Parameters
    ----------
    windows
        Windows, taken one by one as memory becomes free.
    recipe, backend
        Settings and backend of all windows.
    pool
        Processes that read the frames.
    batch_size
        Captions that run at once.
    priority
        Lower goes first: -1 for windows on the screen.
    salt
        Part of each window's id in the backend; see `prepare`.
    given
        Captions of stage 1 by window key, for a recipe with `Recipe.given`.
    texts
        Texts beside the picture of a window, for a recipe with `Recipe.texts`; a `ValueError` is the
        error of that window.

    Raises
    ------
    EngineGoneError
        If the engine was closed, or the server is away.
    """
    flow = _Flow(recipe, backend, pool, batch_size, priority, salt, given, texts)
    return emitted(flow.events, lambda group: flow.run(windows, group), flow.threads)


async def emitted(
    items: asyncio.Queue[Item | None],
    work: Callable[[asyncio.TaskGroup], Awaitable[None]],
    threads: ThreadPoolExecutor,
) -> AsyncGenerator[Item, None]:
    """Yield what the tasks of some work put into a queue; leaving the loop early cancels them.

    Raises what a task or the work itself raises, once all others are cancelled. Ends the threads.
    """

    async def run() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                await work(group)
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        finally:
            items.put_nowait(None)

    running = asyncio.create_task(run())
    try:
        while (item := await items.get()) is not None:
            yield item
        await running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        threads.shutdown(wait=False, cancel_futures=True)


def reason(failure: Exception, work: str) -> str:
    """Return the error of some work on a window; log one that nobody expects, so others continue."""
    if isinstance(failure, (ValueError, EngineError)):
        return str(failure) or type(failure).__name__
    logger.error("%s failed", work, exc_info=failure)
    return f"{type(failure).__name__}: {failure}"


@dataclass
class _Flow:
    """One call of `caption`, with its bounds, threads and events."""

    recipe: Recipe
    backend: Backend
    pool: DecodePool
    batch_size: int
    priority: int
    salt: str
    given: Mapping[str, str]
    texts: Callable[[PlannedWindow], Mapping[str, str]]

    def __post_init__(self) -> None:
        self.events: asyncio.Queue[Event | None] = asyncio.Queue()
        # A batch size counts for each of several engines.
        under_way = self.batch_size * self.backend.info.get("engines", 1)
        self.room = asyncio.Semaphore(2 * under_way)
        # Bound the windows without a first text. Decoding far ahead takes the cores that the
        # first captions need; each finished window adds a permit, so this binds only at start-up.
        self.ahead = asyncio.Semaphore(self.pool.workers + under_way // 4)
        # Use own threads, because the caller shares asyncio's.
        self.threads = ThreadPoolExecutor(self.pool.workers, "captionkit-prepare")

    async def run(
        self,
        windows: Iterable[PlannedWindow] | AsyncIterable[PlannedWindow],
        group: asyncio.TaskGroup,
    ) -> None:
        """Take windows while memory is free, up to the last one."""
        source = windows if isinstance(windows, AsyncIterable) else _one_by_one(windows)
        iterator = aiter(source)
        while True:
            await self.ahead.acquire()
            await self.room.acquire()
            try:
                window = await anext(iterator)
            except StopAsyncIteration:
                break
            group.create_task(self.caption(window))

    async def caption(self, window: PlannedWindow) -> None:
        """Caption one window and emit its events."""
        permit = _Permit(self.ahead)
        damage = window.source.metadata.damage
        captions: list[Caption] = []
        warnings = [damage] if damage else []
        error = None
        try:
            prepared = await self._prepare(window, frames=False)
            known = not self.recipe.sees_video or self.backend.knows(prepared.video.uid)
            if not known or not await self._ask(window, prepared, captions, permit):
                prepared = await self._prepare(window, frames=True)
                if prepared.damage and prepared.damage not in warnings:
                    warnings.append(prepared.damage)
                await self._ask(window, prepared, captions, permit)
        except EngineGoneError:
            raise
        except Exception as failure:
            error = reason(failure, f"window {window.number} of {window.video}")
        finally:
            permit.release()
            self.ahead.release()
            self.room.release()
        self.events.put_nowait(WindowDone(window, tuple(captions), error, tuple(warnings)))

    async def _ask(
        self,
        window: PlannedWindow,
        prepared: PreparedWindow,
        captions: list[Caption],
        permit: _Permit,
    ) -> bool:
        """Caption a window's stages; False if the backend has forgotten a window without frames."""
        if prepared.video.frames is None:
            permit.release()

        def on_text(stage: int, text: str) -> None:
            permit.release()
            self.events.put_nowait(TextGrew(window, stage, text))

        # Repeat both stages after a cache miss in stage 2.
        captions.clear()
        try:
            async for each in caption_stages(
                prepared,
                self.recipe,
                self.backend,
                on_text,
                batch_size=self.batch_size,
                priority=self.priority,
                given=self.given.get(window.key),
            ):
                captions.append(each)
                self.events.put_nowait(StageDone(window, each))
        except CacheMissError:
            if prepared.video.frames is not None or not self.recipe.sees_video:
                raise
            return False
        return True

    async def _prepare(self, window: PlannedWindow, *, frames: bool) -> PreparedWindow:
        return await asyncio.get_running_loop().run_in_executor(
            self.threads,
            lambda: prepare(
                window,
                self.recipe,
                self.pool,
                frames=frames,
                salt=self.salt,
                texts=self.texts(window),
            ),
        )


class _Permit:
    """A permit of a semaphore; calls of `release` after the first have no effect."""

    def __init__(self, semaphore: asyncio.Semaphore) -> None:
        self._semaphore: asyncio.Semaphore | None = semaphore

    def release(self) -> None:
        if self._semaphore is not None:
            self._semaphore.release()
            self._semaphore = None


async def _one_by_one(windows: Iterable[PlannedWindow]) -> AsyncIterator[PlannedWindow]:
    for window in windows:
        yield window
