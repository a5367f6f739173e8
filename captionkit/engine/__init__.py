"""The engine: vLLM in a process of its own, and the client that talks to it."""

from __future__ import annotations

from captionkit.engine.client import Engine, Handle
from captionkit.engine.errors import CacheMissError, EngineError, RequestError
from captionkit.engine.protocol import EngineKey, Request, Sampling, Video

__all__ = [
    "CacheMissError",
    "Engine",
    "EngineError",
    "EngineKey",
    "Handle",
    "Request",
    "RequestError",
    "Sampling",
    "Video",
]
