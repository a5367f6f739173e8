"""Errors of the engine, and of one request; what vLLM's log says about a failure."""

from __future__ import annotations

import re
from pathlib import Path

_TOO_LITTLE = (
    "there is too little memory: lower the batch size, the sampling fps, the pixel budget or "
    "max_model_len, take fp8 or a smaller model, or close what else uses the GPU (nvidia-smi shows it)"
)
# What vLLM, PyTorch, CUDA and Triton write, and what to do about it; the first that fits counts.
_ADVICE = (
    (
        r"KV cache is needed|no available memory for the cache",
        "there is too little memory for keys and values: raise memory_share, lower max_model_len, take "
        "fp8 or a smaller model, or close what else uses the GPU (nvidia-smi shows it)",
    ),
    (r"out of memory|outofmemory|free memory on device", _TOO_LITTLE),
    (
        r"bad_alloc|not enough memory|cannot allocate memory|on kv cache allocation|signal 9\b",
        "the machine has too little memory: lower the batch size, the pixel budget or max_model_len, "
        "take a smaller model, or close other programs",
    ),
    (
        r"failed to find C compiler|Python\.h: No such file",
        "Triton compiles for this GPU: install gcc and the headers of Python (python3-dev)",
    ),
    (
        r"driver version is insufficient|driver on your system is too old|no kernel image is available",
        "the driver or the GPU is too old for this build of vLLM: update the driver",
    ),
    (r"no space left on device", "the disk is full: free some space"),
)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# (EngineCore pid=12) ERROR 11-26 06:36:27 [core.py:1510] the text; workers share a model's GPUs.
_MARKED = re.compile(
    r"\((EngineCore|VllmWorker|Worker)(?P<rank>[^)]*)\)\s+"
    r"(?:[A-Z]+ [\d-]+ [\d:.]+ \[[^\]]*\] ?)?(?P<text>.*)"
)
_TRACEBACK = "Traceback (most recent call last):"
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(?::\s|$)")
# Exceptions that only say that another process has the reason.
_ELSEWHERE = re.compile(
    r"see (?:root cause|stack trace)|initialization failed|died unexpectedly|EngineDeadError|cancelled",
    re.I,
)
_MOST_READ = 1 << 20


class EngineError(RuntimeError):
    """Raised when the engine could not start, died, or was closed."""


class TooLittleMemoryError(EngineError):
    """Raised before a model is loaded that does not fit; has the numbers and what to lower."""


class EngineGoneError(EngineError):
    """Raised when no further request can be answered: the engine was closed, or the server is away."""


class RequestError(ValueError):
    """Raised when one request is refused; other requests are not affected."""


class CacheMissError(RequestError):
    """Raised when the engine does not hold a window's frames (any more): submit them again."""


def advice(reason: str) -> str:
    """Return what to do about a reason that vLLM gives, as the end of a sentence; often empty."""
    for pattern, remedy in _ADVICE:
        if re.search(pattern, reason, re.I):
            return f"; {remedy}"
    return ""


def read_log(path: Path) -> str:
    """Return the end of vLLM's log, without colours."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _MOST_READ))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return _COLOURS.sub("", text)


def find_cause(log: str) -> str | None:
    """Return the exception that ended vLLM's core, by its log; None if there is none.

    The last lines of a log are those of the process that waits for the core. The core's own lines
    carry its name, and a process that never came so far prints a plain traceback after
    ``Process EngineCore:``.

    Parameters
    ----------
    log
        Text of `read_log`.
    """
    streams: dict[str, list[str]] = {}
    plain: list[str] | None = None
    for line in log.splitlines():
        if found := _MARKED.search(line):
            name = "core" if found[1] == "EngineCore" else "worker"
            streams.setdefault(name + found["rank"], []).append(found["text"])
        elif re.match(r"Process (?:EngineCore|VllmWorker|Worker)\S*:$", line):
            plain = streams.setdefault(f"plain {line}", [])
        elif plain is not None:
            plain.append(line)
    causes = [
        (name, cause) for name, lines in streams.items() for cause in reversed(_exceptions(lines))
    ]
    told = [(name, cause) for name, cause in causes if not _ELSEWHERE.search(cause)]
    for kind in ("core", "worker", "plain"):
        for name, cause in told:
            if name.startswith(kind):
                return cause
    return None


def _exceptions(lines: list[str]) -> list[str]:
    """Return the exceptions of the tracebacks in one process's lines, each in one line."""
    found = []
    inside = False
    for index, line in enumerate(lines):
        if line.startswith(_TRACEBACK):
            inside = True
        elif inside and line and not line[0].isspace() and _EXCEPTION.match(line):
            inside = False
            found.append(" ".join([line, *_more(lines[index + 1 :])]))
    return found


def _more(lines: list[str]) -> list[str]:
    """Return the further lines of an exception's text, up to an empty line: at most three."""
    more: list[str] = []
    for line in lines[:3]:
        if not line.strip() or line.startswith(
            (_TRACEBACK, "Process ", "During handling", "The above")
        ):
            break
        if re.match(r"[A-Z]+ [\d-]+ [\d:.]+ \[", line) or line.startswith("["):
            break
        more.append(line.strip())
    return more
