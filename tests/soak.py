"""Send thousands of windows through the real engine, with random cancels and changes of recipe.

``python tests/soak.py --windows 5000`` prints the outcomes of the windows and the growth of memory,
handles and threads; the suite runs fewer windows. Every window shows a scene with known truth, so that
a caption of another window is noticed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import psutil
from common import DATA

from captionkit.demo.painter import Painter
from captionkit.demo.scenes import Scene
from captionkit.engine import Engine, EngineKey, VideoInput
from captionkit.pipeline import PreparedWindow
from captionkit.pipeline.flow import caption_stages
from captionkit.prompts import PROMPTS, STAGE2_DEFAULT
from captionkit.recipe import Recipe

SCENES = 40
FRAMES = 16
SIZE = (196, 112)
KINDS = ("default", "short", "dense", "objects")
BATCH_SIZE = 16
_SEED = 700_000


@dataclass
class Report:
    """Outcomes of the windows; ``samples`` are RSS of both sides in MB, handles and threads."""

    counts: Counter[str] = field(default_factory=Counter)
    samples: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0

    def growth(self, name: str) -> float:
        """Return the ratio of means of the last fifth of the samples and the third one."""
        values = [sample[name] for sample in self.samples]
        fifth = max(1, len(values) // 5)
        return float(np.mean(values[-fifth:]) / np.mean(values[2 * fifth : 3 * fifth]))


def films() -> list[np.ndarray]:
    """Render frames of shape (16, 3, 112, 196) of each scene."""
    found = []
    for seed in range(_SEED, _SEED + SCENES):
        scene = Scene.random(seed)
        painter = Painter(scene, *SIZE)
        moments = np.linspace(0, scene.duration - 1 / 30, FRAMES)
        found.append(np.stack([painter.frame(float(each)) for each in moments]).transpose(0, 3, 1, 2))
    return [np.ascontiguousarray(each) for each in found]


def prepared(pixels: np.ndarray, name: str, kind: str) -> PreparedWindow:
    metadata = {
        "fps": 30.0,
        "frames_indices": list(range(0, 16 * 17, 17)),
        "total_num_frames": 16 * 17,
        "duration": 16 * 17 / 30,
        "do_sample_frames": False,
    }
    values = {"start": "0.00", "end": "9.07", "duration": "9.07", "video": "soak.mp4"}
    return PreparedWindow(PROMPTS[kind], values, VideoInput(name, metadata, pixels))


async def say(
    engine: Engine,
    window: PreparedWindow,
    two: bool,
    batch_size: int = BATCH_SIZE,
    on_text: Callable[[int, str], None] = lambda stage, text: None,
) -> tuple[str, ...]:
    """Return the texts of one stage or two."""
    recipe = Recipe(stage2=STAGE2_DEFAULT if two else None, max_tokens=96, temperature=0)
    captions = caption_stages(window, recipe, engine, on_text, batch_size=batch_size)
    return tuple([each.text async for each in captions])


def sample(engine: Engine) -> dict[str, float]:
    own, worker = psutil.Process(), psutil.Process(engine.pid)
    return {
        "kernel MB": own.memory_info().rss / 1e6,
        "engine MB": worker.memory_info().rss / 1e6,
        "kernel handles": own.num_fds(),
        "engine handles": worker.num_fds(),
        "kernel threads": own.num_threads(),
        "engine threads": worker.num_threads(),
    }


async def run(engine: Engine, windows: int, seed: int = 0) -> Report:
    """Caption ``windows`` windows; cancel one in twelve, at once or at its first text."""
    rng = random.Random(seed)
    shown, report = films(), Report()
    keys = [(scene, kind, two) for scene in range(SCENES) for kind in KINDS for two in (False, True)]
    truth: dict[tuple[int, str, bool], tuple[str, ...]] = {}
    for begin in range(0, len(keys), 64):
        some = keys[begin : begin + 64]
        asked = (say(engine, prepared(shown[s], f"truth-{s}", kind), two) for s, kind, two in some)
        truth.update(zip(some, await asyncio.gather(*asked), strict=True))
    room, begin = asyncio.Semaphore(2 * BATCH_SIZE), time.monotonic()

    async def one(number: int) -> None:
        async with room:
            key = (rng.randrange(SCENES), rng.choice(KINDS), rng.random() < 0.3)
            scene, kind, two = key
            # Make one in three a new window; the others may repeat an earlier one, with any prompt.
            name = f"soak-{scene}-{rng.randrange(max(1, number))}" if number % 3 else f"soak-{number}"
            batch_size = rng.choice((4, BATCH_SIZE, 2 * BATCH_SIZE))
            spoke = asyncio.Event()
            window = prepared(shown[scene], name, kind)
            task = asyncio.create_task(
                say(engine, window, two, batch_size, lambda stage, text: spoke.set())
            )
            if rng.random() < 1 / 12:
                if rng.random() < 0.5:
                    await spoke.wait()
                task.cancel()
            try:
                texts = await task
            except asyncio.CancelledError:
                report.counts["cancelled"] += 1
            except Exception as error:
                report.counts[f"failed: {type(error).__name__}: {error}"[:120]] += 1
            else:
                others = {truth[k] for k in keys if k[1:] == key[1:] and truth[k] != truth[key]}
                own = texts == truth[key]
                report.counts["right" if own else "mixed up" if texts in others else "worded anew"] += 1
        if number % max(10, windows // 40) == 0:
            report.samples.append(sample(engine))

    await asyncio.gather(*(one(number) for number in range(windows)))
    report.samples.append(sample(engine))
    report.seconds = time.monotonic() - begin
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=5000)
    options = parser.parse_args()
    engine = Engine.get(EngineKey(str(DATA / "demo-model")))
    report = asyncio.run(run(engine, options.windows))
    print(json.dumps(report.counts, indent=1))
    for name in report.samples[0]:
        values = [round(each[name]) for each in report.samples]
        shown = ", ".join(str(value) for value in values[:: max(1, len(values) // 10)])
        print(f"{name}: {shown}, {values[-1]}; {report.growth(name):.3f}x")
    print(f"{report.seconds:.0f} s, {options.windows / report.seconds:.1f} windows/s")
    return int(report.counts["mixed up"] > 0)


if __name__ == "__main__":
    sys.exit(main())
