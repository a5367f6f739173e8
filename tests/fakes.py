"""A model that answers at once, for tests of bookkeeping; what is about captions uses real vLLM."""

from __future__ import annotations

import asyncio
import functools

from captionkit.engine.errors import RequestError
from captionkit.stages.qwen_vl import PartialCaption
from captionkit.stages import CaptionGenerationStage, CaptionPreparationStage
from captionkit.stages.tasks import Caption
from captionkit.video import DecodePool


class FakeModel:
    """Says of each window what it was asked, and where the window begins.

    ``fail`` names windows (by their start, as ``"8.53"``) that get no caption; ``gate`` holds captions
    back until it is set.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.fail: set[str] = set()
        self.gate: asyncio.Event | None = None
        self.say = lambda prompt, values, stage: f"{prompt} at {values['start']}."
        self.finish_reason = "stop"

    def knows(self, uid: str) -> bool:
        return False

    async def stream(self, inputs, *, generate_stage2_caption=False, priority=0, stage2_text=None):
        values = inputs["values"]
        for stage in (1, 2) if generate_stage2_caption else (1,):
            if self.gate is not None:
                await self.gate.wait()
            if values["start"] in self.fail:
                raise RequestError(f"the window at {values['start']} is broken")
            self.calls.append((values["start"], stage))
            text = self.say(inputs["prompt"], values, stage)
            if stage == 2:
                text = f"{text} More of it."
            yield PartialCaption(stage, text[:4])
            yield Caption(
                prompt=f"<chat>{inputs['prompt']}",
                text=text,
                finish_reason=self.finish_reason,
                prompt_tokens=200,
                output_tokens=len(text.split()),
                cached_tokens=0,
                queue_s=0.01,
                first_token_s=0.02,
                seconds=0.05,
                stage=stage,
                prompt_text=inputs["prompt"],
            )

    async def open_gate(self) -> None:
        """Let captions go on: an event may be set in its waiters' loop only, so `loop.submit` this."""
        self.gate.set()


@functools.cache
def _shared_pool() -> DecodePool:
    return DecodePool()


def install(monkeypatch) -> FakeModel:
    """Have every caption stage use one fake model, and all sessions share their decoders."""
    model = FakeModel()

    def borrow(stage, worker_metadata=None):
        stage._pool = _shared_pool()

    def hand_back(stage):
        stage._pool = None

    monkeypatch.setattr(CaptionPreparationStage, "setup", borrow)
    monkeypatch.setattr(CaptionPreparationStage, "teardown", hand_back)

    def setup(stage, worker_metadata=None):
        stage._model = model

    monkeypatch.setattr(CaptionGenerationStage, "setup", setup)
    return model
