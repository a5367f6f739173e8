"""Signal x moment x command: no process of ours outlives the command."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable

import programs
import psutil
import pytest
from common import ROOT

pytestmark = pytest.mark.engine

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
    for each in family(command):
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


def ends_with_all_of_its_processes(command: subprocess.Popen, number: int) -> None:
    members = family(command)
    assert len(members) > 1
    command.send_signal(number)
    command.wait(60)
    _, alive = psutil.wait_procs(members, timeout=60)
    assert alive == []


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
    ends_with_all_of_its_processes(kernel, number)
    kernel.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_serve_while_it_loads(number):
    server, _ = start_serve()
    until(lambda: core_starts(server))
    ends_with_all_of_its_processes(server, number)


def test_nothing_outlives_serve_with_captions_under_way():
    server, address = start_serve()
    with caption_at(address):
        ends_with_all_of_its_processes(server, signal.SIGTERM)
