"""Videos that are encoded beside the captions: in whose turn, how many, and who hears of it."""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext
from types import SimpleNamespace as Made

import pytest

from captionkit.engine.cpu import encode_ahead


def until(true) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


class Runner:
    """Encodes a video to its own name when its gate is open, and writes down which ones."""

    def __init__(self):
        self.gate, self.seen, self.encoder_cache = threading.Semaphore(0), [], {}
        self.requests, self.model = {}, self

    def timed_encoder_operation(self, *_):
        return nullcontext()

    def embed_multimodal(self, video):
        self.seen.append(video)
        self.gate.acquire()
        if video == "broken":
            raise ValueError("broken")
        return [video]

    def _cache_encoder_output(self, name, output, *_):
        self.encoder_cache[name] = output


class Ahead:
    """An `EncodeAhead` with its runner, and the requests that it said to have started."""

    def __init__(self):
        self.runner, self.started = Runner(), []
        self.made = encode_ahead.EncodeAhead(self.runner, self.started.append)
        self.made.room = 8

    def request(self, name, priority=0, request_id="r"):
        return self.made.request(video(name), priority, request_id)

    def fetch(self, name):
        self.runner.requests["r"] = Made(mm_features=[video(name)])
        step = Made(
            scheduled_encoder_inputs={"r": [0]}, ec_manager_metadata=None, free_encoder_mm_hashes=[]
        )
        return self.runner._execute_mm_encoder(step)


def video(name):
    return Made(identifier=name, modality="video", data=name)


@pytest.fixture
def ahead(monkeypatch):
    monkeypatch.setattr(
        encode_ahead,
        "group_and_batch_mm_kwargs",
        lambda items: [("video", 1, {"video": items[0][1]})],
    )
    return Ahead()


def test_the_most_wanted_comes_first_and_each_once(ahead):
    ahead.request("a")
    until(lambda: ahead.runner.seen == ["a"])
    for name, priority in (("b", 0), ("c", 0), ("looked at", -1), ("b", 0)):
        assert not ahead.request(name, priority)
    ahead.runner.gate.release(4)
    until(lambda: ahead.request("c"))
    assert ahead.runner.seen == ["a", "looked at", "b", "c"]
    assert ahead.fetch("b") == ["b"]
    assert ahead.runner.encoder_cache == {"b": "b"}
    assert len(ahead.runner.seen) == 4


def test_no_more_wait_for_captions_than_there_is_room_for_but_those_that_are_looked_at(ahead):
    ahead.made.room = 1
    ahead.runner.gate.release(100)
    for name in "abc":
        ahead.request(name)
    until(lambda: ahead.request("a"))
    ahead.request("looked at", -1)
    until(lambda: ahead.request("looked at", -1))
    # The thread took the later one, since there was no room for the others.
    assert ahead.runner.seen == ["a", "looked at"]
    # The engine stands still for this one: it must not wait for room behind others.
    assert ahead.fetch("c") == ["c"]
    assert ahead.runner.seen == ["a", "looked at", "c"]
    ahead.fetch("a")
    ahead.fetch("looked at")
    until(lambda: ahead.request("b"))


def test_what_is_withdrawn_is_not_encoded_and_may_come_again(ahead):
    for name in "abc":
        ahead.request(name)
    until(lambda: ahead.runner.seen == ["a"])
    ahead.made.drop(video("b"))
    ahead.runner.gate.release(100)
    until(lambda: ahead.request("c"))
    assert ahead.runner.seen == ["a", "c"]
    assert ahead.fetch("b") == ["b"]


def test_an_error_reaches_whoever_fetches_and_the_thread_goes_on(ahead):
    ahead.runner.gate.release(100)
    ahead.request("broken")
    with pytest.raises(ValueError, match="broken"):
        ahead.fetch("broken")
    assert ahead.fetch("whole") == ["whole"]


def test_requests_are_started_before_their_video_is_encoded_and_others_are_not(ahead):
    ahead.request("a", request_id="r1")
    ahead.request("b", request_id="r2")
    until(lambda: ahead.runner.seen == ["a"])
    assert ahead.started == ["r1"]
    # A request that joins a video which is being encoded is started at once.
    ahead.request("a", request_id="r3")
    assert ahead.started == ["r1", "r3"]
    ahead.request("b", request_id="r4")
    ahead.runner.gate.release(1)
    until(lambda: ahead.runner.seen == ["a", "b"])
    assert ahead.started[:2] == ["r1", "r3"]
    assert set(ahead.started[2:]) == {"r2", "r4"}
    # Its video is there already: it starts when it is scheduled.
    ahead.request("a", request_id="r5")
    assert "r5" not in ahead.started
    ahead.runner.gate.release(100)
