"""A server on loopback answers requests that name the loopback, and no others (DNS rebinding)."""

from __future__ import annotations

import asyncio

import pytest

from captionkit.engine.hosts import LoopbackOnly


def status(*hosts: str) -> int:
    async def app(scope, receive, send):
        await send({"status": 200})

    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "headers": [(b"host", host.encode()) for host in hosts]}
    asyncio.run(LoopbackOnly(app)(scope, None, send))
    return sent[0]["status"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8000", "[::1]", "[::1]:8000"])
def test_the_loopback_is_served(host):
    assert status(host) == 200


@pytest.mark.parametrize(
    "hosts",
    [(), ("",), ("evil.example:80",), ("127.0.0.1.evil.example",), ("[::2]:1",), ("localhost", "evil")],
)
def test_other_names_are_refused(hosts):
    assert status(*hosts) == 403
