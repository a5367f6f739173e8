"""A laptop that sleeps: all of our processes stand still for longer than any limit, and go on."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import threading
import time

import programs
import psutil
import pytest

from captionkit.system import ipc


@pytest.mark.engine
def test_processes_that_all_stood_still_go_on_with_nothing_restarted_and_nothing_lost(tmp_path):
    limit_s = 8.0
    kernel = programs.start(
        "sleeper",
        limit_s,
        tmp_path,
        env={"VLLM_ENABLE_V1_MULTIPROCESSING": "1"},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert kernel.stdout.readline() == "up\n"
    own = psutil.Process(kernel.pid)
    # Kernel, decoders, worker and core.
    everyone = [own, *own.children(recursive=True)]
    assert len(everyone) >= 4
    for each in everyone:
        each.send_signal(signal.SIGSTOP)
    # Longer than the limits is what this is about.
    time.sleep(limit_s + 2)
    for each in everyone:
        with contextlib.suppress(psutil.Error):
            each.send_signal(signal.SIGCONT)
    printed, _ = kernel.communicate(timeout=300)
    assert json.loads(printed) == {"restarted": False, "gone": [], "lost": [], "windows": 0}
    assert kernel.returncode == 0


def test_an_answer_counts_as_late_after_some_looks_without_a_byte():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0.05)
        with pytest.raises(TimeoutError):
            ipc.receive(ours, 3)
        # Each byte begins the count anew.
        whole = socket.socketpair()
        ipc.send(whole[0], {"op": "late"})
        message = whole[1].recv(100)
        for end in whole:
            end.close()

        def send() -> None:
            for index in range(len(message)):
                time.sleep(0.01)
                theirs.sendall(message[index : index + 1])

        thread = threading.Thread(target=send)
        thread.start()
        assert ipc.receive(ours, 100)[0] == {"op": "late"}
        thread.join()
