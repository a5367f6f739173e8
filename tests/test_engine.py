"""The engine on real vLLM: reuse, isolation, death and interrupts; see also `test_engine_ways`.

Runs with ``VLLM_ENABLE_V1_MULTIPROCESSING=1`` too, where vLLM's core is a process of its own.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.util
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable

import numpy as np
import programs
import psutil
import pytest
import soak
from common import noise_inputs
from faults import kill_at_random

from captionkit.engine import (
    CacheMissError,
    Engine,
    EngineError,
    EngineKey,
    PendingRequest,
    Request,
    Sampling,
    VideoInput,
    process,
)
from captionkit.stages import QwenVL
from captionkit.stages.qwen_vl import GenerationError

pytestmark = pytest.mark.engine

GREEDY = Sampling(max_tokens=16, temperature=0)
LONG = Sampling(max_tokens=1000, temperature=0, ignore_eos=True)


@pytest.fixture
def engine(model: QwenVL) -> Engine:
    """The engine that all tests share."""
    assert isinstance(model.backend, Engine)
    return model.backend


def request(seed: int, prompt: str = "Describe this video.", **changes) -> Request:
    inputs = noise_inputs(seed, prompt)
    video = VideoInput(
        inputs["multi_modal_uuids"]["video"],
        inputs["video_metadata"],
        inputs["multi_modal_data"]["video"],
    )
    return Request(prompt, video, **{"sampling": GREEDY, **changes})


def texts(engine: Engine, requests: list[Request]) -> list[str]:
    pending = [engine.submit(each) for each in requests]
    return [each.future.result(timeout=120).text for each in pending]


def without_frames(each: Request) -> Request:
    return dataclasses.replace(each, video=dataclasses.replace(each.video, frames=None))


def until(true: Callable[[], object]) -> None:
    """Wait for a condition; how long it takes is the machine's."""
    end = time.monotonic() + 200
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_engine_never_starts_twice_for_one_key(engine):
    again = QwenVL(model_variant="demo", caption_batch_size=2)
    again.setup()
    assert again.backend is engine


def test_an_unknown_window_without_frames_is_a_cache_miss(engine):
    with pytest.raises(CacheMissError, match="noise-200"):
        engine.submit(without_frames(request(200)))


def test_frames_that_the_engine_lost_are_sent_again(engine):
    # The client believes that the engine knows the window, as after a drift between the two.
    engine._remember(request(210).video.uid)
    (text,) = texts(engine, [request(210)])
    assert text
    assert texts(engine, [request(210)]) == [text]


def test_a_lost_window_without_frames_is_reported_as_such(engine):
    lost = without_frames(request(211))
    engine._remember(lost.video.uid)
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


def test_each_new_video_is_encoded_once_however_many_ask_for_it(engine):
    engine.encoder_runs()
    pending = [engine.submit(request(4100 + n, batch_size=4)) for n in range(12)]
    pending += [engine.submit(request(4111, "What moves?", batch_size=4)) for _ in range(3)]
    for each in pending:
        each.future.result(timeout=120)
    assert engine.encoder_runs() == 12


@pytest.mark.skipif(
    os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING") == "1",
    reason="vLLM as it is encodes all videos in its first steps",
)
def test_the_first_of_many_captions_does_not_wait_for_all_videos(engine):
    pending = [engine.submit(request(4000 + n, batch_size=32)) for n in range(24)]
    done = [each.future.result(timeout=120) for each in pending]
    # Left to itself, vLLM encodes all of these in its first step: then no caption would end before
    # each had its first word.
    assert min(each.seconds for each in done) < max(each.first_token_s for each in done)


def test_a_callback_that_fails_costs_no_caption(engine, caplog):
    def on_text(_: str) -> None:
        raise ZeroDivisionError

    pending = engine.submit(request(285), on_text=on_text)
    assert pending.future.result(timeout=120).text == pending.text
    assert texts(engine, [request(286)])
    assert "a callback of request" in caplog.text


def test_text_streams_in_and_a_stream_that_is_left_is_cancelled(engine):
    async def first_texts() -> list[str]:
        parts = []
        async for item in engine.stream(request(290, sampling=LONG)):
            parts.append(item)
            break
        return parts

    (part,) = asyncio.run(first_texts())
    assert isinstance(part, str)
    assert texts(engine, [request(291)])


def kill(engine: Engine) -> None:
    os.kill(engine.pid, signal.SIGKILL)


def test_an_engine_that_dies_in_mid_run_loses_no_window(engine):
    wanted = texts(engine, [request(300 + n, batch_size=2) for n in range(6)])
    engine.restart()
    pid = engine.pid
    pending = [engine.submit(request(300 + n, batch_size=2)) for n in range(6)]
    pending[0].future.add_done_callback(lambda _: kill(engine))
    assert [each.future.result(timeout=180).text for each in pending] == wanted
    until(lambda: engine.pid != pid or not engine.running)


def test_an_engine_that_dies_twice_loses_no_window(engine):
    pending = [engine.submit(request(3000 + n, batch_size=1)) for n in range(16)]
    for _ in range(2):
        pid = engine.pid
        kill(engine)
        until(lambda pid=pid: engine.pid != pid)
    assert all(each.future.result(timeout=180).text for each in pending)


def test_a_window_that_kills_the_engine_is_set_aside_and_costs_no_neighbour(engine):
    others = [engine.submit(request(3100 + n, batch_size=4)) for n in range(6)]
    poison = engine.submit(request(3150, sampling=LONG, batch_size=4), on_text=lambda _: kill(engine))
    others += [engine.submit(request(3110 + n, batch_size=4)) for n in range(6)]
    with pytest.raises(EngineError, match="died 3 times with this window under way"):
        poison.future.result(timeout=300)
    assert all(each.future.result(timeout=180).text for each in others)


def test_a_known_window_that_overtakes_is_not_blamed_for_a_death(engine):
    known = request(3160, priority=-1, batch_size=1)
    texts(engine, [known])
    overtaking: list[PendingRequest] = []
    pid = engine.pid

    def on_text(_: str) -> None:
        # The known window goes before all others, but has to wait: the other one runs alone.
        if not overtaking:
            overtaking.append(engine.submit(known))
        elif engine.pid == pid:
            kill(engine)

    other = engine.submit(request(3161, sampling=LONG, batch_size=1), on_text=on_text)
    assert other.future.result(timeout=300).text
    assert overtaking[0].future.result(timeout=180).text
    assert (other.deaths, overtaking[0].deaths) == (1, 0)


def test_an_engine_that_hangs_is_found_and_loses_no_window(engine, monkeypatch, caplog):
    monkeypatch.setattr("captionkit.engine.client.HANG_S", 6.0)
    pending = [engine.submit(request(3200 + n, batch_size=2)) for n in range(6)]
    pid = engine.pid
    os.kill(pid, signal.SIGSTOP)
    until(lambda: engine.pid != pid)
    assert "the engine's process did not answer for 6 s" in caplog.text
    # The next one is only busy.
    monkeypatch.undo()
    assert all(each.future.result(timeout=180).text for each in pending)


def test_kills_at_random_moments_lose_and_mix_up_no_window():
    counts = kill_at_random(QwenVL(model_variant="demo", max_output_tokens=48), kills=3)
    assert counts["kills"] == 3
    # Another batch may round a word otherwise; a window that got no caption has a reason.
    assert set(counts) <= {
        "kills", "windows", "captioned", "failed with a reason", "worded anew", "mixed up"
    }  # fmt: skip
    assert counts["captioned"] + counts["failed with a reason"] == counts["windows"]
    assert counts["mixed up"] == 0


def test_close_may_be_called_twice_and_the_next_get_starts_anew(model, engine):
    worker = psutil.Process(engine.pid)
    waiting = engine.submit(request(320, sampling=LONG))
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        waiting.future.result(timeout=60)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
    with pytest.raises(EngineError, match="closed"):
        engine.submit(request(321))
    model.setup()
    assert model.backend is not engine
    assert texts(model.backend, [request(321)])


def test_a_changed_key_closes_the_old_engine_first(model, engine):
    plain = QwenVL(model_variant="demo", disable_mmcache=True, max_output_tokens=16)
    plain.setup()
    assert engine.closed
    assert plain.backend.info["mm_processor_cache_gb"] == 0
    # Without the cache frames are always sent, and captions are the same.
    captions = plain.generate([noise_inputs(330)])
    assert plain.generate([noise_inputs(330)]) == captions
    assert not plain.knows("noise-330-4")
    model.setup()
    assert model.backend.info["mm_processor_cache_gb"] > 0
    assert model.backend.info["encoder_cache_size"] > 65_000


@pytest.mark.parametrize(("weights", "threads"), [(0, None), (60 << 20, "1"), (65 << 20, None)])
def test_a_small_model_takes_one_thread_an_operation(tmp_path, monkeypatch, weights, threads):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(weights)
    count = process._threads(tmp_path)
    assert process.environment(count)["OMP_NUM_THREADS"] == (threads or str(os.cpu_count()))
    assert process.environment(count)["TORCHDYNAMO_DISABLE"] == "1"
    # On a GPU, vLLM chooses its threads and compiles.
    assert not {"OMP_NUM_THREADS", "TORCHDYNAMO_DISABLE"} & set(process.environment(None))


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


def start_kernel(what: str) -> tuple[subprocess.Popen[str], psutil.Process]:
    """A kernel of its own and its engine."""
    kernel = programs.start("captioning", what, stdout=subprocess.PIPE, start_new_session=True)
    return kernel, psutil.Process(int(kernel.stdout.readline()))


def test_no_orphan_is_left_when_the_kernel_is_killed():
    kernel, worker = start_kernel("wait")
    family = [worker, *worker.children(recursive=True)]
    kernel.kill()
    kernel.wait()
    kernel.stdout.close()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []


def test_an_interrupt_in_mid_run_leaves_the_engine_alive_and_the_next_run_right():
    kernel, worker = start_kernel("caption")
    before = worker.cpu_times().user
    until(lambda: worker.cpu_times().user > before + 0.5)
    # As a terminal and Jupyter do: to the whole process group.
    os.killpg(kernel.pid, signal.SIGINT)
    rest = kernel.communicate(timeout=300)[0].split()
    assert rest == ["interrupted", "4", str(worker.pid)]


def test_requests_may_come_from_many_threads(engine):
    results: dict[int, str] = {}

    def one(number: int) -> None:
        results[number] = texts(engine, [request(400 + number)])[0]

    threads = [threading.Thread(target=one, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert sorted(results) == list(range(8))
    assert [results[n] for n in range(8)] == texts(engine, [request(400 + n) for n in range(8)])


def test_a_cancelled_request_ends_at_once_and_others_go_on(engine):
    slow = engine.submit(request(420, sampling=LONG))
    engine.cancel(slow)
    assert slow.future.cancelled()
    assert texts(engine, [request(421)])


def test_windows_with_random_cancels_and_recipes_keep_their_own_captions(engine):
    report = asyncio.run(soak.run(engine, 160))
    counts = report.counts
    assert sum(counts.values()) == 160
    assert counts["mixed up"] == 0
    assert counts["cancelled"] > 3
    # Another batch may round a word otherwise; a window that failed may not be.
    assert set(counts) <= {"right", "worded anew", "cancelled", "mixed up"}
    assert counts["right"] > 100
    for what in ("kernel handles", "engine handles", "kernel threads", "engine threads"):
        assert report.samples[-1][what] <= report.samples[1][what] + 8
