"""The cost of asking about each claim of captions, on windows that the engine knows."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import replace

from captionkit.bench.sides import Ours
from captionkit.bench.work import Work, decoders, planned, recipe
from captionkit.pipeline import open_backend
from captionkit.pipeline.questions import YES_NO, ask
from captionkit.prompts import QUESTIONS, render
from captionkit.review.claims import split_claims
from captionkit.system import loop


def verify_known(ours: Ours, work: Work, repeats: int) -> tuple[dict[str, list[float]], int, int]:
    """Return the seconds of verifying and of captioning cold, the claims, and runs of the encoder.

    The windows are captioned once before, so that the engine knows them. Each repeat asks other
    questions: no cache has their text.
    """
    texts = [stages[-1] for stages in ours.run(work)["texts"]]
    ours.encoder_runs()
    asked = [_verify(work, texts, number) for number in range(repeats)]
    runs = ours.encoder_runs()
    cold = [ours.run(replace(work, salt=uuid.uuid4().hex))["seconds"] for _ in range(repeats)]
    return {"verify": [each for each, _ in asked], "captions, cold": cold}, asked[0][1], runs


def _verify(work: Work, texts: Sequence[str], number: int) -> tuple[float, int]:
    """Ask about the claims of each window's text; return the seconds and the number of claims."""
    started = time.monotonic()
    made, pool, windows = recipe(work), decoders(None), planned(work)
    question = f"{QUESTIONS['claim']} ({number})"
    questions = [
        (window, [render(question, {"claim": claim.text}) for claim in split_claims(text)])
        for window, text in zip(windows, texts, strict=True)
    ]
    backend = open_backend(made, model_dir="")

    async def follow() -> int:
        count = 0
        async for each in ask(questions, YES_NO, made, backend, pool, batch_size=work.batch_size):
            if each.error:
                raise RuntimeError(f"window {each.window.number}: {each.error}")
            count += 1
        return count

    count = loop.run(follow())
    return time.monotonic() - started, count
