"""A network of its own for the engine's process: ``python -m captionkit.system.network -m MODULE ...``.

torch.distributed listens on ports of the machine even in a single process, and other users of the
machine could connect to them. Linux can give a process a network of its own, but only before it has a
second thread, and numpy starts some: so this module runs first, and then becomes the other one.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from pathlib import Path

_NEW_USERS, _NEW_NETWORK = 0x10000000, 0x40000000
_SET_FLAGS, _UP_AND_RUNNING = 0x8914, 0x41


def leave_network() -> bool:
    """Move this process into an empty network; return whether that could be done.

    Rules of a container or a distribution may forbid it. Nothing is changed then.
    """
    if not sys.platform.startswith("linux") or len(os.listdir("/proc/self/task")) > 1:
        return False
    # Try it in a child that ends at once: some systems allow the first step and forbid the next.
    child = os.fork()
    if child == 0:
        try:
            _leave()
        except OSError:
            os._exit(1)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        return False
    _leave()
    return True


def main() -> None:
    """Leave the machine's network if that can be done, and become another program."""
    leave_network()
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])  # noqa: S606


def _leave() -> None:
    user, group = os.getuid(), os.getgid()
    try:
        _unshare(_NEW_NETWORK)
    except PermissionError:
        # Without root: take a user namespace too, in which the user keeps his ids.
        _unshare(_NEW_USERS | _NEW_NETWORK)
        own = Path("/proc/self")
        (own / "setgroups").write_text("deny")
        (own / "uid_map").write_text(f"{user} {user} 1")
        (own / "gid_map").write_text(f"{group} {group} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        fcntl.ioctl(asking, _SET_FLAGS, struct.pack("16sh14x", b"lo", _UP_AND_RUNNING))


def _unshare(what: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(what) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    main()
