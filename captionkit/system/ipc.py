"""Messages to and from a process of our own, over a socket pair that it inherits.

A message is a JSON object, followed by raw bytes if it carries frames: no pickle, nothing that could
run code, and no other process can reach the socket.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

_HEADER = struct.Struct(">IQ")


def send(channel: socket.socket, message: dict[str, Any], payload: bytes | memoryview = b"") -> None:
    """Write one message; the caller holds a lock if several threads write."""
    head = json.dumps(message).encode()
    channel.sendall(_HEADER.pack(len(head), len(payload)) + head)
    if payload:
        channel.sendall(payload)


def receive(channel: socket.socket) -> tuple[dict[str, Any], bytearray]:
    """Read one message.

    Raises
    ------
    EOFError
        The other side is gone.
    """
    head_size, payload_size = _HEADER.unpack(_exactly(channel, _HEADER.size))
    head = json.loads(_exactly(channel, head_size))
    return head, _exactly(channel, payload_size)


def _exactly(channel: socket.socket, size: int) -> bytearray:
    buffer = bytearray(size)
    view, got = memoryview(buffer), 0
    while got < size:
        count = channel.recv_into(view[got:])
        if count == 0:
            raise EOFError("the other side closed the channel")
        got += count
    return buffer


def leave_with_parent(before: Callable[[], None] | None = None) -> None:
    """End this process soon after its parent's, also while its main thread computes or hangs.

    Parameters
    ----------
    before
        Called before the process ends.
    """
    # PR_SET_PDEATHSIG would fire when the parent's thread ends that started this process.
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        if before:
            before()
        os._exit(1)

    threading.Thread(target=watch, name="leave-with-parent", daemon=True).start()
