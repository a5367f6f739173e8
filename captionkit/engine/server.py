"""The backend behind an endpoint: `captionkit serve`, or any vLLM server that speaks OpenAI's protocol.

Frames cross as PNG, so that they arrive unchanged, and once a window; known windows go by their id. The
server's own settings hold: its fp8 and its caches. Needs the package openai (extra ``endpoint``).
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

from captionkit.engine.admission import Admission
from captionkit.engine.errors import CacheMissError, EngineError, EngineGoneError, RequestError, advice
from captionkit.engine.protocol import Completion, Request, VideoInput, first_tokens

# The key is read when it is needed, sent to the endpoint alone, and never stored.
KEY_VARIABLE = "CAPTIONKIT_API_KEY"
_ANSWER_S = 10.0
_CAPTION_S = 900.0


class ServerBackend:
    """A model at a server, a `Backend`; `ServerBackend.get` keeps one an endpoint and model.

    Parameters
    ----------
    endpoint
        Address up to ``/v1``, as ``http://localhost:8000/v1``.
    names
        Names that the model may have there; the first one that the server has is taken.
    images
        Whether the model takes frames as images.

    Raises
    ------
    EngineError
        The server does not answer, is not vLLM, refuses the key, or lacks the model.
    """

    _live: ClassVar[dict[tuple[str, tuple[str, ...]], ServerBackend]] = {}

    @classmethod
    def get(cls, endpoint: str, names: tuple[str, ...], *, images: bool = False) -> ServerBackend:
        """Return the backend of this endpoint and model, after asking whether the server has it."""
        found = cls._live.get((endpoint, names))
        if found is None or found.closed:
            found = cls._live[endpoint, names] = cls(endpoint, names, images=images)
        else:
            found._look()
        return found

    def __init__(self, endpoint: str, names: tuple[str, ...], *, images: bool = False) -> None:
        self.endpoint = endpoint.rstrip("/")
        self.closed = False
        self._names = names
        self._images = images
        self._known: set[str] = set()
        # A client's connections belong to one event loop.
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = (
            weakref.WeakKeyDictionary()
        )
        self._admission = Admission()
        self._look()

    def _look(self) -> None:
        """Ask the server for its model."""
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
                    f"{self.endpoint} does not answer as a server of models ({_reason(error)}); is it "
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
                f"{self.endpoint} is not a vLLM server (its model is owned by {facts.owned_by!r}); "
                "frames of video windows can only be sent to vLLM"
            )
        self.info: dict[str, Any] = {
            "device": self.endpoint,
            "max_model_len": getattr(facts, "max_model_len", None) or 2**31,
        }

    def knows(self, uid: str) -> bool:
        """Return whether the server captioned this window for us: its frames need not come again."""
        return uid in self._known

    async def stream(self, request: Request) -> AsyncIterator[str | Completion]:
        """Yield all text so far each time that it grows, then the `Completion`; see `Backend`.

        Leaving the loop early closes the connection, on which the server stops.
        """
        async with self._admission.permit(request.priority, request.batch_size):
            try:
                async for item in self._stream(request):
                    yield item
            except CacheMissError:
                if request.lacks_frames:
                    raise
                async for item in self._stream(request):
                    yield item

    def close(self) -> None:
        """Close all connections, which fails captions under way; calling it again does nothing."""
        self.closed = True
        while self._clients:
            loop, client = self._clients.popitem()
            if loop.is_running():
                asyncio.run_coroutine_threadsafe(client.close(), loop)

    async def _stream(self, request: Request) -> AsyncIterator[str | Completion]:
        openai = _openai()
        begin = time.monotonic()
        text, first_s, finish, usage = "", 0.0, None, None
        likely = None
        try:
            known = request.uid in self._known
            body = await asyncio.to_thread(_body, self.model, request, known, self._images)
            stream = await self._client().chat.completions.create(**body)
            async with stream:
                async for chunk in stream:
                    usage = chunk.usage or usage
                    for choice in chunk.choices:
                        finish = choice.finish_reason or finish
                        if likely is None and choice.logprobs and choice.logprobs.content:
                            found = choice.logprobs.content[0].top_logprobs
                            likely = first_tokens((each.token, each.logprob) for each in found)
                        if choice.delta.content:
                            first_s = first_s or time.monotonic() - begin
                            text += choice.delta.content
                            yield text
        except openai.APITimeoutError as error:
            raise EngineError(
                f"{self.endpoint} did not finish a caption in {_CAPTION_S:.0f} s"
            ) from error
        except openai.APIConnectionError as error:
            what = "was closed" if self.closed else f"went away: {_reason(error)}"
            raise EngineGoneError(f"{self.endpoint} {what}") from error
        except openai.OpenAIError as error:
            if request.uid in self._known and "logprob" not in _reason(error):
                self._known.discard(request.uid)
                raise CacheMissError(f"{self.endpoint}: {_reason(error)}") from error
            raise RequestError(f"{self.endpoint}: {_reason(error)}{advice(_reason(error))}") from error
        if finish is None or usage is None:
            raise EngineError(f"{self.endpoint} ended a caption before its end")
        if request.video is not None:
            self._known.add(request.uid)
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
            seconds=time.monotonic() - begin,
            first_tokens=likely,
        )

    def _client(self) -> Any:
        if self.closed:
            raise EngineGoneError(f"{self.endpoint} was closed; ServerBackend.get connects again")
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


def _reason(error: Exception) -> str:
    body = getattr(error, "body", None)
    message = body.get("message") if isinstance(body, dict) else None
    return str(message or error.__cause__ or error)


def _body(model: str, request: Request, known: bool, images: bool = False) -> dict[str, Any]:
    """Return a request for vLLM's chat completions; a known window goes without its frames."""
    wanted, video = request.sampling, request.video
    if not known and request.lacks_frames:
        raise CacheMissError(f"the server has not seen {request.uid}: give its frames")
    more: dict[str, Any] = {
        "chat_template_kwargs": {"enable_thinking": False},
        "repetition_penalty": wanted.repetition_penalty,
        "ignore_eos": wanted.ignore_eos,
        "priority": request.priority,
    }
    content: str | list[dict[str, Any]] = request.prompt
    if video is not None:
        # Sent with the frames and with their id alike, since the server identifies a window by both.
        more["media_io_kwargs"] = {"video": {**video.metadata, "num_frames": -1}}
        pictures = () if known or video.frames is None else video.frames
        frames = [_png(frame) for frame in pictures]
        parts = _images(video, frames) if images else [_video(video, frames)]
        content = [*parts, _text(request.prompt)]
    if wanted.schema:
        more["structured_outputs"] = {"json": wanted.schema}
    asked = {"logprobs": True, "top_logprobs": wanted.logprobs} if wanted.logprobs else {}
    return {
        **asked,
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": wanted.max_tokens,
        "temperature": wanted.temperature,
        "top_p": wanted.top_p,
        "seed": wanted.seed,
        "stream": True,
        "stream_options": {"include_usage": True},
        "extra_body": more,
    }


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _video(video: VideoInput, frames: list[str]) -> dict[str, Any]:
    """Return a video as a part of a message; vLLM takes a comma-separated row of images.

    vLLM reads each image by its content, not by its type.
    """
    url = {"url": f"data:video/jpeg;base64,{','.join(frames)}"} if frames else None
    return {"type": "video_url", "video_url": url, "uuid": video.uid}


def _images(video: VideoInput, frames: list[str]) -> list[dict[str, Any]]:
    """Return frames as images of a message, each after its time."""
    parts = []
    for number, index in enumerate(video.metadata["frames_indices"]):
        url = {"url": f"data:image/png;base64,{frames[number]}"} if frames else None
        parts.append(_text(f"{index / video.metadata['fps']:.1f} s: "))
        parts.append({"type": "image_url", "image_url": url, "uuid": f"{video.uid}-{number}"})
    return parts


def _png(frame: np.ndarray) -> str:
    packed = io.BytesIO()
    Image.fromarray(frame.transpose(1, 2, 0)).save(packed, "PNG", compress_level=1)
    return base64.b64encode(packed.getvalue()).decode()
