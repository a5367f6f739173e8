"""Permits for captions under way: the limit on running requests where vLLM runs as it is."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager


class Admission:
    """Admits requests up to a limit: the lowest priority value first, then in order of arrival.

    The newest request's ``batch_size`` is the limit for all. A lower limit takes effect as admitted
    requests end. Requests may come from several event loops.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._waiting: list[tuple[int, int, Future[None]]] = []
        self._admitted = 0
        self._limit = 1

    @asynccontextmanager
    async def permit(self, priority: int, batch_size: int) -> AsyncIterator[None]:
        """Hold a permit; waits until it is this request's turn."""
        turn: Future[None] = Future()
        with self._lock:
            self._limit = batch_size
            heapq.heappush(self._waiting, (priority, next(self._numbers), turn))
            self._admit()
        try:
            await asyncio.wrap_future(turn)
            yield
        finally:
            # False for a request that was cancelled while it waited: it holds no permit.
            if not turn.cancelled():
                with self._lock:
                    self._admitted -= 1
                    self._admit()

    def _admit(self) -> None:
        while self._waiting and self._admitted < self._limit:
            turn = heapq.heappop(self._waiting)[2]
            if turn.set_running_or_notify_cancel():
                turn.set_result(None)
                self._admitted += 1
