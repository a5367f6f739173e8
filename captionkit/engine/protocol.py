"""Requests, completions, and the `Backend` protocol between captioning and whatever makes captions.

Used in the engine's process and in the kernel, so it needs numpy only.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

# Keys of ``extra_args`` in vLLM's ``SamplingParams``, for the scheduler on a CPU. Inside its core, vLLM
# gives requests ids of its own.
BATCH_SIZE = "captionkit_batch_size"
REQUEST_ID = "captionkit_request_id"
# Environment variable for measurements: vLLM counts runs of the encoder. On a GPU that waits for the
# device twice a video, and vLLM keeps each request's figures until they are asked for.
ENCODER_STATS = "CAPTIONKIT_ENCODER_STATS"
# The most that vLLM reports for a token where nobody configured more.
MOST_LOGPROBS = 20
# Less likely tokens, below 0.000001, are not reported.
_LEAST_LOGPROB = -13.8


@dataclass(frozen=True)
class EngineKey:
    """Settings that cannot change without loading the model again.

    Parameters
    ----------
    model
        Folder with the weights, configuration and tokenizer.
    fp8
        Load the weights in fp8 (GPU only).
    disable_mmcache
        Switch off vLLM's cache of processed videos.
    processor_pixels
        (least, most) pixels a frame if the model's own processor resizes; None if frames arrive at
        their final size.
    max_model_len
        Most tokens of a window with its prompt and caption; None takes what the card has room for.
    memory_share
        Share of the card's memory that the engine may take; None takes 0.95.
    engines
        Engines on this machine, which share its memory.
    tensor_parallel
        GPUs that share the model. They change captions by rounding alone.
    devices
        GPUs of the engine, as in ``CUDA_VISIBLE_DEVICES``; empty takes the environment's.
    """

    model: str
    fp8: bool = False
    disable_mmcache: bool = False
    processor_pixels: tuple[int, int] | None = None
    max_model_len: int | None = None
    memory_share: float | None = None
    engines: int = 1
    tensor_parallel: int = 1
    devices: tuple[str, ...] = ()

    @property
    def anywhere(self) -> EngineKey:
        """The same settings without their place: engines of one session have them in common."""
        return replace(self, engines=1, devices=())


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn; the defaults are the reference's.

    ``ignore_eos`` forces captions to ``max_tokens``, for measurements; ``schema`` is the text of a JSON
    schema that captions are constrained to. ``logprobs`` is the number of likeliest first tokens that
    the completion carries, at most `MOST_LOGPROBS`.
    """

    max_tokens: int = 512
    temperature: float = 0.1
    top_p: float = 0.001
    repetition_penalty: float = 1.05
    seed: int | None = None
    ignore_eos: bool = False
    schema: str | None = None
    logprobs: int = 0


@dataclass(frozen=True)
class VideoInput:
    """One window's frames and what identifies them.

    Parameters
    ----------
    uid
        Identifier of exactly these frames.
    metadata
        fps, frames_indices, total_num_frames and duration (seconds), as vLLM asks for.
    frames
        uint8 of shape (frames, 3, height, width); None for a window that the backend has seen under
        the same ``uid``.
    name
        What messages call the window.
    """

    uid: str
    metadata: dict[str, Any]
    frames: NDArray[np.uint8] | None = None
    name: str = "a window"


@dataclass(frozen=True)
class Request:
    """One caption to make; the prompt's text follows the video in the model's chat format.

    Parameters
    ----------
    prompt
        Text of the user's turn.
    video
        The window; None asks with the text alone.
    sampling
        How tokens are drawn.
    priority
        Lower goes first: -1 for a window that a person is looking at.
    batch_size
        Captions that run at once; the newest request decides for all.
    """

    prompt: str
    video: VideoInput | None
    sampling: Sampling = field(default_factory=Sampling)
    priority: int = 0
    batch_size: int = 16

    @property
    def uid(self) -> str:
        """Identifier of the window's frames; empty without a window."""
        return self.video.uid if self.video else ""

    @property
    def lacks_frames(self) -> bool:
        """Whether the request names a window that only a backend that has seen it can caption."""
        return self.video is not None and self.video.frames is None


@dataclass(frozen=True)
class Completion:
    """The finished caption of one request.

    ``prompt`` is the final prompt in the model's chat format. ``finish_reason`` is vLLM's: ``stop``, or
    ``length`` if ``max_tokens`` cut the caption off. Times are in seconds, measured in the engine, from
    the request's arrival there. ``first_tokens`` has the likeliest first tokens of the answer, each
    text with its probability; None if nobody asked for them, or the backend has none.
    """

    prompt: str
    text: str
    finish_reason: str
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int
    queue_s: float
    first_token_s: float
    seconds: float
    first_tokens: dict[str, float] | None = None


def first_tokens(found: Iterable[tuple[str | None, float]]) -> dict[str, float]:
    """Return tokens with their log probabilities as texts with probabilities, equal texts added up."""
    shares: dict[str, float] = {}
    for token, logprob in found:
        if token and logprob > _LEAST_LOGPROB:
            shares[token] = shares.get(token, 0.0) + math.exp(logprob)
    return shares


class Backend(Protocol):
    """Maker of captions: vLLM in a process of its own, a server, or a fake for tests."""

    @property
    def info(self) -> Mapping[str, Any]:
        """Facts of the running model; always holds ``max_model_len`` (tokens)."""

    def knows(self, uid: str) -> bool:
        """Return whether a window can be captioned without its frames."""

    def stream(self, request: Request) -> AsyncIterator[str | Completion]:
        """Yield all text so far each time that it grows, then the `Completion`.

        Leaving the loop early cancels the request.

        Raises
        ------
        RequestError
            This request cannot be answered; others are not affected.
        CacheMissError
            The request came without frames, and the backend does not hold them (any more).
        EngineError
            The backend died and could not be started again, or was closed.
        """

    def close(self) -> None:
        """Stop the backend and fail requests under way; calling it again does nothing."""


def pack_request(request_id: str, request: Request) -> tuple[dict[str, Any], bytes | memoryview]:
    """Return a request as a message and its payload."""
    video = request.video
    frames = video.frames if video else None
    message = {
        "op": "submit",
        "id": request_id,
        "prompt": request.prompt,
        "sampling": asdict(request.sampling),
        "priority": request.priority,
        "batch_size": request.batch_size,
        "uid": request.uid,
        "metadata": video.metadata if video else None,
        "shape": None if frames is None else list(frames.shape),
    }
    if frames is None:
        return message, b""
    return message, np.ascontiguousarray(frames).data.cast("B")


def unpack_request(message: dict[str, Any], payload: bytearray) -> Request:
    """Return the request that `pack_request` packed; its frames are a view of ``payload``."""
    frames = None
    if message["shape"] is not None:
        frames = np.frombuffer(payload, np.uint8).reshape(message["shape"])
    known = message["metadata"] is not None
    return Request(
        prompt=message["prompt"],
        video=VideoInput(message["uid"], message["metadata"], frames) if known else None,
        sampling=Sampling(**message["sampling"]),
        priority=message["priority"],
        batch_size=message["batch_size"],
    )
