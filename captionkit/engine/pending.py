"""Requests that wait for their answers, and which of them to suspect when the engine dies.

An engine that dies is started again and gets its unfinished requests again. A request that the engine
had started counts each death. A request with one death fewer than the limit is a suspect: suspects run
alone, so that the one that kills the engine is found and its neighbours are captioned.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from captionkit.engine.errors import CacheMissError, EngineError
from captionkit.engine.protocol import Completion, Request

_DEATHS = 3


@dataclass
class PendingRequest:
    """A submitted request.

    Attributes
    ----------
    future
        Gets the `Completion`, or the error.
    text
        All text so far.
    posted
        Whether the present engine process has the request.
    started
        Whether that process said that it works on the request.
    deaths
        Engine processes that died after they had started the request.
    resent
        Whether the frames were sent again because the engine had lost them.
    """

    id: str
    request: Request
    on_text: Callable[[str], None] | None = None
    future: Future[Completion] = field(default_factory=Future)
    text: str = ""
    posted: bool = False
    started: bool = False
    deaths: int = 0
    resent: bool = False

    @property
    def uid_anew(self) -> str:
        """A new id for frames sent again: after a cancel, vLLM's front may hold the old one back."""
        return f"{self.request.uid}~{self.id}"

    def grow(self, text: str) -> None:
        """Add text, and pass all of it on."""
        self.text += text
        if self.on_text:
            self.on_text(self.text)

    def finish(self, completion: Completion) -> None:
        """Set the result, unless the request was cancelled."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(completion)

    def fail(self, error: Exception) -> None:
        """Set the error, unless the request was cancelled."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class PendingRequests:
    """All requests without an answer, in their order of arrival. The caller holds a lock."""

    def __init__(self) -> None:
        self._requests: dict[str, PendingRequest] = {}
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._requests)

    def has(self, uid: str) -> bool:
        """Return whether a request is about this window."""
        return any(each.request.uid == uid for each in self._requests.values())

    def add(self, request: Request, on_text: Callable[[str], None] | None) -> PendingRequest:
        """Append a request."""
        pending = PendingRequest(f"r{next(self._numbers)}", request, on_text)
        self._requests[pending.id] = pending
        return pending

    def find(self, request_id: str) -> PendingRequest | None:
        """Return the request with this id; None if it was answered or cancelled."""
        return self._requests.get(request_id)

    def remove(self, pending: PendingRequest) -> bool:
        """Remove a request; return whether it was still there, so that one caller answers it."""
        return self._requests.pop(pending.id, None) is not None

    def remove_all(self) -> list[PendingRequest]:
        """Remove and return every request."""
        removed = list(self._requests.values())
        self._requests.clear()
        return removed

    def take_next(self) -> list[PendingRequest]:
        """Mark requests as posted and return them: all that wait, or the first suspect alone."""
        waiting = [each for each in self._requests.values() if not each.posted]
        suspects = [each for each in self._requests.values() if each.deaths >= _DEATHS - 1]
        if suspects:
            idle = len(waiting) == len(self._requests)
            waiting = suspects[:1] if idle else []
        for pending in waiting:
            pending.posted = True
        return waiting

    def take_lost(
        self, *, died: bool, cause: str | None = None
    ) -> list[tuple[PendingRequest, Exception]]:
        """Take back all requests of an engine that is gone.

        Parameters
        ----------
        died
            Whether the engine ended by itself, which counts against the requests that it had started.
        cause
            What ended it, if its log says so.

        Returns
        -------
        list
            Removed requests that another engine cannot serve, each with its error.
        """
        lost: list[tuple[PendingRequest, Exception]] = []
        for pending in list(self._requests.values()):
            pending.deaths += died and pending.started
            pending.text, pending.posted, pending.started = "", False, False
            if pending.deaths >= _DEATHS:
                error: Exception = EngineError(
                    f"the engine died {_DEATHS} times with this window under way; it was set aside"
                    + (f" ({cause})" if cause else "")
                )
            elif pending.request.lacks_frames:
                error = CacheMissError("the engine was restarted without this window's frames")
            else:
                continue
            self.remove(pending)
            lost.append((pending, error))
        return lost
