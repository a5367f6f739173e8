"""Windows flow from file to caption: how far decoding runs ahead."""

from __future__ import annotations

import asyncio

import fakes

from captionkit.pipeline.caption import caption_windows
from captionkit.recipe import Recipe
from captionkit.stages import CaptionGenerationStage, CaptionPreparationStage
from captionkit.stages.tasks import Clip, Video, VideoTask
from captionkit.video import DecodePool


def test_decoding_runs_only_a_few_windows_ahead_of_the_first_texts(monkeypatch, harbour):
    model = fakes.install(monkeypatch)
    decoded: list[int] = []

    class Pool(DecodePool):
        def read(self, source, numbers, size):
            decoded.append(numbers[0])
            return super().read(source, numbers, size)

    async def all_of_them(pool: Pool) -> int:
        model.gate = asyncio.Event()
        preparation = CaptionPreparationStage.from_recipe(Recipe(), pool=pool)
        generation = CaptionGenerationStage(model_variant="demo", caption_batch_size=4)
        generation.setup()
        clip = Clip(source_video=harbour)
        task = VideoTask(Video(harbour, clips=[clip]))
        preparation.plan(task.data, clip)
        assert len(clip.windows) == 4
        results = caption_windows([task], preparation, generation)
        first = asyncio.ensure_future(anext(results))
        while len(decoded) < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        # One for the decoder, and a quarter of the batch size.
        assert len(decoded) == 2
        model.gate.set()
        assert (await first).error is None
        return 1 + len([each async for each in results if each.error is None])

    with Pool(1) as pool:
        assert asyncio.run(all_of_them(pool)) == 4
    assert len(decoded) == 4
