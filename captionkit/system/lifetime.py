"""Processes of our own end with the process that started them, and so do theirs.

A process with others below it leads a session (``start_new_session``), so that `kill_session` reaches
all of them, stopped ones too. Each process also watches its own parent, for the case that the parent is
killed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator

_LOOK_S = 0.5
# Process that forks next, once it leaves with its own parent; forked processes leave with it.
_forker = 0


def leave_with(parent: int) -> None:
    """End this process soon after its parent, also while its main thread computes or hangs.

    Processes that this one forks leave with it in the same way. A spawned process calls
    `leave_with_spawner`. The leader of a session takes the whole session along.

    Parameters
    ----------
    parent
        Process id; if it is not the parent's any more, this process ends at once.
    """
    global _forker
    if not _forker:
        os.register_at_fork(after_in_child=_leave_with_forker)
    _forker = os.getpid()
    # PR_SET_PDEATHSIG would fire when the parent's thread ends that started this process.
    threading.Thread(target=_watch, args=(parent,), name="leave-with-parent", daemon=True).start()


def leave_with_spawner() -> None:
    """Do the same in a process that multiprocessing spawned; do nothing in others.

    Called at module level, before slow imports: a spawned process imports the main module again.
    """
    if spawner := multiprocessing.parent_process():
        assert spawner.pid is not None
        leave_with(spawner.pid)


@contextlib.contextmanager
def ends_as_interrupted() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a block as Ctrl-C does, so that its folders and processes go."""
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    # nohup ignores SIGHUP.
    taken = {each: handler for each, handler in before.items() if handler is not signal.SIG_IGN}
    for number in taken:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in taken.items():
            signal.signal(number, handler)


def kill_session(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads a session, and all processes of the session; wait for its end."""
    # The number stays taken while one of them lives, also when the leader is gone.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _leave_with_forker() -> None:
    leave_with(_forker)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    if os.getsid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
