"""Several engines behind one session: one for each GPU, or for each group that shares a model."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any, Literal, Protocol, TypeVar

from captionkit.engine.errors import CacheMissError, EngineGoneError
from captionkit.engine.protocol import Backend, Completion, Request
from captionkit.system import hardware
from captionkit.system.hardware import Gpu

# Seconds between two looks at starts that may have been stopped.
_LOOK_S = 0.2

Gpus = int | Sequence[int] | Literal["all"]


class Closable(Protocol):
    """Whatever can be closed."""

    def close(self) -> None:
        """Close it."""


_Started = TypeVar("_Started", bound=Closable)


class Member(Backend, Protocol):
    """One engine of several."""

    @property
    def closed(self) -> bool:
        """Whether it takes no more requests."""

    @property
    def load(self) -> int:
        """Number of requests without an answer."""

    def works_on(self, uid: str) -> bool:
        """Return whether a request for this window is under way."""


class Engines:
    """Engines of one model, a `Backend`: each window goes to the engine that knows it.

    A new window goes to the engine with the fewest requests. A batch size counts for each engine. An
    engine that dies starts again by itself; if it cannot, the others take its windows.

    Parameters
    ----------
    engines
        Engines with equal settings on different devices.
    """

    def __init__(self, engines: Sequence[Member]) -> None:
        self.engines = list(engines)
        self._turn = -1

    @property
    def closed(self) -> bool:
        """Whether no engine is left."""
        return all(each.closed for each in self.engines)

    @property
    def info(self) -> dict[str, Any]:
        """Facts of the first engine; ``engines``, all ``devices``, and the longest start."""
        infos = [dict(each.info) for each in self.engines]
        facts = {**infos[0], "engines": len(infos)}
        facts["devices"] = [device for info in infos for device in info.get("devices", ())]
        if starts := [info["start_s"] for info in infos if "start_s" in info]:
            facts["start_s"] = max(starts)
        return facts

    def knows(self, uid: str) -> bool:
        """Return whether an engine can caption this window without its frames."""
        return any(each.knows(uid) for each in self._alive())

    async def stream(self, request: Request) -> AsyncIterator[str | Completion]:
        """Yield all text so far each time that it grows, then the `Completion`; see `Backend`.

        Text begins anew if another engine takes the request over.
        """
        while True:
            engine = self._choose(request.uid)
            stream = engine.stream(request)
            try:
                # Close it with this one: leaving early cancels the request.
                async with contextlib.aclosing(stream):  # type: ignore[type-var]
                    async for item in stream:
                        yield item
                return
            except EngineGoneError:
                if not engine.closed or self.closed:
                    raise
                if request.lacks_frames:
                    message = "the engine that knew this window is gone: give its frames"
                    raise CacheMissError(message) from None

    def close(self) -> None:
        """Close all engines."""
        for each in self.engines:
            each.close()

    def _alive(self) -> list[Member]:
        return [each for each in self.engines if not each.closed]

    def _choose(self, uid: str) -> Member:
        alive = self._alive()
        if not alive:
            raise EngineGoneError("all engines were closed; run again to go on")
        rules: tuple[Callable[[Member], bool], ...] = (
            lambda each: each.knows(uid),
            # Another prompt for the same window: its video is encoded there.
            lambda each: each.works_on(uid),
        )
        # Texts alone, which have no id, belong to no engine.
        for rule in rules if uid else ():
            if fitting := [each for each in alive if rule(each)]:
                return min(fitting, key=lambda each: each.load)
        # Take turns among equals, so that single windows reach all engines.
        self._turn = (self._turn + 1) % len(alive)
        return min(alive[self._turn :] + alive[: self._turn], key=lambda each: each.load)


def start_together(
    starts: Sequence[Callable[[threading.Event], _Started]], stop: threading.Event | None = None
) -> list[_Started]:
    """Start engines side by side; if one fails, end the others and raise its error.

    Parameters
    ----------
    starts
        Each starts an engine, and ends when the event that it gets is set.
    stop
        Event that ends all starts.
    """
    ended = threading.Event()
    with ThreadPoolExecutor(len(starts), "captionkit-start") as threads:
        running = [threads.submit(start, ended) for start in starts]
        try:
            waiting = set(running)
            while waiting:
                done, waiting = wait(waiting, timeout=_LOOK_S, return_when=FIRST_COMPLETED)
                if any(each.exception() for each in done) or (stop is not None and stop.is_set()):
                    ended.set()
        except BaseException:
            # An interrupt: leave no process that loads a model.
            ended.set()
            raise
        finally:
            errors = [error for each in running if (error := each.exception())]
            if errors or ended.is_set():
                for each in running:
                    if not each.exception():
                        each.result().close()
    if errors:
        # The error that ended the others, if there is one, not theirs.
        raise next((each for each in errors if not isinstance(each, EngineGoneError)), errors[0])
    if ended.is_set():
        raise EngineGoneError("the engines were stopped while they loaded")
    return [each.result() for each in running]


def check_gpus(gpus: Gpus | None, tensor_parallel: int) -> None:
    """Refuse numbers of GPUs that fit no machine.

    Raises
    ------
    ValueError
        If ``tensor_parallel`` is not 1 or more, or ``gpus`` not a number, indexes or ``"all"``.
    """
    if not _is_count(tensor_parallel) or tensor_parallel < 1:
        raise ValueError(
            f"tensor_parallel is {tensor_parallel!r}; give 1 or more GPUs that share a model"
        )
    if gpus is None or gpus == "all":
        return
    if isinstance(gpus, (str, bytes)) or not (_is_count(gpus) or isinstance(gpus, Sequence)):
        raise ValueError(f'gpus is {gpus!r}; give a number of GPUs, a list of their indexes, or "all"')
    indexes = [gpus] if isinstance(gpus, int) else list(gpus)
    if not indexes or not all(map(_is_count, indexes)):
        raise ValueError(f'gpus is {gpus!r}; give a number of GPUs, a list of their indexes, or "all"')
    if isinstance(gpus, int) and gpus < 1:
        raise ValueError(f"gpus is {gpus}; give 1 or more")
    if len(set(indexes)) < len(indexes):
        raise ValueError(f"gpus is {gpus!r}: a GPU is named twice")
    count = gpus if isinstance(gpus, int) else len(indexes)
    if count % tensor_parallel:
        raise ValueError(
            f"{count} GPUs (gpus={gpus!r}) cannot be divided into groups of {tensor_parallel} "
            "(tensor_parallel)"
        )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def device_id(gpu: Gpu) -> str:
    """Return a GPU as ``CUDA_VISIBLE_DEVICES`` names it."""
    return gpu.uuid if gpu.uuid.startswith("MIG") else str(gpu.index)


def device_groups(gpus: Gpus | None, tensor_parallel: int = 1) -> list[list[Gpu]]:
    """Return the GPUs of each engine.

    Parameters
    ----------
    gpus
        A number of GPUs, their indexes among the visible ones, or ``"all"``; None is one engine on the
        first visible GPUs, as every CUDA program does: other GPUs of a shared machine are left alone.
    tensor_parallel
        GPUs that share the model in each engine.

    Raises
    ------
    ValueError
        If the GPUs are not there, or cannot be divided into groups.
    """
    check_gpus(gpus, tensor_parallel)
    visible = hardware.find_gpus()
    if gpus is None:
        name, wanted = "tensor_parallel", list(range(tensor_parallel))
    elif gpus == "all":
        name, wanted = "gpus", list(range(len(visible)))
    else:
        name, wanted = "gpus", list(range(gpus) if isinstance(gpus, int) else map(int, gpus))
    if not wanted or not all(0 <= each < len(visible) for each in wanted):
        shown = tensor_parallel if name == "tensor_parallel" else repr(gpus)
        found = ", ".join(f"{number}: {gpu.name}" for number, gpu in enumerate(visible))
        raise ValueError(
            f"{name} is {shown}, but this process sees {f'the GPUs {found}' if found else 'no GPU'} "
            "(`captionkit doctor` lists them; CUDA_VISIBLE_DEVICES chooses)"
        )
    if len(wanted) % tensor_parallel:
        raise ValueError(
            f"{len(wanted)} GPUs cannot be divided into groups of {tensor_parallel} (tensor_parallel)"
        )
    chosen = [visible[each] for each in wanted]
    return [chosen[first : first + tensor_parallel] for first in range(0, len(chosen), tensor_parallel)]


def fullest(gpus: Sequence[Gpu]) -> Gpu:
    """Return the GPU with the least free memory, which limits all that share a model."""
    return min(gpus, key=lambda gpu: gpu.free_mib)
