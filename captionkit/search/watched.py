"""A search with a progress bar that shows the present leader."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from captionkit.run.watch import Watched, watch
from captionkit.search.aim import Aim, Searchable
from captionkit.search.found import Found
from captionkit.search.halving import search


def search_watched(session: Searchable, axes: Mapping[str, Any], aim: Aim) -> Found:
    """Search as `halving.search` does; an interrupt stops, and the same call goes on."""
    stopped = threading.Event()
    known: deque[Found] = deque(maxlen=1)
    with ThreadPoolExecutor(1, "captionkit-search") as thread:
        future = thread.submit(search, session, axes, aim, stopped, known.append)

        def wait(seconds: float) -> bool:
            return _ended(future, seconds)

        def state() -> tuple[int, int, str]:
            if not known:
                return 0, 1, "choosing windows"
            found = known[-1]
            return *found.steps, f"{found.now} (leader: {found.leader})"

        try:
            watch(Watched("search", wait, state, stopped.set))
        finally:
            stopped.set()
        return future.result()


def _ended(future: Future[Found], seconds: float) -> bool:
    try:
        future.result(seconds)
    except FutureTimeoutError:
        return future.done()
    except Exception:
        # The caller raises it.
        return True
    return True
