"""A failed start, and an engine that dies, say why: by logs as vLLM 0.32 writes them."""

from __future__ import annotations

import pytest

from captionkit.engine.errors import advice, find_cause, read_log

CORE = "(EngineCore pid=8648) ERROR 11-26 06:36:27 [core.py:1510] "
OLD_CORE = "(EngineCore_DP0 pid=8648) ERROR 11-26 06:36:27 [core.py:900] "
WORKER = "(Worker_TP1 pid=8660) ERROR 11-26 06:36:27 [multiproc_executor.py:953] "
MEMORY = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 3.90 GiB. GPU 0 has a total "
    "capacity of 22.03 GiB of which 1.10 GiB is free."
)
API = """Traceback (most recent call last):
  File "worker.py", line 121, in serve
    self._engine = start()
RuntimeError: Engine core initialization failed. See root cause above. Failed: {'EngineCore': 1}
"""


def marked(mark: str, *exceptions: str, head: str = "EngineCore failed to start.") -> str:
    """Lines of a process with a traceback for each exception."""
    lines = [head]
    for exception in exceptions:
        lines += ["Traceback (most recent call last):", '  File "core.py", line 1482, in run']
        lines += ["    engine_core = EngineCoreProc()", "                  ^^^^^^^^^^^^^^^^"]
        lines += [*exception.splitlines(), ""]
        lines += ["During handling of the above exception, another exception occurred:", ""]
    return "".join(f"{mark}{line}\n" for line in lines[:-2])


def test_the_last_exception_of_the_core_is_the_cause_and_not_that_of_the_process_that_waits():
    log = marked(CORE, "KeyError: 'first'", MEMORY) + API
    assert find_cause(log) == MEMORY
    assert "too little memory" in advice(find_cause(log))


def test_cores_of_other_versions_and_colours_are_read_too(tmp_path):
    path = tmp_path / "engine.log"
    red = marked(OLD_CORE, MEMORY).replace(
        "(EngineCore_DP0 pid=8648)", "\x1b[0;36m(EngineCore_DP0 pid=8648)\x1b[0;0m"
    )
    path.write_text(red + API)
    assert find_cause(read_log(path)) == MEMORY


def test_a_core_that_waited_for_a_worker_names_the_workers_exception():
    generic = (
        "Exception: WorkerProc initialization failed due to an exception in a background process. See "
        "stack trace for root cause."
    )
    log = marked(WORKER, MEMORY, head="WorkerProc failed to start.") + marked(CORE, generic) + API
    assert find_cause(log) == MEMORY


def test_lines_of_several_processes_that_mix_are_kept_apart():
    first = marked(WORKER, "ValueError: of worker one", head="WorkerProc failed to start.").splitlines()
    second = marked(CORE, "RuntimeError: of the core").splitlines()
    mixed = "\n".join(line for pair in zip(first, second, strict=True) for line in pair)
    assert find_cause(mixed) == "RuntimeError: of the core"


def test_an_exception_of_several_lines_is_told_whole():
    error = "RuntimeError: CUDA error: no kernel image is available on the device\nSearch for it.\n"
    cause = find_cause(marked(CORE, error) + API)
    assert cause.endswith("on the device Search for it.")
    assert "update the driver" in advice(cause)


def test_a_core_that_never_came_to_its_log_prints_a_plain_traceback():
    log = (
        'Process EngineCore:\nTraceback (most recent call last):\n  File "process.py", line 314\n'
        "ImportError: libcudart.so.13: cannot open shared object file\n" + API
    )
    assert find_cause(log) == "ImportError: libcudart.so.13: cannot open shared object file"


@pytest.mark.parametrize(
    "log", ["", API, "(EngineCore pid=1) INFO 11-26 06:36:27 [core.py:1] Error: no\n"]
)
def test_a_log_without_an_exception_of_the_core_has_no_cause(log):
    assert find_cause(log) is None


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (MEMORY, "lower the batch size"),
        ("ValueError: Free memory on device cuda:0 (2.0/80.0 GiB) on startup is less", "nvidia-smi"),
        ("ValueError: To serve at least one request (6 GiB KV cache is needed, which", "memory_share"),
        ("ValueError: No available memory for the cache blocks. Try", "memory_share"),
        ("ValueError: Available memory on node 0 (1/4 GiB) on kv cache allocation is", "machine"),
        ("the engine process ended (), killed by signal 9", "the machine has too little memory"),
        ("RuntimeError: Failed to find C compiler. Please specify via CC", "install gcc"),
        ("main.c:5:10: fatal error: Python.h: No such file or directory", "python3-dev"),
        (
            "RuntimeError: The NVIDIA driver on your system is too old (found 12040)",
            "update the driver",
        ),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
    ],
)
def test_each_reason_comes_with_what_to_do(reason, words):
    assert words in advice(reason)


def test_a_reason_that_nothing_here_mends_has_no_advice():
    assert advice("ValueError: the prompt is too long") == ""
