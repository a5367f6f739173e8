"""The engine on real vLLM: reuse, isolation, order, death and interrupts."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.util
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import psutil
import pytest
import soak
from common import ROOT, noise_inputs
from faults import kill_at_random

from captionkit.engine import process
from captionkit.engine.client import Engine
from captionkit.engine.errors import CacheMissError, EngineError, advice
from captionkit.engine.protocol import EngineKey, Request, Sampling, Video
from captionkit.stages.qwen_vl import GenerationError, QwenVL

pytestmark = pytest.mark.engine

GREEDY = Sampling(max_tokens=16, temperature=0)


def request(seed: int, prompt: str = "Describe this video.", **changes) -> Request:
    inputs = noise_inputs(seed, prompt)
    video = Video(
        inputs["multi_modal_uuids"]["video"],
        inputs["video_metadata"],
        inputs["multi_modal_data"]["video"],
    )
    return Request(prompt, video, **{"sampling": GREEDY, **changes})


def texts(engine: Engine, requests: list[Request]) -> list[str]:
    handles = [engine.submit(each) for each in requests]
    return [handle.future.result(timeout=120).text for handle in handles]


def without_frames(each: Request) -> Request:
    return Request(each.prompt, Video(each.video.uid, each.video.metadata), each.sampling)


def test_a_known_window_with_a_new_prompt_sends_no_frames_and_runs_no_encoder(model):
    engine = model.engine
    seeds = range(100, 112)
    texts(engine, [request(seed) for seed in seeds])
    assert engine.encoder_runs() >= len(seeds)
    again = [without_frames(request(seed, "What else is there to see?")) for seed in seeds]
    warm = texts(engine, again)
    assert engine.encoder_runs() == 0
    # The same work on an engine that has never seen the windows gives the same text.
    engine.restart()
    cold = texts(engine, [request(seed, "What else is there to see?") for seed in seeds])
    assert engine.encoder_runs() == len(seeds)
    assert warm == cold


def test_the_engine_never_starts_twice_for_one_key(model):
    again = QwenVL(model_variant="demo", caption_batch_size=2)
    again.setup()
    assert again.engine is model.engine
    assert again.engine.pid == model.engine.pid


def test_an_unknown_window_without_frames_is_a_cache_miss(model):
    with pytest.raises(CacheMissError, match="noise-200"):
        model.engine.submit(without_frames(request(200)))


def test_frames_that_the_engine_lost_are_sent_again(model):
    engine = model.engine
    (text,) = texts(engine, [request(210)])
    engine.restart()
    # The client believes that the engine knows it, as after a drift between the two.
    engine._remember(request(210).video.uid)
    assert texts(engine, [request(210)]) == [text]


def test_a_lost_window_without_frames_is_reported_as_such(model):
    engine = model.engine
    engine._remember("noise-never-sent-4")
    lost = Request("Describe.", Video("noise-never-sent-4", request(1).video.metadata), GREEDY)
    with pytest.raises(CacheMissError):
        engine.submit(lost).future.result(timeout=60)


def test_a_prompt_too_long_for_the_model_fails_alone(model):
    good = [noise_inputs(220), noise_inputs(222)]
    with pytest.raises(GenerationError) as caught:
        model.generate([good[0], noise_inputs(221, "very " * 40_000 + "long"), good[1]])
    assert list(caught.value.errors) == [1]
    assert "token" in caught.value.errors[1]
    assert caught.value.captions[0]
    assert caught.value.captions[2]


def broken(seed: int, change) -> dict:
    inputs = noise_inputs(seed)
    inputs["multi_modal_data"] = {"video": change(inputs["multi_modal_data"]["video"])}
    return inputs


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f: np.where(f > 250, np.nan, f.astype(np.float32)), "NaN"),
        (lambda f: f.astype(np.float32), "uint8"),
        (lambda f: f[0], "shape"),
        (lambda f: f.transpose(0, 2, 3, 1), "shape"),
        (lambda f: f[:1], "even number"),
        (lambda f: f[:0], "shape"),
        (lambda f: f[..., :14, :14], "multiples of 28"),
    ],
)
def test_broken_frames_fail_alone_with_the_reason(model, change, reason):
    with pytest.raises(GenerationError) as caught:
        model.generate([noise_inputs(230), broken(231, change), noise_inputs(232)])
    assert list(caught.value.errors) == [1]
    assert reason in caught.value.errors[1]


def test_the_batch_size_changes_without_a_reload_and_is_obeyed(model):
    engine = model.engine
    pid = engine.pid
    most = {}
    for size in (1, 4):
        running: set[int] = set()
        seen = []

        def on_text(number: int, _: str, running=running, seen=seen) -> None:
            running.add(number)
            seen.append(len(running))

        handles = []
        for number in range(8):
            each = request(240 + number, sampling=Sampling(max_tokens=24, temperature=0))
            handle = engine.submit(
                each, batch_size=size, on_text=lambda text, n=number: on_text(n, text)
            )
            handle.future.add_done_callback(lambda _, n=number, running=running: running.discard(n))
            handles.append(handle)
        for handle in handles:
            handle.future.result(timeout=120)
        most[size] = max(seen)
    assert engine.pid == pid
    assert most[1] <= 2  # the next may speak before the last one's end is told
    assert 2 <= most[4] <= 5


def test_each_new_video_is_encoded_once_however_many_ask_for_it(model):
    engine = model.engine
    engine.encoder_runs()
    handles = [engine.submit(request(4100 + n), batch_size=4) for n in range(12)]
    handles += [engine.submit(request(4111, "What moves?"), batch_size=4) for _ in range(3)]
    for handle in handles:
        handle.future.result(timeout=120)
    assert engine.encoder_runs() == 12


def test_the_first_of_many_captions_does_not_wait_for_all_videos(model):
    engine = model.engine
    handles = [engine.submit(request(4000 + n), batch_size=32) for n in range(24)]
    done = [handle.future.result(timeout=120) for handle in handles]
    # Left to itself, vLLM encodes all of these in its first step: then no caption would end before
    # each had its first word.
    assert min(each.seconds for each in done) < max(each.first_token_s for each in done)


def test_a_window_that_is_looked_at_goes_first(model):
    order: list[str] = []
    handles = []
    for number in range(12):
        handle = model.engine.submit(request(260 + number), batch_size=1)
        handle.future.add_done_callback(lambda _, n=number: order.append(str(n)))
        handles.append(handle)
    urgent = model.engine.submit(request(280, priority=-1), batch_size=1)
    urgent.future.add_done_callback(lambda _: order.append("urgent"))
    for handle in [*handles, urgent]:
        handle.future.result(timeout=120)
    # Some may be done before it is asked for; in the order of asking it would be the last of 13.
    assert order.index("urgent") <= 8


def test_text_streams_in_and_a_stream_that_is_left_is_cancelled(model):
    async def first_texts() -> list[str]:
        parts = []
        long = request(290, sampling=Sampling(max_tokens=400, temperature=0))
        async for item in model.engine.stream(long):
            parts.append(item)
            break
        return parts

    (part,) = asyncio.run(first_texts())
    assert isinstance(part, str)
    assert texts(model.engine, [request(291)])


def test_an_engine_that_dies_in_mid_run_loses_no_window(model):
    engine = model.engine
    pid = engine.pid
    wanted = texts(engine, [request(300 + n) for n in range(6)])
    engine.restart()
    handles = [engine.submit(request(300 + n), batch_size=2) for n in range(6)]
    handles[0].future.result(timeout=60)
    os.kill(engine.pid, signal.SIGKILL)
    assert [handle.future.result(timeout=180).text for handle in handles] == wanted
    assert engine.pid != pid


def test_an_engine_that_dies_twice_loses_no_window(model):
    engine = model.engine
    handles = [engine.submit(request(3000 + n), batch_size=1) for n in range(40)]
    first = engine.pid
    os.kill(first, signal.SIGKILL)
    deadline = time.monotonic() + 120
    while engine.pid == first or not engine.info:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    # Wait for the second one to be up before it is killed as well.
    with engine._lock:
        os.kill(engine.pid, signal.SIGKILL)
    assert all(handle.future.result(timeout=180).text for handle in handles)


def test_a_window_that_kills_the_engine_is_set_aside_and_costs_no_neighbour(model):
    engine = model.engine
    others = [engine.submit(request(3100 + n), batch_size=4) for n in range(6)]
    poison = engine.submit(
        request(3150), batch_size=4, on_text=lambda text: os.kill(engine.pid, signal.SIGKILL)
    )
    others += [engine.submit(request(3110 + n), batch_size=4) for n in range(6)]
    with pytest.raises(EngineError, match="died 3 times with this window under way"):
        poison.future.result(timeout=300)
    assert all(handle.future.result(timeout=180).text for handle in others)


def test_an_engine_that_hangs_is_found_and_loses_no_window(model, monkeypatch):
    monkeypatch.setattr("captionkit.engine.client.HANG_S", 6.0)
    engine = model.engine
    # Its watcher reads the limit between two looks.
    handles = [engine.submit(request(3200 + n), batch_size=2) for n in range(6)]
    first = engine.pid
    os.kill(first, signal.SIGSTOP)
    begun = time.monotonic()
    assert all(handle.future.result(timeout=180).text for handle in handles)
    assert engine.pid != first
    assert time.monotonic() - begun > 4


def test_kills_at_random_moments_lose_and_mix_up_no_window(model):
    counts = kill_at_random(QwenVL(model_variant="demo", max_output_tokens=48), kills=3)
    assert counts["kills"] == 3
    assert counts["captioned"] >= 24
    assert set(counts) <= {"kills", "captioned", "failed with a reason", "mixed up"}
    assert counts["mixed up"] == 0


def test_too_little_memory_is_said_as_such_with_what_to_lower():
    assert "lower the batch size" in advice("torch.OutOfMemoryError: CUDA out of memory. Tried")
    assert "nvidia-smi" in advice("ValueError: Free memory on device cuda:0 (2/80 GiB) is less")
    assert advice("ValueError: the prompt is too long") == ""


def test_close_may_be_called_twice_and_the_next_get_starts_anew(model):
    engine = model.engine
    process = psutil.Process(engine.pid)
    waiting = engine.submit(request(320, sampling=Sampling(max_tokens=2000)))
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        waiting.future.result(timeout=10)
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    with pytest.raises(EngineError, match="closed"):
        engine.submit(request(321))
    model.setup()
    assert texts(model.engine, [request(321)])


def test_a_changed_key_closes_the_old_engine_first(model):
    old = model.engine
    plain = QwenVL(model_variant="demo", disable_mmcache=True, max_output_tokens=16)
    plain.setup()
    assert old.closed
    assert plain.engine.info["mm_processor_cache_gb"] == 0
    # Without the cache frames are always sent, and captions are the same.
    captions = plain.generate([noise_inputs(330)])
    assert plain.generate([noise_inputs(330)]) == captions
    assert not plain.knows("noise-330-4")
    model.setup()
    assert model.engine.info["mm_processor_cache_gb"] > 0
    assert model.engine.info["encoder_cache_size"] > 65_000


@pytest.mark.parametrize(("weights", "threads"), [(0, None), (60 << 20, "1"), (65 << 20, None)])
def test_a_small_model_takes_one_thread_an_operation(tmp_path, monkeypatch, weights, threads):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(weights)
    count = process._threads(tmp_path)
    assert process.environment(count)["OMP_NUM_THREADS"] == (threads or str(os.cpu_count()))
    assert "OMP_NUM_THREADS" not in process.environment(None)


def test_a_failed_start_carries_the_log_and_the_way_out(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "nonesuch"}')
    with pytest.raises(EngineError) as caught:
        Engine(EngineKey(str(tmp_path)))
    message = str(caught.value)
    assert "Last lines of" in message
    assert "captionkit doctor" in message
    assert "nonesuch" in message


def test_no_vllm_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"captionkit\[cpu\]"):
        Engine(EngineKey("anything"))


CHILD = """
    import sys, time
    sys.path.insert(0, {tests!r})
    from captionkit.stages.qwen_vl import QwenVL
    from common import noise_inputs
    model = QwenVL(model_variant="demo", max_output_tokens=2000)
    model.setup()
    print(model.engine.pid, flush=True)
    if {interrupted}:
        try:
            model.generate([noise_inputs(n) for n in range(200)])
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        model.max_output_tokens = 8
        print(len(model.generate([noise_inputs(n) for n in range(4)])), flush=True)
        print(model.engine.pid, flush=True)
    else:
        time.sleep(60)
"""


def start_child(*, interrupted: bool) -> subprocess.Popen:
    code = textwrap.dedent(CHILD.format(tests=str(ROOT / "tests"), interrupted=interrupted))
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_no_orphan_is_left_when_the_kernel_is_killed():
    child = start_child(interrupted=False)
    engine = psutil.Process(int(child.stdout.readline()))
    family = [engine, *engine.children(recursive=True)]
    child.kill()
    child.wait()
    child.stdout.close()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []


def test_an_interrupt_in_mid_run_leaves_the_engine_alive_and_the_next_run_right():
    child = start_child(interrupted=True)
    pid = child.stdout.readline()
    time.sleep(1)
    # As a terminal and Jupyter do: to the whole process group.
    os.killpg(child.pid, signal.SIGINT)
    rest = child.communicate(timeout=300)[0].split()
    assert rest == ["interrupted", "4", pid.strip()]


def test_requests_may_come_from_many_threads(model):
    results: dict[int, str] = {}

    def one(number: int) -> None:
        results[number] = texts(model.engine, [request(400 + number)])[0]

    threads = [threading.Thread(target=one, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert sorted(results) == list(range(8))
    assert [results[n] for n in range(8)] == texts(model.engine, [request(400 + n) for n in range(8)])


def test_a_cancelled_request_ends_at_once_and_others_go_on(model):
    slow = model.engine.submit(request(420, sampling=Sampling(max_tokens=2000)))
    model.engine.cancel(slow)
    assert slow.future.cancelled()
    assert texts(model.engine, [request(421)])


def test_windows_with_random_cancels_and_recipes_keep_their_own_captions(model):
    soaked = dataclasses.replace(model, max_output_tokens=96, sampling=Sampling(temperature=0))
    soaked.setup()
    report = asyncio.run(soak.run(soaked, 240))
    counts = report.counts
    assert sum(counts.values()) == 240
    assert counts["mixed up"] == 0
    assert counts["cancelled"] > 3
    # Another batch may round a word otherwise; a window that failed may not be.
    assert set(counts) <= {"right", "worded anew", "cancelled", "mixed up"}
    assert counts["right"] > 150
    for what in ("kernel handles", "engine handles", "kernel threads", "engine threads"):
        assert report.samples[-1][what] <= report.samples[1][what] + 8
