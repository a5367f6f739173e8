"""Films of demo scenes, with their truth beside them: ``python -m captionkit.demo.videos``.

A film strings scenes together, each exactly one default window long (256 frames at 30 a second), so
that windows differ. The command writes the sample videos of ``data/videos`` or a large film for tests
of scale.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av

from captionkit.demo.painter import Painter
from captionkit.demo.scenes import Scene

FPS = 30
FRAMES_A_SCENE = 256
WIDTH, HEIGHT = 640, 360


def _like(background: str, time: str, count: int, kinds: str, **more: str) -> dict[str, Any]:
    """Make the ``like`` of `Scene.random`; no kinds means any."""
    wish = {"background": background, "time": time, "count": count, **more}
    return wish | {"kinds": kinds.split()} if kinds else wish


# Scenes of each film, as wishes for `Scene.random`.
_SAMPLES: dict[str, list[dict[str, Any]]] = {
    "harbour": [
        _like("sea", "day", 1, "boat", event="turns"),
        _like("sea", "day", 2, "boat bird"),
        _like("sea", "dusk", 2, "boat", event="overtakes", camera="still"),
        _like("sea", "night", 2, "boat balloon"),
    ],
    "street": [
        _like("city", "day", 1, "car bus dog", event="appears", camera="still"),
        _like("city", "day", 2, "car bus", event="overtakes", camera="still"),
        _like("city", "dusk", 2, "car bus dog", event="stops"),
        _like("city", "night", 2, "car bus", camera="right"),
        _like("city", "day", 1, "dog", event="turns"),
    ],
    "countryside": [
        _like("field", "day", 2, "dog kite", camera="still"),
        _like("field", "day", 2, "bird bus", camera="left"),
        _like("field", "dusk", 3, "balloon car"),
    ],
    "sky": [
        _like("desert", "day", 3, "balloon", camera="still"),
        _like("sea", "day", 2, "plane bird", event="overtakes", camera="still"),
        _like("field", "day", 2, "kite", camera="still"),
        _like("city", "dusk", 3, "balloon bird plane kite", camera="still"),
        _like("snow", "day", 2, "plane balloon"),
        _like("river", "dusk", 1, "balloon bird plane kite", camera="right"),
        _like("desert", "night", 2, "balloon bird plane kite", camera="still"),
    ],
    "night": [
        _like("city", "night", 1, "bus", event="leaves", camera="still"),
        _like("snow", "night", 2, "", camera="still"),
        _like("river", "night", 2, "", camera="left"),
        _like("field", "night", 3, "", camera="still"),
    ],
    "winter": [
        _like("snow", "day", 1, "dog", camera="still"),
        _like("snow", "day", 2, "bus kite", camera="right"),
        _like("snow", "dusk", 2, "car plane"),
    ],
    "desert": [
        _like("desert", "day", 1, "car", camera="right"),
        _like("desert", "dusk", 2, "bus bird"),
        _like("desert", "dusk", 2, "car dog", event="stops"),
        _like("desert", "night", 2, "balloon plane"),
    ],
    "river": [
        _like("river", "day", 2, "boat", event="overtakes", camera="still"),
        _like("river", "day", 2, "boat bird", camera="left"),
        _like("river", "dusk", 2, "boat kite"),
    ],
}
# Sizes of films that are not 16:9.
_SIZES = {"river": (480, 360)}
# Seeds far below those of training and apart from those of evaluation.
_FIRST_SEED = 500_000
_LARGE_SEED = 600_000
_LARGE_SIZE = (320, 180)
# Frames of the large film that are drawn anew, a second: drawing all of them would take hours.
_LARGE_DRAWN_FPS = 6


def write_film(
    path: Path,
    scenes: Iterable[Scene],
    *,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    fps: int = FPS,
    drawn_fps: int | None = None,
    preset: str = "veryfast",
) -> None:
    """Render scenes one after another as H.264, each for its own duration.

    Parameters
    ----------
    path
        File to write.
    scenes
        Scenes in order.
    size
        Width and height in pixels.
    fps
        Frames a second.
    drawn_fps
        Frames a second that are drawn anew; None draws all.
    preset
        x264's preset: slower ones make smaller files.
    """
    # One thread: the same scenes give the same bytes everywhere.
    options = {"crf": "26", "preset": preset, "threads": "1"}
    each = 1 if drawn_fps is None else fps // drawn_fps
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for scene in scenes:
            painter = Painter(scene, *size)
            for number in range(round(scene.duration * fps)):
                if number % each == 0:
                    pixels = painter.frame(number / fps)
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                container.mux(stream.encode(frame))
        container.mux(stream.encode())


def film_truth(scenes: Iterable[Scene], fps: int = FPS) -> dict[str, Any]:
    """Describe what a film shows and when, as plain JSON values; times in seconds."""
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
    """Draw the scenes of each sample video."""
    films: dict[str, list[Scene]] = {}
    seed = _FIRST_SEED
    for name, wishes in _SAMPLES.items():
        films[name] = []
        for wish in wishes:
            films[name].append(Scene.random(seed, FRAMES_A_SCENE / FPS, like=wish))
            seed += 1
    return films


def large_scenes(windows: int) -> Iterator[Scene]:
    """Draw a different scene for each window of a large film."""
    for number in range(windows):
        yield Scene.random(_LARGE_SEED + number, FRAMES_A_SCENE / FPS)


def _write(path: Path, scenes: Sequence[Scene], **how: Any) -> None:
    write_film(path, scenes, **how)
    truth = json.dumps(film_truth(scenes), indent=1)
    path.with_suffix(".json").write_text(truth + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Write the sample videos, or one large film, with their truth."""
    parser = argparse.ArgumentParser(prog="python -m captionkit.demo.videos", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder, say data/videos")
    parser.add_argument(
        "--windows", type=int, help="write large.mp4 with so many windows instead of the samples"
    )
    options = parser.parse_args(argv)
    folder: Path = options.out
    folder.mkdir(parents=True, exist_ok=True)
    if options.windows is not None:
        if options.windows < 1:
            parser.error(f"--windows is {options.windows}; give 1 or more")
        scenes = list(large_scenes(options.windows))
        _write(folder / "large.mp4", scenes, size=_LARGE_SIZE, drawn_fps=_LARGE_DRAWN_FPS)
        return 0
    for name, scenes in sample_scenes().items():
        _write(folder / f"{name}.mp4", scenes, size=_SIZES.get(name, (WIDTH, HEIGHT)), preset="slow")
    return 0


if __name__ == "__main__":
    sys.exit(main())
