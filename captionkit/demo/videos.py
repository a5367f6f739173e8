"""Films of demo scenes, with their truth beside them: ``python -m captionkit.demo.videos``.

A film strings scenes together, each exactly one default window long (256 frames at 30 a second), so
that windows differ. Imports PyAV and the demo world; writes the sample videos of ``data/`` and serves
`demo.evaluate` and tests.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av

from captionkit.demo.scenes import Painter, Scene

FPS = 30
FRAMES_A_SCENE = 256
WIDTH, HEIGHT = 640, 360

# Name → how many scenes, and which ones belong there.
_SAMPLES: dict[str, tuple[int, Callable[[Scene], bool]]] = {
    "harbour": (4, lambda scene: scene.background == "sea" and scene.time == "day"),
    "street": (4, lambda scene: scene.objects[0].kind == "car"),
    "countryside": (3, lambda scene: scene.background == "field"),
    "night": (4, lambda scene: scene.time == "night"),
    "sky": (5, lambda scene: scene.objects[0].kind in ("balloon", "bird")),
}
# Far below the seeds of training and apart from those of evaluation.
_FIRST_SEED = 500_000


def write_film(
    path: Path, scenes: Sequence[Scene], *, size: tuple[int, int] = (WIDTH, HEIGHT), fps: int = FPS
) -> None:
    """Render scenes one after another as H.264; each lasts as long as it says."""
    # One thread, so that the same scenes give the same bytes everywhere.
    options = {"crf": "25", "preset": "slow", "threads": "1"}
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for scene in scenes:
            painter = Painter(scene, *size)
            for number in range(round(scene.duration * fps)):
                frame = av.VideoFrame.from_ndarray(painter.frame(number / fps), format="rgb24")
                container.mux(stream.encode(frame))
        container.mux(stream.encode())


def film_truth(scenes: Sequence[Scene], fps: int = FPS) -> dict[str, Any]:
    """What a film shows and when, as plain JSON values; times in seconds."""
    entries, start = [], 0
    for scene in scenes:
        frames = round(scene.duration * fps)
        span = {
            "start_frame": start,
            "end_frame": start + frames - 1,
            "start_s": round(start / fps, 3),
            "end_s": round((start + frames) / fps, 3),
        }
        entries.append({**span, **scene.truth()})
        start += frames
    return {"fps": fps, "frames": start, "scenes": entries}


def sample_scenes() -> dict[str, list[Scene]]:
    """The scenes of each sample video; neighbours differ in object or colour."""
    films: dict[str, list[Scene]] = {}
    seed = _FIRST_SEED
    for name, (count, fits) in _SAMPLES.items():
        scenes: list[Scene] = []
        while len(scenes) < count:
            scene = Scene.random(seed, FRAMES_A_SCENE / FPS)
            seed += 1
            looks = {(s.objects[0].colour, s.objects[0].direction) for s in scenes}
            thing = scene.objects[0]
            if fits(scene) and (thing.colour, thing.direction) not in looks:
                scenes.append(scene)
        films[name] = scenes
    return films


def main(argv: list[str] | None = None) -> int:
    """Write the sample videos and their truth."""
    parser = argparse.ArgumentParser(prog="python -m captionkit.demo.videos", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder, say data")
    folder: Path = parser.parse_args(argv).out
    folder.mkdir(parents=True, exist_ok=True)
    for name, scenes in sample_scenes().items():
        write_film(folder / f"{name}.mp4", scenes)
        truth = json.dumps(film_truth(scenes), indent=1)
        (folder / f"{name}.json").write_text(truth + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
