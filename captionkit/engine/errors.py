"""What can go wrong with the engine, and with one request."""

import re

_OUT_OF_MEMORY = re.compile(
    r"out of memory|outofmemory|no available memory|free memory on device", re.I
)


def advice(reason: str) -> str:
    """What to do about a reason that vLLM gives, as the end of a sentence; often nothing."""
    if _OUT_OF_MEMORY.search(reason):
        return (
            "; there is too little memory: lower the batch size, the sampling fps or the pixel budget, "
            "take fp8 or a smaller model, or close what else uses the GPU (nvidia-smi shows it)"
        )
    return ""


class EngineError(RuntimeError):
    """The engine could not start, or died."""


class RequestError(ValueError):
    """The one request was refused; others are not concerned."""


class CacheMissError(RequestError):
    """The engine does not hold this window's frames (any more): submit it with its frames."""
