"""Leave the machine's network and print whether that worked: ``leave_network [forbidden]``."""

import errno
import sys

from captionkit.system import network


def forbid(what: int) -> None:
    raise OSError(errno.EPERM, "forbidden")


if "forbidden" in sys.argv:
    network._unshare = forbid
print(network.leave_network())
