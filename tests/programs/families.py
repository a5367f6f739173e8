"""One tiny model of each family on vLLM, in one process: ``families FOLDER [NAME …]``.

Prints a line of JSON for each, after the word ``family``.
"""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
import types
from pathlib import Path
from typing import Any

# SmolVLM's processor asks for this package, and uses it for videos; we send images.
sys.modules["num2words"] = types.ModuleType("num2words")
sys.modules["num2words"].num2words = str
sys.modules["num2words"].__spec__ = types.SimpleNamespace(name="num2words")

# ruff: noqa: E402
import numpy as np
import tiny_models
from common import VIDEOS

from captionkit.engine import Request, Sampling, VideoInput
from captionkit.engine.arguments import engine_arguments, tune
from captionkit.engine.chat import Chat
from captionkit.engine.cpu.install import install
from captionkit.engine.cpu.scheduler import CaptionScheduler
from captionkit.engine.protocol import BATCH_SIZE, REQUEST_ID
from captionkit.pipeline.backends import engine_key
from captionkit.pipeline.prepared import prepare, window_tokens
from captionkit.recipe import Recipe
from captionkit.sources import SourceClip, plan
from captionkit.video import DecodePool

FRAMES = 6
METADATA = {
    "fps": 2.0,
    "frames_indices": list(range(FRAMES)),
    "total_num_frames": FRAMES,
    "duration": FRAMES / 2,
    "do_sample_frames": False,
}
# Models that are tried again with sizes of their own processors: one of each class and processor.
RESIZING = {
    "qwen2_5_vl",
    "qwen3_vl",
    "glm4v",
    "internvl",
    "llava_onevision",
    "gemma4",
    "minicpmv4_6",
    "gemma3",
}
# Tokens and data of each request's videos or images, in the order of the prompt.
SEEN: dict[str, list[tuple[int, Any]]] = {}


def watch() -> None:
    """Keep what each request brings to vLLM's core."""
    add = CaptionScheduler.add_request

    def add_request(self, request):
        features = sorted(request.mm_features, key=lambda each: each.mm_position.offset)
        name = request.sampling_params.extra_args[REQUEST_ID]
        SEEN[name] = [(each.mm_position.get_num_embeds(), each.data) for each in features]
        add(self, request)

    CaptionScheduler.add_request = add_request


def steps(shape: tuple[int, ...]) -> np.ndarray:
    """Return frames of one grey each, brighter from frame to frame."""
    greys = np.arange(20, 20 + 30 * FRAMES, 30, dtype=np.uint8)
    return np.repeat(greys, np.prod(shape)).reshape(-1, *shape)


def brightness(features: list[tuple[int, Any]]) -> list[float]:
    """Return the sum of pixels of parts of a window, in the order that vLLM has."""
    sums = []
    for _, data in features:
        tensors = [each.data for each in data.values() if hasattr(each.data, "dim")]
        pixels = max(tensors, key=lambda each: each.numel()).double()
        parts = 1 if len(features) > 1 else FRAMES
        sums += [part.sum().item() for part in pixels.chunk(parts)]
    return sums


def tokens(name: str) -> int:
    return sum(number for number, _ in SEEN[name])


class Tried:
    """A tiny model on vLLM."""

    def __init__(self, folder: Path, patches: dict[str, Any], *, resizes: bool = False) -> None:
        from vllm import AsyncEngineArgs, AsyncLLMEngine

        key = engine_key(Recipe(model=str(folder)), "", model_resizes=resizes)
        arguments, sizes = engine_arguments(key)
        args = AsyncEngineArgs(**arguments, **patches, enable_mm_processor_stats=True)
        config = args.create_engine_config()
        tune(config, sizes)
        self.engine = AsyncLLMEngine.from_vllm_config(config)
        self.tokenizer = self.engine.get_tokenizer()
        self.chat = Chat(key)

    async def caption(self, name: str, video: VideoInput) -> Any:
        from vllm import SamplingParams

        # A prompt that names marks of some of the models adds no frame.
        request = Request("Describe <image> <video> this.", video, Sampling())
        prompt = self.chat.prompt(self.tokenizer, request)
        facts = {BATCH_SIZE: 4, REQUEST_ID: name}
        sampling = SamplingParams(max_tokens=4, temperature=0, extra_args=facts)
        return [each async for each in self.engine.generate(prompt, sampling, name)][-1]

    async def encoder_runs(self) -> int:
        stats = await self.engine.collective_rpc("get_encoder_timing_stats")
        return sum(int(each["num_encoder_calls"]) for rank in stats for each in rank.values())


async def try_family(folder: Path, patches: dict[str, Any], pool: DecodePool) -> dict[str, Any]:
    recipe = Recipe(model=str(folder))
    path = str(VIDEOS / "harbour.mp4")
    clip = SourceClip.open(pool, path, path)
    window = plan(clip, clip.cut(256, 128), "harbour")[0]
    video = prepare(window, recipe, pool).video
    metadata = video.metadata
    found: dict[str, Any] = {
        "frames": len(video.frames),
        "seconds": [index / metadata["fps"] for index in metadata["frames_indices"]],
        "counted": window_tokens(window, recipe),
    }
    tried = Tried(folder, patches)
    try:
        first = await tried.caption("film", video)
        found["tokens"] = tokens("film")
        found["prompt"] = tried.tokenizer.decode(first.prompt_token_ids)
        found["encoder runs"] = await tried.encoder_runs()
        again = await tried.caption("again", VideoInput(video.uid, metadata, None))
        found["encoder runs of the known window"] = await tried.encoder_runs()
        texts = [list(each.outputs[0].token_ids) for each in (first, again)]
        found["made"], found["same"] = len(texts[0]), texts[0] == texts[1]
        ordered = steps(video.frames.shape[1:])
        await tried.caption("steps", VideoInput("steps", METADATA, ordered))
        found["brightness"] = brightness(SEEN["steps"])
    finally:
        tried.engine.shutdown()
    if folder.name not in RESIZING:
        return found
    tried = Tried(folder, patches, resizes=True)
    try:
        decoded = prepare(window, recipe, pool, model_resizes=True).video
        await tried.caption("resized", decoded)
        found["tokens of the processor's size"] = tokens("resized")
        assert await tried.encoder_runs() > 0
        await tried.caption("again", VideoInput(decoded.uid, decoded.metadata, None))
        found["encoder runs of the known window, resized"] = await tried.encoder_runs()
    finally:
        tried.engine.shutdown()
    return found


def main() -> None:
    root, *names = sys.argv[1:]
    patches = install(lambda _: None)
    watch()
    with DecodePool(1) as pool:
        for name in names or tiny_models.MAKERS:
            try:
                folder = tiny_models.make(name, Path(root) / name)
                found = asyncio.run(try_family(folder, patches, pool))
            except Exception:
                # The other families are tried all the same.
                found = {"error": traceback.format_exc()}
            print("family " + json.dumps({"name": name, **found}), flush=True)


if __name__ == "__main__":
    main()
