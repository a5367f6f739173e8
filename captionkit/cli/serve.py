"""``captionkit serve``: serve one engine to several notebooks."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape

from captionkit.cli.common import (
    UsageError,
    add_limits,
    add_model_dir,
    add_tensor_parallel,
    refuse_limits,
)
from captionkit.engine.arguments import check_memory
from captionkit.engine.hosts import is_loopback
from captionkit.engine.process import environment, find_card, require_vllm, runs_on_cpu
from captionkit.engine.protocol import EngineKey
from captionkit.engine.several import device_groups
from captionkit.models.variants import get_variant
from captionkit.models.weights import ensure_weights
from captionkit.recipe import Recipe
from captionkit.system import hardware
from captionkit.system.cores import usable_cores
from captionkit.system.lifetime import kill_session

# Seconds that captions under way have to end once the server is stopped.
_GRACE_S = 5.0


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "serve", help="serve a model to several notebooks: Session(endpoint=…)"
    )
    parser.add_argument("--model", default="demo", help="a name, a folder or a repository id")
    parser.add_argument(
        "--host", default="127.0.0.1", help="default: this machine alone; others need VLLM_API_KEY"
    )
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--fp8", action="store_true", help="weights in fp8 (needs a GPU with fp8 units)"
    )
    add_model_dir(parser)
    add_limits(parser)
    add_tensor_parallel(parser)
    parser.set_defaults(run=_serve)


def _serve(options: argparse.Namespace, console: Console) -> int:
    group: list[hardware.Gpu] = []
    try:
        variant = get_variant(options.model)
        if options.fp8:
            hardware.require_fp8()
        if options.tensor_parallel != 1:
            group = device_groups(None, options.tensor_parallel)[0]
    except ValueError as error:
        raise UsageError(str(error)) from error
    refuse_limits(options)
    if not is_loopback(options.host) and not os.environ.get("VLLM_API_KEY"):
        raise UsageError(
            f"--host {options.host} admits other machines: set VLLM_API_KEY to a key of your choice, "
            "and CAPTIONKIT_API_KEY to the same key for the sessions"
        )
    host = f"[{options.host}]" if ":" in options.host else options.host
    try:
        family, *_, where = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            # Reuse the address as the server does: a port counts as free once its server has ended.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{host}:{options.port} is not available ({reason}); give another --port"
        ) from error
    require_vllm()
    folder = ensure_weights(variant, options.model_dir)
    key = EngineKey(
        str(folder.resolve()),
        options.fp8,
        max_model_len=options.max_model_len,
        memory_share=options.memory_share,
        tensor_parallel=options.tensor_parallel,
    )
    try:
        # Before vLLM loads; the server's own process sees the rest.
        check_memory(key, Recipe(), find_card(group))
    except ValueError as error:
        raise UsageError(str(error)) from error
    address = f"http://{host}:{options.port}/v1"
    console.print(
        f"serving {escape(variant.name)}; once the server is up: "
        f"ck.Session(videos, model={variant.name!r}, endpoint={address!r})"
    )
    words = [str(folder.resolve()), "--name", variant.name, "--host", options.host]
    words += ["--port", str(options.port), *(["--fp8"] if options.fp8 else [])]
    for name, limit in (
        ("--max-model-len", options.max_model_len),
        ("--memory-share", options.memory_share),
        ("--tensor-parallel", options.tensor_parallel),
    ):
        words += [] if limit is None else [name, str(limit)]
    command = [sys.executable, "-m", "captionkit.engine.serve", *words]
    return _run([*command, "--parent", str(os.getpid())])


def _run(command: list[str]) -> int:
    """Run the server in a session of its own until it ends, or a signal ends all of it.

    vLLM alone ignores SIGTERM while it loads, and waits without a limit for captions under way.
    """
    # On a GPU, vLLM chooses its threads.
    made = environment(usable_cores() if runs_on_cpu() else None)
    server = subprocess.Popen(command, start_new_session=True, env=made)
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # nohup ignores SIGHUP.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _stop)
        return server.wait()
    except _StoppedError as stopped:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired, _StoppedError):
            server.wait(timeout=_GRACE_S)
        return 128 + int(stopped.args[0])
    finally:
        kill_session(server)


class _StoppedError(Exception):
    """Raised by a signal that ends the server; its argument is the signal's number."""


def _stop(number: int, frame: object) -> None:
    raise _StoppedError(number)
