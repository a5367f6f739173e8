"""Errors of the engine, and of one request."""

import re

_OUT_OF_MEMORY = re.compile(
    r"out of memory|outofmemory|no available memory|free memory on device", re.I
)


def advice(reason: str) -> str:
    """Return what to do about a reason that vLLM gives, as the end of a sentence; often empty."""
    if _OUT_OF_MEMORY.search(reason):
        return (
            "; there is too little memory: lower the batch size, the sampling fps or the pixel budget, "
            "take fp8 or a smaller model, or close what else uses the GPU (nvidia-smi shows it)"
        )
    return ""


class EngineError(RuntimeError):
    """Raised when the engine could not start, died, or was closed."""


class TooLittleMemoryError(EngineError):
    """Raised before a model is loaded that does not fit; has the numbers and what to lower."""


class EngineGoneError(EngineError):
    """Raised when no further request can be answered: the engine was closed, or the server is away."""


class RequestError(ValueError):
    """Raised when one request is refused; other requests are not affected."""


class CacheMissError(RequestError):
    """Raised when the engine does not hold a window's frames (any more): submit them again."""
