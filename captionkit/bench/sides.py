"""The sides of the benchmark in the parent process: captionkit, and plain vLLM."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil

from captionkit.bench.work import Work, decoders, planned, recipe
from captionkit.engine import Backend, Completion, Engine, Request
from captionkit.engine.process import start_module
from captionkit.engine.protocol import ENCODER_STATS
from captionkit.models.variants import get_variant
from captionkit.models.weights import ensure_weights
from captionkit.pipeline import Event, StageDone, WindowDone, caption, open_backend, prepare
from captionkit.recipe import Recipe
from captionkit.system import ipc, loop
from captionkit.system.lifetime import kill_session


class Plain:
    """vLLM in its own process, with its defaults but for a dtype; starts in the background.

    Without ``profiles``, its start leaves out the longest possible video, which no case has: a model
    of half a billion parameters takes more than ten minutes for it on two cores.
    """

    def __init__(
        self, log: Path, model: str = "demo", dtype: str = "auto", *, profiles: bool = True
    ) -> None:
        self._log = log
        # Seconds of the start, once it was waited for.
        self.start_s = 0.0
        weights = str(ensure_weights(get_variant(model), ""))
        self._began = time.monotonic()
        self._process, self._channel = start_module("captionkit.bench.plain", log)
        try:
            ipc.send(self._channel, {"model": weights, "dtype": dtype, "profiles": profiles})
        except BaseException:
            self.close()
            raise

    def wait(self) -> None:
        """Wait until vLLM is up."""
        self._answer()
        self.start_s = time.monotonic() - self._began

    def _answer(self, message: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the next answer, to a message if there is one."""
        try:
            if message is not None:
                ipc.send(self._channel, message)
            answer, _ = ipc.receive(self._channel)
        except (EOFError, OSError) as error:
            last = self._log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"plain vLLM ended; its log ends with:\n{last}") from error
        return answer

    def run(self, side: str, work: Work, *, fresh: bool = True) -> dict[str, Any]:
        """Do the work as ``reference`` or ``ceiling``; ``fresh`` empties all caches first."""
        return self._answer({"side": side, "work": asdict(work), "fresh": fresh})

    def close(self) -> None:
        """End the process and its children."""
        kill_session(self._process)
        self._channel.close()


class _Forced:
    """A backend with forced lengths of captions, by the windows' ids."""

    def __init__(self, backend: Backend, lengths: Mapping[str, int]) -> None:
        self._backend = backend
        self._lengths = lengths

    @property
    def info(self) -> Mapping[str, Any]:
        return self._backend.info

    def knows(self, uid: str) -> bool:
        return self._backend.knows(uid)

    def stream(self, request: Request) -> AsyncIterator[str | Completion]:
        length = self._lengths[request.uid]
        sampling = replace(request.sampling, max_tokens=length, ignore_eos=True)
        return self._backend.stream(replace(request, sampling=sampling))

    def close(self) -> None:
        self._backend.close()


class Ours:
    """captionkit, from the file; ``start_s`` is the start-up time of its engine."""

    def __init__(self, model: str = "demo") -> None:
        os.environ[ENCODER_STATS] = "1"
        started = time.monotonic()
        self._backend = open_backend(Recipe(model=model), model_dir="")
        self.start_s = time.monotonic() - started

    def run(self, work: Work) -> dict[str, Any]:
        """Do the work; a new salt makes it cold."""
        started = time.monotonic()
        first = 0.0
        made, pool, windows = recipe(work), decoders(None), planned(work)
        uids = [
            prepare(window, made, pool, frames=False, salt=work.salt).video.uid for window in windows
        ]
        backend = _Forced(self._backend, dict(zip(uids, work.lengths, strict=True)))
        texts: dict[str, list[str]] = {}

        def take(event: Event) -> None:
            nonlocal first
            if isinstance(event, StageDone) and event.caption.stage == made.stages[-1]:
                first = first or time.monotonic() - started
            if isinstance(event, WindowDone):
                if event.error:
                    raise RuntimeError(f"window {event.window.number}: {event.error}")
                texts[event.window.key] = [each.text for each in event.captions]

        async def follow() -> None:
            events = caption(windows, made, backend, pool, batch_size=work.batch_size, salt=work.salt)
            async for event in events:
                take(event)

        loop.run(follow())
        seconds = time.monotonic() - started
        return {
            "seconds": seconds,
            "first_s": first,
            "texts": [texts[window.key] for window in windows],
        }

    def encoder_runs(self) -> int:
        """Return how often the vision encoder ran since the last call."""
        engine = Engine.live()
        assert engine is not None
        return engine.encoder_runs()

    def close(self) -> None:
        """End the engine."""
        if engine := Engine.live():
            engine.close()


def memory_beside_the_engine() -> int:
    """Return the private memory of this process and its decoders, in bytes."""
    own, engine = psutil.Process(), Engine.live()
    total = own.memory_full_info().uss
    for child in own.children(recursive=True):
        try:
            if engine is None or child.pid != engine.pid:
                total += child.memory_full_info().uss
        except psutil.Error:
            continue
    return int(total)
