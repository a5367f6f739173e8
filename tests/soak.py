"""Thousands of windows through the real engine, with random cancels and changes of recipe.

``python tests/soak.py --windows 5000`` prints what became of them and how memory, handles and threads
grew; the suite does the same with fewer. Every window shows a scene with known truth, so that a caption
that landed at another window is seen.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import psutil

from captionkit.demo.painter import Painter
from captionkit.demo.scenes import Scene
from captionkit.engine.client import Engine
from captionkit.engine.protocol import Sampling
from captionkit.stages.qwen_vl import QwenVL
from captionkit.prompts import PROMPTS
from captionkit.stages.tasks import Caption, LlmInputs

SCENES = 40
FRAMES = 16
SIZE = (196, 112)
KINDS = ("default", "short", "dense", "objects")
BATCH_SIZE = 16
_SEED = 700_000


@dataclass
class Report:
    """What became of the windows; ``samples`` are RSS of both sides in MB, handles and threads."""

    counts: Counter[str] = field(default_factory=Counter)
    samples: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0

    def growth(self, name: str) -> float:
        """The last fifth of the samples against the third one, as a ratio of means."""
        values = [sample[name] for sample in self.samples]
        fifth = max(1, len(values) // 5)
        return float(np.mean(values[-fifth:]) / np.mean(values[2 * fifth : 3 * fifth]))


def films() -> list[np.ndarray]:
    """Frames of shape (16, 3, 112, 196) of each scene."""
    found = []
    for seed in range(_SEED, _SEED + SCENES):
        scene = Scene.random(seed)
        painter = Painter(scene, *SIZE)
        moments = np.linspace(0, scene.duration - 1 / 30, FRAMES)
        found.append(np.stack([painter.frame(float(each)) for each in moments]).transpose(0, 3, 1, 2))
    return [np.ascontiguousarray(each) for each in found]


def inputs(pixels: np.ndarray, name: str, kind: str) -> LlmInputs:
    return LlmInputs(
        prompt=PROMPTS[kind],
        multi_modal_data={"video": pixels},
        multi_modal_uuids={"video": name},
        video_metadata={
            "fps": 30.0,
            "frames_indices": list(range(0, 16 * 17, 17)),
            "total_num_frames": 16 * 17,
            "duration": 16 * 17 / 30,
            "do_sample_frames": False,
        },
        values={"start": "0.00", "end": "9.07", "duration": "9.07", "video": "soak.mp4"},
    )


async def say(model: QwenVL, made: LlmInputs, two: bool) -> tuple[str, ...]:
    stream = model.stream(made, generate_stage2_caption=two)
    return tuple([item.text async for item in stream if isinstance(item, Caption)])


def sample() -> dict[str, float]:
    engine = Engine.live()
    assert engine is not None
    own, worker = psutil.Process(), psutil.Process(engine.pid)
    return {
        "kernel MB": own.memory_info().rss / 1e6,
        "engine MB": worker.memory_info().rss / 1e6,
        "kernel handles": own.num_fds(),
        "engine handles": worker.num_fds(),
        "kernel threads": own.num_threads(),
        "engine threads": worker.num_threads(),
    }


async def run(model: QwenVL, windows: int, seed: int = 0) -> Report:
    """Caption so many windows; one in twelve is cancelled on its way."""
    rng = random.Random(seed)
    shown, report = films(), Report()
    keys = [(scene, kind, two) for scene in range(SCENES) for kind in KINDS for two in (False, True)]
    truth: dict[tuple[int, str, bool], tuple[str, ...]] = {}
    for begin in range(0, len(keys), 64):
        some = keys[begin : begin + 64]
        asked = (say(model, inputs(shown[s], f"truth-{s}", kind), two) for s, kind, two in some)
        truth.update(zip(some, await asyncio.gather(*asked), strict=True))
    room, begun = asyncio.Semaphore(2 * BATCH_SIZE), time.monotonic()

    async def one(number: int) -> None:
        async with room:
            key = (rng.randrange(SCENES), rng.choice(KINDS), rng.random() < 0.3)
            scene, kind, two = key
            # One in three is a window that was seen before, under another prompt maybe.
            name = f"soak-{scene}-{rng.randrange(max(1, number))}" if number % 3 else f"soak-{number}"
            model.caption_batch_size = rng.choice((4, BATCH_SIZE, 2 * BATCH_SIZE))
            task = asyncio.create_task(say(model, inputs(shown[scene], name, kind), two))
            if rng.random() < 1 / 12:
                await asyncio.sleep(rng.uniform(0, 0.3))
                task.cancel()
            try:
                told = await task
            except asyncio.CancelledError:
                report.counts["cancelled"] += 1
            except Exception as error:
                report.counts[f"failed: {type(error).__name__}: {error}"[:120]] += 1
            else:
                others = {truth[k] for k in keys if k[1:] == key[1:] and truth[k] != truth[key]}
                own = told == truth[key]
                report.counts["right" if own else "mixed up" if told in others else "worded anew"] += 1
        if number % max(10, windows // 40) == 0:
            report.samples.append(sample())

    await asyncio.gather(*(one(number) for number in range(windows)))
    report.samples.append(sample())
    report.seconds = time.monotonic() - begun
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=5000)
    options = parser.parse_args()
    model = QwenVL(
        model_variant="demo",
        caption_batch_size=BATCH_SIZE,
        max_output_tokens=96,
        sampling=Sampling(temperature=0),
    )
    model.setup()
    report = asyncio.run(run(model, options.windows))
    print(json.dumps(report.counts, indent=1))
    for name in report.samples[0]:
        values = [round(each[name]) for each in report.samples]
        shown = ", ".join(str(value) for value in values[:: max(1, len(values) // 10)])
        print(f"{name}: {shown}, {values[-1]}; {report.growth(name):.3f}x")
    print(f"{report.seconds:.0f} s, {options.windows / report.seconds:.1f} windows/s")
    return int(report.counts["mixed up"] > 0)


if __name__ == "__main__":
    sys.exit(main())
