"""Kill the engine at random moments and count what becomes of the windows.

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

from captionkit.engine.client import Engine
from captionkit.engine.errors import EngineError
from captionkit.stages.qwen_vl import QwenVL
from captionkit.stages.tasks import Caption

WINDOWS = 24


async def _caption(model: QwenVL, seed: int) -> list[str]:
    inputs = noise_inputs(seed)
    inputs["multi_modal_uuids"] = {"video": f"fault-{seed}"}
    stream = model.stream(inputs, generate_stage2_caption=True)
    return [item.text async for item in stream if isinstance(item, Caption)]


async def _all(model: QwenVL, turn: int) -> list[list[str] | BaseException]:
    seeds = [9000 + turn * WINDOWS + number for number in range(WINDOWS)]
    return await asyncio.gather(*(_caption(model, each) for each in seeds), return_exceptions=True)


def kill_at_random(model: QwenVL, kills: int, seed: int = 0) -> Counter[str]:
    """Caption over and over while the engine is killed; counts windows by what became of them."""
    rng = random.Random(seed)
    counts: Counter[str] = Counter()
    said: dict[tuple[int, int], set[tuple[str, ...]]] = {}
    ended = threading.Event()

    def kill() -> None:
        while counts["kills"] < kills and not ended.wait(rng.uniform(0.2, 6.0)):
            engine = Engine.live()
            if engine is None:
                continue
            try:
                victims = [psutil.Process(engine.pid)]
                if rng.random() < 0.3:
                    victims = victims[0].children() or victims
                for victim in victims:
                    victim.kill()
            except psutil.NoSuchProcess:
                # It is between two lives.
                continue
            counts["kills"] += 1
        ended.set()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    turn = 0
    while not ended.is_set():
        model.setup()
        wave = turn % 3
        disturbed = asyncio.run(_all(model, wave))
        for number, outcome in enumerate(disturbed):
            if isinstance(outcome, EngineError):
                counts["failed with a reason"] += 1
            elif isinstance(outcome, BaseException):
                counts[f"other: {type(outcome).__name__}: {outcome}"] += 1
            else:
                counts["captioned" if len(outcome) == 2 else "lost a stage"] += 1
                said.setdefault((wave, number), set()).add(tuple(outcome))
        turn += 1
    killer.join()
    model.setup()
    # Undisturbed, each window says what it said between kills: none was mixed up with another.
    for wave in range(min(turn, 3)):
        for number, outcome in enumerate(asyncio.run(_all(model, wave))):
            told = said.pop((wave, number), {tuple(outcome)})
            counts["mixed up"] += told != {tuple(outcome)}
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    options = parser.parse_args()
    begun = time.monotonic()
    model = QwenVL(model_variant="demo", max_output_tokens=48)
    for name, count in kill_at_random(model, options.kills).items():
        print(f"{name}: {count}")
    print(f"{time.monotonic() - begun:.0f} s")
    model.engine.close()
