"""How near a search comes to the best of all settings: ``python tests/search_proof.py STORE``.

Captions the sample films with all settings of a grid, then searches with five choices of windows at a
quarter of these captions, by truth and by verified claims. Searches find their captions in the store;
what each would have captioned is counted. Prints a row a search, and saves all as JSON.
"""

from __future__ import annotations

import itertools
import json
import logging
import sys
from pathlib import Path

import numpy as np

import captionkit as ck
from captionkit.demo.recall import fact_f1

PROMPTS = ["short", "dense", "default", "objects", "actions", "background"]
STAGE2 = [None, True]
FPS = [0.5, 1, 2]
SEEDS = 5
# How far the truth of a pick may be behind the best setting, by the metric that picked.
NEAR = {"truth": 0.02, "verified": 0.05}


def main(store: Path) -> int:
    recipe = ck.Recipe(temperature=0, max_tokens=160)
    session = ck.Session(ck.samples(), store=store, recipe=recipe)
    truth = {}
    grid = list(itertools.product(PROMPTS, STAGE2, FPS))
    for prompt, stage2, fps in grid:
        run = session.caption(prompt, stage2 or False, sampling_fps=fps)
        truth[run.recipe.key] = float(np.nanmean(fact_f1(run.final)))
        stages = "two stages" if stage2 else "one stage"
        print(f"{prompt}, {stages}, {fps} fps: {truth[run.recipe.key]:.3f}", flush=True)
    all_windows = len(grid) * len(session)
    best = max(truth.values())
    rows = []
    for metric, seed in itertools.product(("truth", "verified"), range(SEEDS)):
        found = session.search(
            PROMPTS, stage2=STAGE2, sampling_fps=FPS, metric=metric, budget_windows=all_windows // 4,
            seed=seed,
        )  # fmt: skip
        used = int(found.table["windows"].sum()) + 2 * found.held_out.windows
        reached = truth[found.best.recipe.key]
        rows.append(
            {
                "metric": metric, "seed": seed, "pick": found.best.name, "truth of the pick": reached,
                "behind the best": best - reached, "windows": used, "share": used / all_windows,
                "deciding": found.held_out.deciding, "held out": found.held_out.score,
                "tied": len(found.tied),
            }
        )  # fmt: skip
        print(rows[-1], flush=True)
    session.close()
    content = {"settings": len(grid), "windows": all_windows, "best": best, "searches": rows}
    store.with_suffix(".json").write_text(json.dumps(content, indent=1))
    missed = [
        row for row in rows if row["behind the best"] > NEAR[row["metric"]] or row["share"] > 0.25
    ]
    print(f"best of {len(grid)} settings: {best:.3f}; {len(missed)} of {len(rows)} searches missed")
    return 1 if missed else 0


if __name__ == "__main__":
    logging.basicConfig()
    sys.exit(main(Path(sys.argv[1])))
