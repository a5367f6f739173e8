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
from captionkit.engine.encodable import check_encodable, most_encoded
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
    parser.add_argument("--tensor-parallel", type=int, default=1)
    parser.add_argument("--parent", required=True, type=int, help="process to leave with")
    options = parser.parse_args()
    leave_with(options.parent)
    key = EngineKey(
        options.model,
        options.fp8,
        max_model_len=options.max_model_len,
        memory_share=options.memory_share,
        tensor_parallel=options.tensor_parallel,
    )
    arguments, plan = engine_arguments(key)
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.cli.serve import ServeSubcommand
    from vllm.renderers import BaseRenderer
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    build = AsyncEngineArgs.create_engine_config

    def create_engine_config(self: Any, *args: Any, **kwargs: Any) -> Any:
        config = build(self, *args, **kwargs)
        tune(config, plan)
        return config

    process = BaseRenderer.process_for_engine_async

    encodes: int | None = None

    async def process_for_engine_async(self: Any, prompt: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal encodes
        pixels = _pixels(prompt)
        rendered = await process(self, prompt, *args, **kwargs)
        if encodes is None:
            encodes = most_encoded(self.config)
        check_encodable(rendered, encodes, pixels)
        return rendered

    # The server builds its configuration and its prompts itself; go with `tune`.
    AsyncEngineArgs.create_engine_config = create_engine_config
    BaseRenderer.process_for_engine_async = process_for_engine_async
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


def _pixels(prompt: Any) -> int | None:
    """Return the pixels of a frame in a prompt's video; None if only its id was sent."""
    video = (prompt.get("multi_modal_data") or {}).get("video")
    # A list of videos, each with the times of its frames, and wrapped with the bytes that it came as.
    while isinstance(media := getattr(video, "media", video), list | tuple):
        video = media[0] if media else None
    _, height, width, _ = getattr(media, "shape", (0, 0, 0, 0))
    return height * width or None


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
