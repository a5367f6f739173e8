"""What can go wrong with the engine, and with one request."""


class EngineError(RuntimeError):
    """The engine could not start, or died."""


class RequestError(ValueError):
    """The one request was refused; others are not concerned."""


class CacheMissError(RequestError):
    """The engine does not hold this window's frames (any more): submit it with its frames."""
