"""An engine behind an endpoint: `captionkit serve`, or any vLLM server that speaks OpenAI's protocol.

The same face as `client.Engine`, for `models.qwen_vl`. Frames cross as PNG, so that they arrive as
they are, once a window; known windows go by their id. The server's own settings hold: its fp8, its
caches, how many captions run at once. Imports openai where it connects (extra ``endpoint``).
"""

from __future__ import annotations

import asyncio
import base64
import io
import os
import time
import weakref
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from captionkit.engine.errors import CacheMissError, EngineError, RequestError, advice
from captionkit.engine.protocol import Request
from captionkit.stages.tasks import Completion

# Never stored: read when it is needed, and only sent to the endpoint.
KEY_VARIABLE = "CAPTIONKIT_API_KEY"
_ANSWER_S = 10.0
_CAPTION_S = 900.0


class RemoteEngine:
    """A server's engine; `RemoteEngine.get` keeps one an endpoint and model.

    Parameters
    ----------
    endpoint
        Address up to ``/v1``, as ``http://localhost:8000/v1``.
    names
        What the model may be called there; the first one that the server has is taken.

    Raises
    ------
    EngineError
        It does not answer, is no vLLM, refuses the key, or lacks the model.
    """

    closed = False
    _live: ClassVar[dict[tuple[str, tuple[str, ...]], RemoteEngine]] = {}

    @classmethod
    def get(cls, endpoint: str, names: tuple[str, ...]) -> RemoteEngine:
        """The engine of this endpoint and model; asked again whether it is there."""
        found = cls._live.get((endpoint, names))
        if found is None:
            found = cls._live[endpoint, names] = cls(endpoint, names)
        else:
            found._look()
        return found

    def __init__(self, endpoint: str, names: tuple[str, ...]) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._names = names
        self._known: set[str] = set()
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = (
            weakref.WeakKeyDictionary()
        )
        self._running = 0
        self._waiting: list[asyncio.Future[None]] = []
        self._look()

    def _look(self) -> None:
        """Take in what the server has."""
        openai = _openai()
        client = openai.OpenAI(base_url=self.endpoint, api_key=_key(), timeout=_ANSWER_S, max_retries=0)
        with client:
            try:
                models = {each.id: each for each in client.models.list().data}
            except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
                raise EngineError(
                    f"{self.endpoint} refuses the key; set {KEY_VARIABLE} to the one that it knows"
                ) from error
            except (openai.OpenAIError, ValueError, TypeError, AttributeError) as error:
                raise EngineError(
                    f"{self.endpoint} does not answer as a server of models ({_said(error)}); is it "
                    "running, and does the address end in /v1? `captionkit serve` starts one"
                ) from error
        self.model = next((name for name in self._names if name in models), "")
        if not self.model:
            listed = ", ".join(sorted(models)) or "none"
            raise EngineError(
                f"{self.endpoint} has no model {self._names[0]!r}; it has: {listed}. Name one of them "
                "as the model, or start a server for yours"
            )
        facts = models[self.model]
        if facts.owned_by != "vllm":
            raise EngineError(
                f"{self.endpoint} is no vLLM server (its model is owned by {facts.owned_by!r}); frames "
                "of video windows can only be sent to vLLM"
            )
        self.info: dict[str, Any] = {
            "device": self.endpoint,
            "max_model_len": getattr(facts, "max_model_len", None) or 2**31,
        }

    def knows(self, uid: str) -> bool:
        """Whether the server captioned this window for us, so that its frames need not come again."""
        return uid in self._known

    async def stream(
        self, request: Request, *, batch_size: int = 16
    ) -> AsyncIterator[str | Completion]:
        """Yield all text so far each time that it grows, then the `Completion`.

        Leaving the loop early closes the connection, on which the server stops.

        Raises
        ------
        RequestError
            The server refuses this request.
        CacheMissError
            It does not hold the window (any more).
        EngineError
            It went away.
        """
        await self._turn(batch_size)
        try:
            try:
                async for item in self._stream(request):
                    yield item
            except CacheMissError:
                if request.video.frames is None:
                    raise
                async for item in self._stream(request):
                    yield item
        finally:
            self._running -= 1
            while self._waiting:
                if not (waiter := self._waiting.pop(0)).done():
                    waiter.set_result(None)
                    break

    async def _turn(self, batch_size: int) -> None:
        """Wait until fewer than ``batch_size`` of our captions run."""
        while self._running >= batch_size:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter
        self._running += 1

    async def _stream(self, request: Request) -> AsyncIterator[str | Completion]:
        openai = _openai()
        begun = time.monotonic()
        text, first_s, finish, usage = "", 0.0, None, None
        video = request.video
        try:
            body = await asyncio.to_thread(_body, self.model, request, video.uid in self._known)
            stream = await self._client().chat.completions.create(**body)
            async with stream:
                async for chunk in stream:
                    usage = chunk.usage or usage
                    for choice in chunk.choices:
                        finish = choice.finish_reason or finish
                        if choice.delta.content:
                            first_s = first_s or time.monotonic() - begun
                            text += choice.delta.content
                            yield text
        except openai.APIConnectionError as error:
            raise EngineError(f"{self.endpoint} went away: {_said(error)}") from error
        except openai.OpenAIError as error:
            if video.uid in self._known:
                self._known.discard(video.uid)
                raise CacheMissError(f"{self.endpoint}: {_said(error)}") from error
            raise RequestError(f"{self.endpoint}: {_said(error)}{advice(_said(error))}") from error
        if finish is None or usage is None:
            raise EngineError(f"{self.endpoint} ended a caption before its end")
        self._known.add(video.uid)
        details = usage.prompt_tokens_details
        yield Completion(
            prompt=request.prompt,
            text=text,
            finish_reason=finish,
            prompt_tokens=usage.prompt_tokens,
            output_tokens=usage.completion_tokens,
            cached_tokens=(details and details.cached_tokens) or 0,
            queue_s=0.0,
            first_token_s=first_s,
            seconds=time.monotonic() - begun,
        )

    def _client(self) -> Any:
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = _openai().AsyncOpenAI(
                base_url=self.endpoint, api_key=_key(), timeout=_CAPTION_S, max_retries=1
            )
        return self._clients[loop]


def _openai() -> Any:
    try:
        import openai
    except ImportError as error:
        raise EngineError(
            'an endpoint needs the package openai: pip install "captionkit[endpoint]"'
        ) from error
    return openai


def _key() -> str:
    return os.environ.get(KEY_VARIABLE) or "none"


def _said(error: Exception) -> str:
    body = getattr(error, "body", None)
    told = body.get("message") if isinstance(body, dict) else None
    return str(told or error.__cause__ or error)


def _body(model: str, request: Request, known: bool) -> dict[str, Any]:
    """A request for vLLM's chat completions; a known window goes without its frames."""
    wanted, video = request.sampling, request.video
    part: dict[str, Any] = {"type": "video_url", "video_url": None, "uuid": video.uid}
    more: dict[str, Any] = {
        "repetition_penalty": wanted.repetition_penalty,
        "ignore_eos": wanted.ignore_eos,
        "priority": request.priority,
        # With the frames and with their id alike: the server knows a window by both.
        "media_io_kwargs": {"video": {**video.metadata, "num_frames": -1}},
    }
    if not known:
        if video.frames is None:
            raise CacheMissError(f"the server has not seen {video.uid}: give its frames")
        frames = ",".join(_png(frame) for frame in video.frames)
        # A comma-separated row of pictures; vLLM reads each by its content, whatever kind it is.
        part["video_url"] = {"url": f"data:video/jpeg;base64,{frames}"}
    if wanted.schema:
        more["structured_outputs"] = {"json": wanted.schema}
    return {
        "model": model,
        "messages": [{"role": "user", "content": [part, {"type": "text", "text": request.prompt}]}],
        "max_tokens": wanted.max_tokens,
        "temperature": wanted.temperature,
        "top_p": wanted.top_p,
        "seed": wanted.seed,
        "stream": True,
        "stream_options": {"include_usage": True},
        "extra_body": more,
    }


def _png(frame: np.ndarray) -> str:
    packed = io.BytesIO()
    Image.fromarray(frame.transpose(1, 2, 0)).save(packed, "PNG", compress_level=1)
    return base64.b64encode(packed.getvalue()).decode()
