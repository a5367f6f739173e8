"""What the notebook's side and the engine process say to each other, over `captionkit.wire`.

Imports numpy only, since both processes import it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class EngineKey:
    """What cannot be changed without loading the model again.

    Parameters
    ----------
    model
        Folder with the weights, configuration and tokenizer.
    fp8
        Weights in fp8 (GPU only).
    disable_mmcache
        Switch vLLM's cache of processed videos off.
    processor_pixels
        (least, most) pixels a frame where the model's own processor resizes; None where frames
        arrive at their final size.
    """

    model: str
    fp8: bool = False
    disable_mmcache: bool = False
    processor_pixels: tuple[int, int] | None = None


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn; the defaults are the reference's.

    ``ignore_eos`` forces captions to ``max_tokens``, for measurements; ``schema`` is a JSON schema that
    they fit.
    """

    max_tokens: int = 512
    temperature: float = 0.1
    top_p: float = 0.001
    repetition_penalty: float = 1.05
    seed: int | None = None
    ignore_eos: bool = False
    schema: str | None = None


@dataclass(frozen=True)
class Video:
    """One window's frames and what identifies them.

    ``frames`` are uint8 of shape (frames, 3, height, width), or None for a window that the engine
    has seen under the same ``uid``. ``metadata`` holds fps, frames_indices, total_num_frames and
    duration (seconds), as vLLM asks for.
    """

    uid: str
    metadata: dict[str, Any]
    frames: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Request:
    """One caption to make: the prompt's text, which the worker puts behind the video."""

    prompt: str
    video: Video
    sampling: Sampling = field(default_factory=Sampling)
    priority: int = 0


def pack_request(request_id: str, request: Request) -> tuple[dict[str, Any], bytes | memoryview]:
    """A request as a message and its payload."""
    frames = request.video.frames
    message = {
        "op": "submit",
        "id": request_id,
        "prompt": request.prompt,
        "sampling": asdict(request.sampling),
        "priority": request.priority,
        "uid": request.video.uid,
        "metadata": request.video.metadata,
        "shape": None if frames is None else list(frames.shape),
    }
    if frames is None:
        return message, b""
    return message, np.ascontiguousarray(frames).data.cast("B")


def unpack_request(message: dict[str, Any], payload: bytearray) -> Request:
    """The request that `pack_request` packed; the frames are a view of ``payload``."""
    frames = None
    if message["shape"] is not None:
        frames = np.frombuffer(payload, np.uint8).reshape(message["shape"])
    return Request(
        prompt=message["prompt"],
        video=Video(message["uid"], message["metadata"], frames),
        sampling=Sampling(**message["sampling"]),
        priority=message["priority"],
    )
