"""Signal x moment x command: no process of ours outlives the command, `pytest -rP` prints the seconds.

The issue allows ten; a busy machine may need more.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable

import programs
import psutil
import pytest
from common import ROOT, core_among, is_engine, noise_inputs

import captionkit as ck
from captionkit.engine import Engine, EngineError, PendingRequest, Request, Sampling, VideoInput

pytestmark = pytest.mark.engine

logger = logging.getLogger(__name__)

APART = {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 200
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def family(command: subprocess.Popen) -> list[psutil.Process]:
    own = psutil.Process(command.pid)
    return [own, *own.children(recursive=True)]


def core_starts(command: subprocess.Popen) -> bool:
    """Whether vLLM's core is a process, forked or spawned."""
    assert command.poll() is None
    return core_among(family(command)) is not None


def start_serve() -> tuple[subprocess.Popen, str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", "captionkit", "serve", "--port", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(words, cwd=ROOT, **quiet), f"http://127.0.0.1:{port}"


def caption_at(address: str):
    """Begin a long caption at a server that may still load; return the open answer."""
    body = {
        "model": "demo",
        "messages": [{"role": "user", "content": "Go on."}],
        "max_tokens": 30_000,
        "stream": True,
        "ignore_eos": True,
    }
    asked = urllib.request.Request(
        f"{address}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    end = time.monotonic() + 200
    while True:
        try:
            answer = urllib.request.urlopen(asked, timeout=100)
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.3)
            continue
        assert answer.readline()
        return answer


def all_end(members: list[psutil.Process], begin: float, row: str) -> None:
    _, alive = psutil.wait_procs(members, timeout=60)
    assert alive == []
    logger.warning("%s: %.1f s", row, time.monotonic() - begin)


def ends_with_all_of_its_processes(command: subprocess.Popen, number: int, row: str) -> None:
    members = family(command)
    assert len(members) > 1
    begin = time.monotonic()
    command.send_signal(number)
    command.wait(60)
    all_end(members, begin, f"{signal.Signals(number).name} | {row}")


@pytest.mark.parametrize(
    ("what", "moment", "number"),
    [
        ("engine", "loading", signal.SIGKILL),
        ("engine", "loading", signal.SIGINT),
        ("engine", "captions under way", signal.SIGKILL),
        ("plain", "loading", signal.SIGTERM),
    ],
)
def test_nothing_outlives_a_kernel(what, moment, number):
    kernel = programs.start(
        "family", what, env=APART, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    if moment == "loading":
        until(lambda: core_starts(kernel))
    else:
        assert kernel.stdout.readline() == "up\n"
    ends_with_all_of_its_processes(kernel, number, f"{moment} | {what}")
    kernel.stdout.close()


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("loading", signal.SIGTERM),
        ("loading", signal.SIGHUP),
        ("loading", signal.SIGKILL),
        ("captions under way", signal.SIGTERM),
        ("captions under way", signal.SIGKILL),
    ],
)
def test_nothing_outlives_serve(moment, number):
    server, address = start_serve()
    with contextlib.ExitStack() as stack:
        if moment == "loading":
            until(lambda: core_starts(server))
        else:
            stack.enter_context(caption_at(address))
        ends_with_all_of_its_processes(server, number, f"{moment} | serve")


def engine_processes() -> list[psutil.Process]:
    """The processes of engines that this process has started."""
    return [
        each
        for child in psutil.Process().children()
        if is_engine(child.cmdline())
        for each in (child, *child.children(recursive=True))
    ]


@pytest.fixture
def session(harbour, tmp_path, monkeypatch):
    """A session whose engine is not there yet, and has its core in a process of its own."""
    for name, value in APART.items():
        monkeypatch.setenv(name, value)
    if live := Engine.live():
        live.close()
    session = ck.Session(harbour, store=tmp_path / "runs.sqlite", recipe=ck.Recipe(max_tokens=4))
    yield session
    session.close()
    if live := Engine.live():
        live.close()


def loading(session: ck.Session, prompt: str) -> tuple[ck.RunTask, list[psutil.Process]]:
    """Begin a run; return it once the engine's core is there, with the engine's processes."""
    task = session.start(prompt)
    until(lambda: core_among(engine_processes()))
    return task, engine_processes()


def test_stop_ends_an_engine_that_loads_and_the_next_caption_starts_one_anew(session):
    task, members = loading(session, "short")
    begin = time.monotonic()
    task.cancel()
    all_end(members, begin, "Stop | loading | notebook")
    task, members = loading(session, "short")
    begin = time.monotonic()
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        task.wait()
    all_end(members, begin, "Ctrl-C | loading | notebook")
    # A run that waits for the engine of a stopped one gets an engine of its own.
    task, members = loading(session, "short")
    other = session.start("dense")
    task.cancel()
    assert other.wait().status == "done"
    assert psutil.wait_procs(members, timeout=60)[1] == []
    assert Engine.live() is not None


def test_a_worker_or_a_core_that_ends_or_hangs_takes_the_other_along_and_captions_come_all_the_same(
    session, monkeypatch, caplog
):
    for name in ("worker", "core"):
        task, members = loading(session, "short")
        begin = time.monotonic()
        (members[0] if name == "worker" else core_among(members)).kill()
        all_end(members, begin, f"{name} SIGKILLed | loading | notebook")
        with pytest.raises(EngineError, match="did not start"):
            task.wait()
    assert session.caption("short").status == "done"
    engine = Engine.live()

    def ends(name: str, row: str, number: int) -> list[PendingRequest]:
        members, worker = engine_processes(), engine.pid
        pending = [engine.submit(long_request(50 + n)) for n in range(4)]
        until(lambda: pending[0].text and pending[1].text)
        begin = time.monotonic()
        (members[0] if name == "worker" else core_among(members)).send_signal(number)
        all_end(members, begin, row)
        assert all(each.future.result(timeout=250).text for each in pending)
        assert engine.pid != worker
        return pending

    # As a GPU without memory has it.
    mark = "(EngineCore pid=9) ERROR 11-26 06:36:27 [core.py:1512] "
    log = f"{mark}Traceback (most recent call last):\n{mark}OutOfMemoryError: CUDA out of memory\n"
    with monkeypatch.context() as patch:
        patch.setattr("captionkit.engine.process.read_log", lambda path: log)
        pending = ends("core", "core SIGKILLed | captions under way | notebook", signal.SIGKILL)
    # A death counts against captions that were started.
    assert [each.deaths for each in pending] == [1, 1, 0, 0]
    assert "OutOfMemoryError: CUDA out of memory; there is too little memory" in caplog.text
    ends("worker", "worker SIGKILLed | captions under way | notebook", signal.SIGKILL)
    # The worker answers for the core alone, not for itself.
    with monkeypatch.context() as patch:
        patch.setattr("captionkit.engine.client.HANG_S", 8.0)
        ends("core", "core stopped for 8 s | captions under way | notebook", signal.SIGSTOP)
    assert "vLLM's core did not answer for 8 s" in caplog.text


def long_request(seed: int) -> Request:
    inputs = noise_inputs(seed)
    video = VideoInput(
        inputs["multi_modal_uuids"]["video"],
        inputs["video_metadata"],
        inputs["multi_modal_data"]["video"],
    )
    sampling = Sampling(max_tokens=800, temperature=0, ignore_eos=True)
    return Request("Describe this video.", video, sampling, batch_size=2)
