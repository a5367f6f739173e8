"""vLLM without captionkit, in its own process: the reference's loop, and the ceiling.

The reference's loop follows the description of NeMo Curator: decode all windows of the video, then pass
chunks of the batch size through a blocking ``LLM.generate``, then run stage 2 over the chunk. The
ceiling has all frames in memory and submits every request at once.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from captionkit.engine.torch_companions import reconcile
from captionkit.system.lifetime import leave_with_spawner

# At module level: vLLM's own children import this module again.
leave_with_spawner()
reconcile()

from captionkit import prompts  # noqa: E402
from captionkit.bench.curator import Curator  # noqa: E402
from captionkit.bench.work import Work, decoders, planned, recipe  # noqa: E402
from captionkit.pipeline import PreparedWindow, prepare  # noqa: E402
from captionkit.system import ipc  # noqa: E402

_KV_BYTES = 512 << 20


class _Plain:
    def __init__(self, model: str, dtype: str, profiles: bool) -> None:
        from vllm import LLM

        self.llm = LLM(
            model=model,
            dtype=dtype,
            limit_mm_per_prompt={"video": 1, "image": 0},
            mm_processor_kwargs={"do_resize": False},
            max_model_len=8192,
            kv_cache_memory_bytes=_KV_BYTES,
            skip_mm_profiling=not profiles,
            disable_log_stats=True,
        )
        self.tokenizer = self.llm.get_tokenizer()
        self._model = model
        self._curator: Curator | None = None

    def forget(self) -> None:
        """Empty all caches, so that the next run is cold."""
        engines = [self.llm, *([self._curator.generation.model.model] if self._curator else [])]
        for llm in engines:
            llm.reset_prefix_cache()
            llm.llm_engine.reset_mm_cache()
            llm.llm_engine.reset_encoder_cache()

    def reference(self, work: Work) -> dict[str, Any]:
        started = time.monotonic()
        inputs = _decoded(work)
        texts: list[list[str]] = []
        first = 0.0
        for start in range(0, len(inputs), work.batch_size):
            chunk = inputs[start : start + work.batch_size]
            some = work.lengths[start : start + work.batch_size]
            captions = self._ask([each.prompt for each in chunk], chunk, some)
            texts += [[each] for each in captions]
            if work.stage2:
                second = [_second(work.stage2, each) for each in captions]
                for kept, more in zip(texts[start:], self._ask(second, chunk, some), strict=True):
                    kept.append(more)
            first = first or time.monotonic() - started
        return {"seconds": time.monotonic() - started, "first_s": first, "texts": texts}

    def ceiling(self, work: Work) -> dict[str, Any]:
        inputs = _decoded(work)
        started = time.monotonic()
        texts = [[each] for each in self._ask([each.prompt for each in inputs], inputs, work.lengths)]
        if work.stage2:
            second = [_second(work.stage2, first) for (first,) in texts]
            for kept, more in zip(texts, self._ask(second, inputs, work.lengths), strict=True):
                kept.append(more)
        return {"seconds": time.monotonic() - started, "first_s": 0.0, "texts": texts}

    def curator(self, work: Work) -> dict[str, Any]:
        if self._curator is None:
            self._curator = Curator(self._model, kv_cache_memory_bytes=_KV_BYTES)
        return self._curator.run(work)

    def _ask(self, texts: list[str], inputs: list[PreparedWindow], lengths: list[int]) -> list[str]:
        from vllm import SamplingParams

        requests: list[Any] = []
        for text, each in zip(texts, inputs, strict=True):
            content = [{"type": "video"}, {"type": "text", "text": text}]
            chat = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
            )
            video = (each.video.frames, each.video.metadata)
            requests.append({"prompt": chat, "multi_modal_data": {"video": [video]}})
        params = [
            SamplingParams(temperature=0, repetition_penalty=1.05, max_tokens=n, ignore_eos=True)
            for n in lengths
        ]
        return [done.outputs[0].text for done in self.llm.generate(requests, params, use_tqdm=False)]


def _decoded(work: Work) -> list[PreparedWindow]:
    """Decode all windows of the video in turn, as the reference does before its first caption."""
    pool = decoders(1)
    return [prepare(window, recipe(work), pool) for window in planned(work, workers=1)]


def _second(template: str, caption: str) -> str:
    return prompts.disarm(prompts.render(prompts.stage2_template(template), {"caption": caption}))


def main() -> None:
    """Serve the parent's requests until the parent closes the channel."""
    channel = ipc.open_channel(int(sys.argv[1]))
    message, _ = ipc.receive(channel)
    plain = _Plain(message["model"], message["dtype"], message["profiles"])
    ipc.send(channel, {"op": "ready"})
    while True:
        try:
            message, _ = ipc.receive(channel)
        except EOFError:
            return
        if message["fresh"]:
            plain.forget()
        answer = getattr(plain, message["side"])(Work(**message["work"]))
        ipc.send(channel, answer)


if __name__ == "__main__":
    main()
