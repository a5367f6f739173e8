"""The engine each way that vLLM's core runs: in our worker, or its own process by fork or by spawn.

A GPU has a forked core; there our worker admits requests, and vLLM is as it is.
"""

from __future__ import annotations

import dataclasses
import shutil
import time

import numpy as np
import psutil
import pytest
from common import DATA, core_among, noise_inputs

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

# Lasts until it is cancelled.
LONG = Sampling(max_tokens=30_000, temperature=0, ignore_eos=True)


WAYS = {
    "one process": {},
    "fork": {"VLLM_ENABLE_V1_MULTIPROCESSING": "1", "VLLM_WORKER_MULTIPROC_METHOD": "fork"},
    "spawn": {"VLLM_ENABLE_V1_MULTIPROCESSING": "1", "VLLM_WORKER_MULTIPROC_METHOD": "spawn"},
}


@pytest.fixture(scope="module", params=WAYS)
def way(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def engine(way):
    """An engine that the tests of one way share; the one of one process is shared with all tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in WAYS[way].items():
            patch.setenv(name, value)
        key = EngineKey(str(DATA / "demo-model"))
        engine = Engine(key) if WAYS[way] else Engine.get(key)
        yield engine
        if WAYS[way]:
            engine.close()


def request(seed: int, prompt: str = "Describe this video.", **changes) -> Request:
    inputs = noise_inputs(seed)
    video = VideoInput(
        inputs["multi_modal_uuids"]["video"],
        inputs["video_metadata"],
        inputs["multi_modal_data"]["video"],
    )
    short = Sampling(max_tokens=16, temperature=0)
    return Request(prompt, video, **{"sampling": short, **changes})


def until(true) -> None:
    end = time.monotonic() + 200
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def texts(engine: Engine, requests: list[Request]) -> list[str]:
    pending = [engine.submit(each) for each in requests]
    return [each.future.result(timeout=200).text for each in pending]


def without_frames(each: Request) -> Request:
    return dataclasses.replace(each, video=dataclasses.replace(each.video, frames=None))


def test_a_known_window_with_a_new_prompt_sends_no_frames_and_runs_no_encoder(engine):
    seeds, new = range(100, 108), "What else is there to see?"
    texts(engine, [request(seed) for seed in seeds])
    assert engine.encoder_runs() >= len(seeds)
    warm = texts(engine, [without_frames(request(seed, new)) for seed in seeds])
    assert engine.encoder_runs() == 0
    # An engine that starts again under way has never seen the windows, loses none, and says the same.
    pid = engine.pid
    pending = [engine.submit(request(seed, new)) for seed in seeds]
    engine.restart()
    assert engine.pid != pid
    assert [each.future.result(timeout=200).text for each in pending] == warm
    again = texts(engine, [request(seed, new) for seed in seeds])
    assert again == warm


def most_at_once(engine: Engine, size: int) -> int:
    """How many captions of known windows speak at once."""
    speaking: set[int] = set()
    counts = []
    pending = []
    for number in range(8):

        def on_text(_: str, number: int = number) -> None:
            speaking.add(number)
            counts.append(len(speaking))

        sampling = Sampling(max_tokens=200, temperature=0, ignore_eos=True)
        each = engine.submit(request(100 + number, sampling=sampling, batch_size=size), on_text=on_text)
        each.future.add_done_callback(lambda _, number=number: speaking.discard(number))
        pending.append(each)
    for each in pending:
        each.future.result(timeout=200)
    return max(counts)


def test_the_batch_size_changes_without_a_reload_and_is_obeyed(engine):
    pid = engine.pid
    # The next may speak before the last one's end is read.
    assert most_at_once(engine, 1) <= 2
    assert 2 <= most_at_once(engine, 4) <= 5
    assert engine.pid == pid


def test_a_window_that_is_looked_at_goes_first_and_a_cancelled_one_makes_room(engine, way):
    first = engine.submit(request(259, sampling=LONG, batch_size=1))
    until(lambda: first.text)
    order: list[str] = []

    def submit(seed: int, name: str, priority: int) -> PendingRequest:
        each = engine.submit(request(seed, batch_size=1, priority=priority))
        each.future.add_done_callback(lambda _: order.append(name))
        return each

    waiting = [submit(260 + number, str(number), 0) for number in range(6)]
    waiting.append(submit(280, "looked at", -1))
    # Once this is answered, the worker has all of them.
    engine.encoder_runs()
    if way == "one process":
        # Videos are encoded beside the first caption, so that each waits for its turn alone.
        until(lambda: waiting[0].started and waiting[-1].started)
    else:
        assert not any(each.started for each in waiting)
    assert order == []
    engine.cancel(first)
    assert first.future.cancelled()
    for each in waiting:
        each.future.result(timeout=200)
    assert order[0] == "looked at"
    assert len(order) == 7


def test_a_prompt_too_long_for_the_model_fails_alone(engine):
    good, bad = engine.submit(request(220)), engine.submit(request(221, "very " * 40_000 + "long"))
    with pytest.raises(RequestError, match="token"):
        bad.future.result(timeout=200)
    assert good.future.result(timeout=200).text


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


@pytest.mark.parametrize("way", ["fork"], indirect=True)
def test_a_window_with_more_tokens_than_a_step_has_is_captioned(engine):
    assert engine.submit(large(24)).future.result(timeout=250).prompt_tokens > 8192


@pytest.mark.parametrize("way", ["fork"], indirect=True)
def test_a_window_with_more_tokens_than_a_step_encodes_is_refused_and_costs_no_neighbour(engine):
    refused, good = engine.submit(large(90)), engine.submit(request(70))
    said = r"window 3 of a\.mp4 has 32400 video tokens, .* at most 32256: .* pixel budget of \d+ \("
    with pytest.raises(RequestError, match=said):
        refused.future.result(timeout=120)
    assert good.future.result(timeout=120).text


@pytest.mark.parametrize("way", ["fork", "spawn"], indirect=True)
def test_nothing_is_left_of_a_core_after_its_engine_is_closed_or_its_worker_killed(engine, way):
    worker = psutil.Process(engine.pid)
    family = [worker, *worker.children(recursive=True)]
    assert core_among(family)
    if way == "fork":
        engine.close()
    else:
        worker.kill()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []
    until(lambda: not engine.running)


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
