"""A check of the name that a request was sent to, for a server on loopback.

A page on the internet can point its own name at 127.0.0.1 (DNS rebinding), and its scripts would reach
the server as if they were of this machine; only the header ``Host`` shows it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any

_REFUSAL = b"This server answers requests to localhost and to loopback addresses alone.\n"


# The class below as vLLM's command line names it.
LOOPBACK_ONLY = f"{__name__}.LoopbackOnly"


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine's loopback: ``localhost``, 127.0.0.0/8 or ::1."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class LoopbackOnly:
    """ASGI middleware that refuses requests whose ``Host`` is not the loopback, with status 403."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] == "lifespan" or _named_here(scope["headers"]):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"text/plain")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": _REFUSAL})


def _named_here(headers: list[tuple[bytes, bytes]]) -> bool:
    hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
    return len(hosts) == 1 and is_loopback(_without_port(hosts[0]))


def _without_port(host: str) -> str:
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
