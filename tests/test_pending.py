"""Requests of an engine: posting, and suspicion after a death."""

from __future__ import annotations

import numpy as np
import pytest

from captionkit.engine import CacheMissError, EngineError, PendingRequest, Request, VideoInput
from captionkit.engine.pending import PendingRequests

FRAMES = np.zeros((2, 3, 28, 28), np.uint8)


def request(name: str, frames: np.ndarray | None = FRAMES) -> Request:
    return Request("Say it.", VideoInput(name, {}, frames))


class Engine:
    """A table of requests with their outcomes when engines die."""

    def __init__(self, *names: str):
        self.pending = PendingRequests()
        self.requests = {name: self.pending.add(request(name), None) for name in names}
        self.lost: dict[str, Exception] = {}

    def post(self) -> list[str]:
        return [each.request.video.uid for each in self.pending.take_next()]

    def start(self, *names: str) -> None:
        for name in names:
            self.requests[name].started = True

    def die(self, *, died: bool = True, cause: str | None = None) -> None:
        for each, error in self.pending.take_lost(died=died, cause=cause):
            self.lost[each.request.video.uid] = error

    def finish(self, name: str) -> None:
        assert self.pending.remove(self.requests[name])


def test_each_open_request_is_posted_once():
    engine = Engine("a", "b")
    assert engine.post() == ["a", "b"]
    assert engine.post() == []


def test_a_death_counts_against_started_requests_only():
    engine = Engine("a", "b", "c")
    engine.post()
    engine.start("b")
    engine.die()
    assert {name: each.deaths for name, each in engine.requests.items()} == {"a": 0, "b": 1, "c": 0}
    # Count no death against requests that the next engine has not started.
    engine.post()
    engine.die()
    assert engine.requests["b"].deaths == 1


def test_a_requested_restart_counts_against_no_request():
    engine = Engine("a")
    engine.post()
    engine.start("a")
    engine.requests["a"].grow("some text")
    engine.die(died=False)
    assert engine.requests["a"].deaths == 0
    assert engine.requests["a"].text == ""
    assert engine.post() == ["a"]


def test_suspects_run_alone_and_the_one_that_kills_the_engine_is_set_aside():
    engine = Engine("good", "poison", "later")
    for _ in range(2):
        engine.post()
        engine.start("good", "poison")
        engine.die()
    assert engine.post() == ["good"]
    assert engine.post() == []
    engine.finish("good")
    assert engine.post() == ["poison"]
    engine.start("poison")
    engine.die(cause="OutOfMemoryError: CUDA out of memory")
    assert list(engine.lost) == ["poison"]
    assert isinstance(engine.lost["poison"], EngineError)
    assert "died 3 times with this window under way" in str(engine.lost["poison"])
    assert "CUDA out of memory" in str(engine.lost["poison"])
    assert engine.post() == ["later"]


def test_a_request_without_frames_is_lost_with_its_engine():
    engine = Engine()
    engine.requests["known"] = engine.pending.add(request("known", None), None)
    engine.post()
    engine.die(died=False)
    assert isinstance(engine.lost["known"], CacheMissError)
    assert not engine.pending


def test_one_caller_answers_a_request():
    engine = Engine("a")
    assert engine.pending.find(engine.requests["a"].id) is engine.requests["a"]
    assert engine.pending.remove(engine.requests["a"])
    assert not engine.pending.remove(engine.requests["a"])
    assert engine.pending.find(engine.requests["a"].id) is None


def test_a_cancelled_request_takes_no_answer():
    pending = PendingRequest("r", request("a"))
    pending.future.cancel()
    pending.fail(EngineError("too late"))
    assert pending.future.cancelled()


def test_text_grows_and_is_passed_on_completely():
    heard: list[str] = []
    pending = PendingRequest("r", request("a"), heard.append)
    pending.grow("A red")
    pending.grow(" car.")
    assert heard == ["A red", "A red car."]


def test_an_error_reaches_the_caller():
    pending = PendingRequest("r", request("a"))
    pending.fail(EngineError("it ended"))
    with pytest.raises(EngineError, match="it ended"):
        pending.future.result(0)
