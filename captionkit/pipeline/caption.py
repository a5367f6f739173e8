"""Windows flow one by one from file to caption: decoding overlaps generation, memory is bounded.

The two stages, joined for whoever does not want all frames of a video in memory at once: at most
``2 x caption_batch_size`` windows hold frames. Imports the stages; called by the command line and
sessions.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from captionkit.engine.errors import CacheMissError
from captionkit.stages.generation import CaptionEvent, CaptionGenerationStage
from captionkit.stages.preparation import CaptionPreparationStage
from captionkit.stages.tasks import Clip, Video, VideoTask, Window

Result = TypeVar("Result")


@dataclass(frozen=True)
class WindowResult:
    """A window that is done: captioned, or failed with ``error``."""

    video: Video
    clip: Clip
    window_index: int
    error: str | None

    @property
    def window(self) -> Window:
        """The window, its captions in it."""
        return self.clip.windows[self.window_index]


async def caption_windows(
    tasks: Sequence[VideoTask],
    preparation: CaptionPreparationStage,
    generation: CaptionGenerationStage,
    on_event: Callable[[CaptionEvent], None] = lambda event: None,
    *,
    priority: int = 0,
) -> AsyncIterator[WindowResult]:
    """Caption all planned windows of some videos; yields each as it is done, in no fixed order.

    Leaving the loop early cancels what is not done.

    Parameters
    ----------
    tasks
        Videos whose clips were planned (`CaptionPreparationStage.plan`).
    preparation, generation
        The stages; both set up.
    on_event
        Told of text that grows and stages that end.
    priority
        Lower goes first: -1 for windows that somebody is looking at.
    """
    results: asyncio.Queue[WindowResult | None] = asyncio.Queue()
    room = asyncio.Semaphore(2 * generation.caption_batch_size)
    # Of those that wait for their first text; one more with each that is done. Decoding far ahead takes
    # the cores that the first captions need.
    ahead = asyncio.Semaphore(preparation.pool.workers + generation.caption_batch_size // 4)
    # Threads of its own: asyncio's would be shared with whatever else the caller runs.
    threads = ThreadPoolExecutor(preparation.pool.workers, "captionkit-prepare")

    async def in_thread(function: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(
            threads, lambda: function(*args, **kwargs)
        )

    async def one(video: Video, clip_index: int, number: int) -> None:
        clip = video.clips[clip_index]
        window = clip.windows[number]
        name = f"window-{number}"
        begun = False

        def begin() -> None:
            nonlocal begun
            if not begun:
                begun = True
                ahead.release()

        def tell(event: CaptionEvent) -> None:
            begin()
            on_event(event)

        try:
            inputs = await in_thread(preparation.prepare, video, clip, number, frames=False)
            known = generation.model.knows(inputs["multi_modal_uuids"]["video"])
            if known:
                begin()
            for frames in (False, True) if known else (True,):
                if frames:
                    inputs = await in_thread(preparation.prepare, video, clip, number)
                window.llm_inputs[generation.model_variant] = inputs
                clip.errors.pop(name, None)
                try:
                    await generation.caption_window(video, clip_index, number, tell, priority=priority)
                    break
                except CacheMissError:
                    continue
        except ValueError as error:
            clip.errors[name] = str(error)
        finally:
            window.llm_inputs.pop(generation.model_variant, None)
            begin()
            ahead.release()
            room.release()
        results.put_nowait(WindowResult(video, clip, number, clip.errors.get(name)))

    async def all_of_them() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for video, clip_index, number in _windows(tasks):
                    await ahead.acquire()
                    await room.acquire()
                    group.create_task(one(video, clip_index, number))
        finally:
            results.put_nowait(None)

    running = asyncio.create_task(all_of_them())
    try:
        while (result := await results.get()) is not None:
            yield result
        await running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        threads.shutdown(wait=False, cancel_futures=True)


def _windows(tasks: Sequence[VideoTask]) -> Iterator[tuple[Video, int, int]]:
    for task in tasks:
        for clip_index, clip in enumerate(task.data.clips):
            for number in range(len(clip.windows)):
                yield task.data, clip_index, number
