"""Backends that make captions: vLLM in a process of its own, or an OpenAI-compatible vLLM server."""

from __future__ import annotations

import os
import threading

from captionkit.engine.client import Engine
from captionkit.engine.errors import CacheMissError, EngineError, EngineGoneError, RequestError
from captionkit.engine.pending import PendingRequest
from captionkit.engine.protocol import (
    Backend,
    Completion,
    EngineKey,
    Request,
    Sampling,
    VideoInput,
)
from captionkit.engine.server import ServerBackend

__all__ = [
    "Backend",
    "CacheMissError",
    "Completion",
    "Engine",
    "EngineError",
    "EngineGoneError",
    "EngineKey",
    "PendingRequest",
    "Request",
    "RequestError",
    "Sampling",
    "ServerBackend",
    "VideoInput",
]


def _leave_to_parent() -> None:
    """Leave engines and servers to the process that this one was forked from: answers go there."""
    Engine._live, Engine._live_lock = (), threading.Lock()
    ServerBackend._live = {}


os.register_at_fork(after_in_child=_leave_to_parent)
