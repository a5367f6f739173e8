"""Kill the engine at random moments and count the outcomes of the windows.

``python tests/faults.py --kills 50`` prints the table; the suite does the same with fewer kills.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import threading
import time
from collections import Counter

import psutil
from common import noise_inputs

from captionkit.engine import Engine, EngineError
from captionkit.stages import QwenVL

WINDOWS = 24
WAVES = 3
Texts = tuple[str, ...]


async def _caption(model: QwenVL, seed: int) -> Texts:
    inputs = noise_inputs(seed)
    inputs["multi_modal_uuids"] = {"video": f"fault-{seed}"}
    stream = model.stream(inputs, generate_stage2_caption=True)
    return tuple([each.text async for each in stream])


async def _wave(model: QwenVL, wave: int) -> list[Texts | BaseException]:
    """Return the captions of a wave's windows, two stages each, or their errors."""
    seeds = [9000 + wave * WINDOWS + number for number in range(WINDOWS)]
    return await asyncio.gather(*(_caption(model, each) for each in seeds), return_exceptions=True)


def _kill_now_and_then(kills: int, rng: random.Random, ended: threading.Event) -> None:
    """Kill the engine, or its children if there are any, ``kills`` times."""
    killed = 0
    while killed < kills:
        time.sleep(rng.uniform(0.2, 6.0))
        engine = Engine.live()
        if engine is None:
            continue
        try:
            victims = [psutil.Process(engine.pid)]
            if victims[0].status() == psutil.STATUS_ZOMBIE:
                continue
            if rng.random() < 0.3:
                victims = victims[0].children() or victims
            for victim in victims:
                victim.kill()
        except psutil.NoSuchProcess:
            # Skip an engine that is restarting.
            continue
        killed += 1
    ended.set()


def kill_at_random(model: QwenVL, kills: int, seed: int = 0) -> Counter[str]:
    """Caption waves of windows while the engine is killed; count windows by outcome."""
    counts: Counter[str] = Counter(kills=kills)
    outcomes: list[tuple[int, list[Texts | BaseException]]] = []
    ended = threading.Event()
    threading.Thread(
        target=_kill_now_and_then, args=(kills, random.Random(seed), ended), daemon=True
    ).start()
    turn = 0
    while not ended.is_set():
        model.setup()
        outcomes.append((turn % WAVES, asyncio.run(_wave(model, turn % WAVES))))
        turn += 1
    model.setup()
    truth = {wave: asyncio.run(_wave(model, wave)) for wave in {wave for wave, _ in outcomes}}
    for wave, disturbed in outcomes:
        for result, own in zip(disturbed, truth[wave], strict=True):
            counts["windows"] += 1
            if isinstance(result, EngineError):
                counts["failed with a reason"] += 1
                continue
            if isinstance(result, BaseException):
                counts[f"other: {type(result).__name__}: {result}"] += 1
                continue
            counts["captioned" if len(result) == 2 else "lost a stage"] += 1
            # Compare with the captions of the same windows without kills.
            if result != own:
                other = any(result in texts for texts in truth.values())
                counts["mixed up" if other else "worded anew"] += 1
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    options = parser.parse_args()
    begin = time.monotonic()
    model = QwenVL(model_variant="demo", max_output_tokens=48)
    for name, count in kill_at_random(model, options.kills).items():
        print(f"{name}: {count}")
    print(f"{time.monotonic() - begin:.0f} s")
    model.backend.close()
