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
from common import ROOT, is_engine

import captionkit as ck
from captionkit.engine import Engine

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
    return core_among(family(command))


def core_among(processes: list[psutil.Process]) -> bool:
    for each in processes:
        try:
            if "EngineCore" in each.name() or any("spawn_main" in word for word in each.cmdline()):
                return True
        except psutil.Error:
            continue
    return False


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("moment", ["loading", "captions under way"])
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


def test_stop_ends_an_engine_that_loads_and_the_next_caption_starts_one_anew(
    harbour, tmp_path, monkeypatch
):
    for name, value in APART.items():
        monkeypatch.setenv(name, value)
    if live := Engine.live():
        live.close()
    session = ck.Session(harbour, store=tmp_path / "runs.sqlite", recipe=ck.Recipe(max_tokens=4))

    def loading(prompt: str) -> tuple[ck.RunTask, list[psutil.Process]]:
        task = session.start(prompt)
        until(lambda: core_among(engine_processes()))
        return task, engine_processes()

    task, members = loading("short")
    begin = time.monotonic()
    task.cancel()
    all_end(members, begin, "Stop | loading | notebook")
    task, members = loading("short")
    begin = time.monotonic()
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        task.wait()
    all_end(members, begin, "Ctrl-C | loading | notebook")
    # A run that waits for the engine of a stopped one gets an engine of its own.
    task, members = loading("short")
    other = session.start("dense")
    task.cancel()
    assert other.wait().status == "done"
    assert psutil.wait_procs(members, timeout=60)[1] == []
    assert Engine.live() is not None
    session.close()
    Engine.live().close()
