"""A backend that answers at once, for tests of bookkeeping; tests of captions use real vLLM."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable

from captionkit.engine import CacheMissError, Completion, EngineError, Request, RequestError


class FakeBackend:
    """Captions each window with its prompt and the window's start.

    ``fail`` has the windows without a caption (by their start, as ``"8.53"``), ``known`` the ids that
    need no frames; ``gate`` holds captions back until the event is set. ``broken`` is raised instead of
    any caption.
    """

    def __init__(self, say: Callable[[str, str, int], str] | None = None) -> None:
        self.info = {"max_model_len": 32768, "device": "fake"}
        self.calls: list[tuple[str, int]] = []
        self.requests: list[Request] = []
        self.fail: set[str] = set()
        self.known: set[str] = set()
        self.gate: asyncio.Event | None = None
        self.broken: EngineError | None = None
        self.say = say or (lambda prompt, start, stage: f"{prompt} at {start}.")
        self.finish_reason = "stop"
        # Says the likeliest first tokens of an answer, for backends that report them.
        self.first_tokens: Callable[[Request, str], dict[str, float]] | None = None
        self.closed = False
        self._first: dict[tuple[str, str], str] = {}

    def knows(self, uid: str) -> bool:
        return uid in self.known

    async def stream(self, request: Request) -> AsyncIterator[str | Completion]:
        if self.broken is not None:
            raise self.broken
        # A text alone has no window.
        start = re.search(r"at ([\d.]+) s$", request.video.name).group(1) if request.video else ""
        if self.gate is not None:
            await self.gate.wait()
        if start in self.fail:
            raise RequestError(f"the window at {start} is broken")
        if request.lacks_frames and request.uid not in self.known:
            raise CacheMissError(f"{request.uid} was forgotten")
        stage, prompt = self._stage(request)
        self.calls.append((start, stage))
        self.requests.append(request)
        text = self.say(prompt, start, stage)
        if stage == 1:
            self._first[request.uid, text] = prompt
        elif stage == 2:
            text = f"{text} More of it."
        yield text[:4]
        yield Completion(
            prompt=f"<chat>{request.prompt}",
            text=text,
            finish_reason=self.finish_reason,
            prompt_tokens=200,
            output_tokens=len(text.split()),
            cached_tokens=0,
            queue_s=0.01,
            first_token_s=0.02,
            seconds=0.05,
            first_tokens=self.first_tokens(request, text)
            if self.first_tokens and request.sampling.logprobs
            else None,
        )

    def _stage(self, request: Request) -> tuple[int, str]:
        """Return the stage and the prompt of stage 1; a prompt with an earlier text is of stage 2."""
        if "Statement: " in request.prompt:
            # A question about a caption has its words, and the words of its answers.
            return 3, request.prompt
        for (uid, text), prompt in self._first.items():
            if uid == (request.uid or uid) and text and text in request.prompt:
                return 2, prompt
        return 1, request.prompt

    async def open_gate(self) -> None:
        """Release captions; run with `loop.submit`, because an event belongs to its waiters' loop."""
        self.gate.set()

    def close(self) -> None:
        self.closed = True
