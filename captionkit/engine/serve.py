"""vLLM's own OpenAI-compatible server for video windows: ``python -m captionkit.engine.serve MODEL``.

Several notebooks share its engine, and a kernel that restarts loads no model. vLLM runs as it is, on a
CPU too.
"""

from __future__ import annotations

from captionkit.engine.torch_companions import reconcile
from captionkit.system.lifetime import leave_with, leave_with_spawner

# First of all, and at module level: vLLM's own children import this module again before vLLM.
leave_with_spawner()
reconcile()

# ruff: noqa: E402
import argparse
import json
import os
from typing import Any

from captionkit.engine.arguments import engine_arguments, tune
from captionkit.engine.hosts import LOOPBACK_ONLY, is_loopback
from captionkit.engine.protocol import EngineKey


def main() -> None:
    """Serve until interrupted, or until the parent is gone."""
    parser = argparse.ArgumentParser(prog="python -m captionkit.engine.serve")
    parser.add_argument("model", help="folder with the weights")
    parser.add_argument("--name", required=True, help="name of the model in requests")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", required=True)
    parser.add_argument("--fp8", action="store_true")
    parser.add_argument("--max-model-len", type=int)
    parser.add_argument("--memory-share", type=float)
    parser.add_argument("--parent", required=True, type=int, help="process to leave with")
    options = parser.parse_args()
    leave_with(options.parent)
    key = EngineKey(
        options.model,
        options.fp8,
        max_model_len=options.max_model_len,
        memory_share=options.memory_share,
    )
    arguments, plan = engine_arguments(key)
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.cli.serve import ServeSubcommand
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    build = AsyncEngineArgs.create_engine_config

    def create_engine_config(self: Any, *args: Any, **kwargs: Any) -> Any:
        config = build(self, *args, **kwargs)
        tune(config, plan)
        return config

    # The server builds its configuration itself; goes with `tune`.
    AsyncEngineArgs.create_engine_config = create_engine_config
    words = [
        "serve",
        arguments.pop("model"),
        "--served-model-name",
        options.name,
        "--host",
        options.host,
        "--port",
        options.port,
        "--enable-prompt-tokens-details",
        # Each video carries the times of its frames; `captionkit serve` demands a key if other machines
        # can send.
        "--trust-request-mm-kwargs",
        # Take all frames of a video.
        "--media-io-kwargs",
        '{"video": {"num_frames": -1}}',
        # Fetch nothing: windows come inside the requests. No name ends in `.invalid` (RFC 2606).
        "--allowed-media-domains",
        "media.invalid",
        *(["--middleware", LOOPBACK_ONLY] if is_loopback(options.host) else []),
        *_flags(arguments),
    ]
    # Avoid vLLM's own `main`: it asks for the version of a package that vLLM's CPU build does not have.
    # What it sets instead is a start method that every accelerator bears.
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    parser = FlexibleArgumentParser()
    serve = ServeSubcommand()
    serve.subparser_init(parser.add_subparsers(dest="subparser"))
    chosen = parser.parse_args(words)
    serve.validate(chosen)
    serve.cmd(chosen)


def _flags(arguments: dict[str, Any]) -> list[str]:
    """Return arguments as vLLM's command line takes them."""
    words: list[str] = []
    for name, value in arguments.items():
        flag = f"--{name.replace('_', '-')}"
        match value:
            case None | False:
                continue
            case True:
                words.append(flag)
            case dict():
                words += [flag, json.dumps(value)]
            case _:
                words += [flag, str(value)]
    return words


if __name__ == "__main__":
    main()
