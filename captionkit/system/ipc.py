"""Messages to and from a process of our own, over a socket pair that it inherits.

A message is a JSON object, followed by raw bytes if it carries frames: no pickle, nothing that could
run code, and no other process can reach the socket.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from typing import Any

from captionkit.system.lifetime import leave_with

_HEADER = struct.Struct(">IQ")
# Process, user and group that made a socket pair.
_MAKER = struct.Struct("3i")


def open_channel(descriptor: int) -> socket.socket:
    """Take the channel that the parent made, and leave with the parent; see `lifetime.leave_with`.

    Processes that this one forks hold no copy: the parent sees the channel end with this process.
    """
    channel = socket.socket(fileno=descriptor)
    parent, _, _ = _MAKER.unpack(channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _MAKER.size))
    leave_with(parent)
    os.register_at_fork(after_in_child=channel.close)
    return channel


def send(channel: socket.socket, message: dict[str, Any], payload: bytes | memoryview = b"") -> None:
    """Write one message; the caller holds a lock if several threads write."""
    head = json.dumps(message).encode()
    channel.sendall(_HEADER.pack(len(head), len(payload)) + head)
    if payload:
        channel.sendall(payload)


def receive(channel: socket.socket, looks: int = 1) -> tuple[dict[str, Any], bytearray]:
    """Read one message.

    Parameters
    ----------
    channel
        Its timeout is that of one look.
    looks
        Looks without any byte after which the other side counts as hanging. Unlike a clock, several
        looks stand still while this process is stopped or the machine sleeps.

    Raises
    ------
    EOFError
        The other side is gone.
    TimeoutError
        The other side hangs.
    """
    head_size, payload_size = _HEADER.unpack(_exactly(channel, _HEADER.size, looks))
    head = json.loads(_exactly(channel, head_size, looks))
    return head, _exactly(channel, payload_size, looks)


def _exactly(channel: socket.socket, size: int, looks: int) -> bytearray:
    buffer = bytearray(size)
    view, got, left = memoryview(buffer), 0, looks
    while got < size:
        try:
            count = channel.recv_into(view[got:])
        except TimeoutError:
            left -= 1
            if not left:
                raise
            continue
        if count == 0:
            raise EOFError("the other side closed the channel")
        got, left = got + count, looks
    return buffer
