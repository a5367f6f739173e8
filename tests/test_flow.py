"""Windows from file to caption: decoding runs ahead within bounds, and failures stay alone."""

from __future__ import annotations

import asyncio

import pytest

from captionkit.pipeline import WindowDone, caption, prepare
from captionkit.recipe import Recipe
from captionkit.sources import SourceClip, WindowSpan, plan
from captionkit.video import DecodePool

RECIPE = Recipe(prompt="Say what it is.")


def windows_of(path, pool):
    clip = SourceClip.open(pool, path, path)
    return plan(clip, clip.cut(256, 128), "harbour")


def test_decoding_runs_only_a_few_windows_ahead_of_the_first_texts(fake, harbour):
    decoded: list[int] = []

    class Pool(DecodePool):
        def read(self, source, numbers, *rest):
            decoded.append(numbers[0])
            return super().read(source, numbers, *rest)

    async def follow(pool: Pool) -> int:
        fake.gate = asyncio.Event()
        events = caption(windows_of(harbour, pool), RECIPE, fake, pool, batch_size=4)
        first = asyncio.ensure_future(anext(events))
        while len(decoded) < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        # Allow one for the decoder, and a quarter of the batch size.
        assert len(decoded) == 2
        fake.gate.set()
        seen = [await first, *[each async for each in events]]
        return sum(isinstance(each, WindowDone) and each.error is None for each in seen)

    with Pool(1) as pool:
        assert asyncio.run(follow(pool)) == 4
    assert len(decoded) == 4


def test_an_unexpected_error_leaves_other_windows_captioned(fake, harbour, caplog):
    def say(prompt, start, stage):
        if start == "8.53":
            raise ZeroDivisionError("a fault of ours")
        return "A boat."

    fake.say = say

    async def follow(pool):
        events = caption(windows_of(harbour, pool), RECIPE, fake, pool)
        return {e.window.number: e.error async for e in events if isinstance(e, WindowDone)}

    with DecodePool(1) as pool:
        errors = asyncio.run(follow(pool))
    assert errors == {0: None, 1: "ZeroDivisionError: a fault of ours", 2: None, 3: None}
    assert "window 1 of harbour failed" in caplog.text


def test_leaving_the_loop_early_cancels_the_rest(fake, harbour):
    async def first(pool):
        async for event in caption(windows_of(harbour, pool), RECIPE, fake, pool, batch_size=1):
            if isinstance(event, WindowDone):
                return event
        return None

    with DecodePool(1) as pool:
        assert asyncio.run(first(pool)).error is None
    assert len(fake.calls) < 4


def test_a_window_of_frames_that_the_file_lacks_is_refused(harbour):
    with DecodePool(1) as pool:
        clip = SourceClip.open(pool, harbour, harbour)
        (window,) = plan(clip, [WindowSpan(1000, 1100)], "harbour")
        with pytest.raises(ValueError, match=r"asks for frames 1000 to 1100, but .* has 1024"):
            prepare(window, RECIPE, pool)
