"""vLLM as it is, its core in a process of its own, forked as on a GPU: our worker admits requests."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import time

import numpy as np
import psutil
import pytest
from common import DATA, noise_inputs

from captionkit.engine import (
    Engine,
    EngineError,
    EngineKey,
    PendingRequest,
    Request,
    RequestError,
    Sampling,
    VideoInput,
)

pytestmark = pytest.mark.engine

CORE = "(EngineCore pid=9) ERROR 11-26 06:36:27 [core.py:1512] "
LONG = Sampling(max_tokens=1000, temperature=0, ignore_eos=True)


def start(method: str) -> Engine:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
        patch.setenv("VLLM_WORKER_MULTIPROC_METHOD", method)
        return Engine(EngineKey(str(DATA / "demo-model")))


@pytest.fixture(scope="module")
def engine():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
        engine = start("fork")
        yield engine
        engine.close()


def request(seed: int, **changes) -> Request:
    inputs = noise_inputs(seed)
    video = VideoInput(
        inputs["multi_modal_uuids"]["video"],
        inputs["video_metadata"],
        inputs["multi_modal_data"]["video"],
    )
    short = Sampling(max_tokens=16, temperature=0)
    return Request("Describe this video.", video, **{"sampling": short, **changes})


def core_of(engine: Engine) -> psutil.Process:
    family = psutil.Process(engine.pid).children(recursive=True)
    return next(each for each in family if "EngineCore" in each.name())


def until(true) -> None:
    end = time.monotonic() + 200
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_no_more_are_started_than_the_batch_size(engine):
    most = []

    def on_text(_: str) -> None:
        most.append(sum(each.started and not each.future.done() for each in pending))

    pending: list[PendingRequest] = []
    pending.extend(engine.submit(request(n, batch_size=2), on_text=on_text) for n in range(6))
    for each in pending:
        assert each.future.result(timeout=120).text
    assert max(most) == 2
    assert all(each.started for each in pending)
    assert engine.encoder_runs() == 6


def test_a_known_window_needs_no_frames_and_no_encoder(engine):
    engine.submit(request(10)).future.result(timeout=120)
    engine.encoder_runs()
    again = request(10)
    again = dataclasses.replace(again, video=dataclasses.replace(again.video, frames=None))
    assert engine.submit(again).future.result(timeout=120).text
    assert engine.encoder_runs() == 0


def test_a_window_that_is_looked_at_goes_first_and_others_are_not_started(engine):
    first = engine.submit(request(20, sampling=LONG, batch_size=1))
    until(lambda: first.text)
    order: list[int] = []
    waiting = []
    for seed, priority in [*((30 + number, 0) for number in range(6)), (40, -1)]:
        each = engine.submit(request(seed, priority=priority, batch_size=1))
        each.future.add_done_callback(lambda _, seed=seed: order.append(seed))
        waiting.append(each)
    # Once this is answered, the worker has all of them.
    engine.encoder_runs()
    assert not any(each.started for each in waiting)
    engine.cancel(first)
    for each in waiting:
        each.future.result(timeout=120)
    assert order == [40, *range(30, 36)]


def test_a_core_that_dies_alone_loses_no_window_and_counts_against_what_was_started(
    engine, caplog, monkeypatch
):
    worker = psutil.Process(engine.pid)
    pending = [engine.submit(request(50 + n, sampling=LONG, batch_size=2)) for n in range(4)]
    until(lambda: pending[0].text and pending[1].text)
    # As a GPU without memory has it.
    log = f"{CORE}Traceback (most recent call last):\n{CORE}OutOfMemoryError: CUDA out of memory\n"
    monkeypatch.setattr("captionkit.engine.process.read_log", lambda path: log)
    core_of(engine).kill()
    assert all(each.future.result(timeout=250).text for each in pending)
    assert [each.deaths for each in pending] == [1, 1, 0, 0]
    assert "OutOfMemoryError: CUDA out of memory; there is too little memory" in caplog.text
    assert not worker.is_running()


def large(frames: int) -> Request:
    """A request with 360 video tokens for each frame."""
    metadata = {
        "fps": 2.0,
        "frames_indices": list(range(frames)),
        "total_num_frames": frames,
        "duration": frames / 2,
        "do_sample_frames": False,
    }
    pixels = np.zeros((frames, 3, 560, 1008), np.uint8)
    video = VideoInput(f"large {frames}", metadata, pixels, "window 3 of a.mp4")
    return Request("Describe.", video, Sampling(max_tokens=4))


def test_a_window_with_more_tokens_than_a_step_has_is_captioned(engine):
    assert engine.submit(large(24)).future.result(timeout=250).prompt_tokens > 8192


def test_a_window_with_more_tokens_than_a_step_encodes_is_refused_and_costs_no_neighbour(engine):
    refused, good = engine.submit(large(90)), engine.submit(request(70))
    said = r"window 3 of a\.mp4 has 32400 video tokens, .* at most 32256: .* pixel budget of \d+ \("
    with pytest.raises(RequestError, match=said):
        refused.future.result(timeout=120)
    assert good.future.result(timeout=120).text


def test_a_core_that_hangs_alone_is_found_and_loses_no_window(engine, monkeypatch):
    monkeypatch.setattr("captionkit.engine.client.HANG_S", 6.0)
    worker, core = psutil.Process(engine.pid), core_of(engine)
    pending = [engine.submit(request(60 + n, sampling=LONG, batch_size=2)) for n in range(3)]
    until(lambda: pending[0].text)
    os.kill(core.pid, signal.SIGSTOP)
    until(lambda: engine.pid != worker.pid)
    monkeypatch.undo()
    assert all(each.future.result(timeout=250).text for each in pending)
    psutil.wait_procs([worker, core], timeout=60)
    assert not core.is_running()


def test_nothing_of_it_is_left_after_it_is_closed(engine):
    worker = psutil.Process(engine.pid)
    family = [worker, *worker.children(recursive=True)]
    assert core_of(engine) in family
    engine.close()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []


def test_a_spawned_core_reuses_windows_and_its_worker_takes_it_along():
    engine = start("spawn")
    wanted = engine.submit(request(10)).future.result(timeout=120).text
    engine.encoder_runs()
    assert engine.submit(request(10)).future.result(timeout=120).text == wanted
    assert engine.encoder_runs() == 0
    worker = psutil.Process(engine.pid)
    family = [worker, *worker.children(recursive=True)]
    assert core_of(engine) in family
    worker.kill()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []
    until(lambda: engine.closed)


def test_a_core_that_does_not_start_says_why_in_the_first_line(tmp_path, monkeypatch):
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    shutil.copytree(DATA / "demo-model", tmp_path, dirs_exist_ok=True)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(
        config.replace('"num_key_value_heads": 2', '"num_key_value_heads": 4')
    )
    with pytest.raises(EngineError) as caught:
        Engine(EngineKey(str(tmp_path)))
    assert "did not start: RuntimeError: start (0) + length (256)" in str(caught.value).splitlines()[0]
