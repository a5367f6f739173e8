"""The sides of the benchmark as the parent sees them: captionkit itself, and plain vLLM.

Imports flow and the engine's client; called by `bench.speed`.
"""

from __future__ import annotations

import copy
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil

from captionkit.system import loop
from captionkit.system import ipc as wire
from captionkit.bench.work import Work, planned, recipe
from captionkit.engine.client import Engine
from captionkit.engine.process import start_module
from captionkit.pipeline.caption import caption_windows
from captionkit.stages.qwen_vl import PartialCaption, QwenVL
from captionkit.models.variants import get_variant
from captionkit.models.weights import ensure_weights
from captionkit.stages import CaptionGenerationStage
from captionkit.stages.generation import CaptionEvent
from captionkit.stages.tasks import Caption, LlmInputs


class Plain:
    """vLLM in a process of its own, with its defaults; ``start_s`` is the time until it is ready."""

    def __init__(self, log: Path) -> None:
        begun = time.monotonic()
        self._process, self._channel = start_module("captionkit.bench.plain", log)
        self._log = log
        self._ask({"model": str(ensure_weights(get_variant("demo"), ""))})
        self.start_s = time.monotonic() - begun

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            ipc.send(self._channel, message)
            answer, _ = ipc.receive(self._channel)
        except (EOFError, OSError) as error:
            last = self._log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"plain vLLM ended; its log ends with:\n{last}") from error
        return answer

    def run(self, side: str, work: Work, *, fresh: bool = True) -> dict[str, Any]:
        """Do some work as ``reference`` or ``ceiling``; ``fresh`` empties all caches first."""
        return self._ask({"side": side, "work": asdict(work), "fresh": fresh})

    def close(self) -> None:
        """End it with its children."""
        for child in psutil.Process(self._process.pid).children(recursive=True):
            child.kill()
        self._process.kill()
        self._process.wait()
        self._channel.close()


class _Forced(QwenVL):
    """Captions of forced lengths, in the order of the windows of one clip."""

    lengths: dict[str, int]

    async def stream(
        self, inputs: LlmInputs, *, generate_stage2_caption: bool = False, priority: int = 0
    ) -> AsyncIterator[PartialCaption | Caption]:
        one = copy.copy(self)
        one.max_output_tokens = self.lengths[inputs["values"]["start"]]
        async for item in QwenVL.stream(
            one, inputs, generate_stage2_caption=generate_stage2_caption, priority=priority
        ):
            yield item


class Ours:
    """captionkit, from the file; ``start_s`` is the time until its engine is ready."""

    def __init__(self) -> None:
        begun = time.monotonic()
        QwenVL(model_variant="demo").setup()
        self.start_s = time.monotonic() - begun

    def run(self, work: Work) -> dict[str, Any]:
        """Do some work; under a new salt it is cold."""
        begun = time.monotonic()
        first = 0.0
        made = recipe(work)
        generation = CaptionGenerationStage.from_recipe(made, caption_batch_size=work.batch_size)
        generation.setup()
        plain = generation.model
        forced = _Forced(**{name: getattr(plain, name) for name in plain.__dataclass_fields__})
        forced.sampling = replace(plain.sampling, ignore_eos=True)
        forced.setup()
        generation._model = forced
        stage, task = planned(work)
        clip = task.data.clips[0]
        forced.lengths = {
            f"{window.start_s:.2f}": length
            for window, length in zip(clip.windows, work.lengths, strict=True)
        }

        def on_event(event: CaptionEvent) -> None:
            nonlocal first
            if event.caption is not None and event.caption.stage == (2 if work.stage2 else 1):
                first = first or time.monotonic() - begun

        async def follow() -> None:
            async for result in caption_windows([task], stage, generation, on_event):
                if result.error:
                    raise RuntimeError(f"window {result.window_index}: {result.error}")

        loop.run(follow())
        seconds = time.monotonic() - begun
        texts = [[each.text for each in window.captions["demo"]] for window in clip.windows]
        return {"seconds": seconds, "first_s": first, "texts": texts}

    def encoder_runs(self) -> int:
        """How often the vision encoder ran since the last call."""
        engine = Engine.live()
        assert engine is not None
        return engine.encoder_runs()

    def close(self) -> None:
        """End the engine."""
        if engine := Engine.live():
            engine.close()


def memory_beside_the_engine() -> int:
    """What this process and its decoders hold to themselves, in bytes."""
    own, engine = psutil.Process(), Engine.live()
    total = own.memory_full_info().uss
    for child in own.children(recursive=True):
        try:
            if engine is None or child.pid != engine.pid:
                total += child.memory_full_info().uss
        except psutil.Error:
            continue
    return int(total)
