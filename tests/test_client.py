"""The kernel's side of the engine against a process that answers as a worker may, also wrongly."""

from __future__ import annotations

import contextlib
import itertools
import socket
import time
from dataclasses import asdict, replace

import numpy as np
import pytest

from captionkit.engine import CacheMissError, Engine, EngineError, EngineKey, Request, VideoInput
from captionkit.engine.errors import EngineGoneError
from captionkit.engine.protocol import Completion
from captionkit.system import ipc

FRAMES = np.zeros((2, 3, 28, 28), np.uint8)
_pids = itertools.count(1)


class Worker:
    """Stands in for `EngineProcess`: answers each request with the id that it came under."""

    #: Ids whose frames never reach vLLM's core.
    lost: tuple[str, ...] = ()
    #: Whether a new process cannot start.
    broken = False

    def __init__(self, key: EngineKey, stop: object = None) -> None:
        if self.broken:
            raise EngineError("the engine did not start: no memory")
        self.pid = next(_pids)
        self.channel, self._far = socket.socketpair()
        self.came: list[tuple[str, bool]] = []

    def send(self, message, payload=b""):
        if message["op"] != "submit":
            return
        uid = message["uid"]
        self.came.append((uid, bool(payload)))
        answer = {"op": "done", **asdict(Completion("", uid, "stop", 1, 1, 0, 0.0, 0.0, 0.0))}
        if uid in self.lost:
            answer = {"op": "error", "kind": "cache_miss", "message": "lost"}
        ipc.send(self._far, {**answer, "id": message["id"]})

    def cause(self):
        return None

    def end(self):
        with contextlib.suppress(OSError):
            self.channel.shutdown(socket.SHUT_RDWR)
        self.channel.close()
        self._far.close()

    kill = end


@pytest.fixture
def engine(monkeypatch):
    monkeypatch.setattr("captionkit.engine.client.EngineProcess", Worker)
    monkeypatch.setattr(Worker, "lost", ())
    engine = Engine(EngineKey("a model"))
    monkeypatch.setattr(Engine, "_live", (engine,))
    yield engine
    engine.close()


def request(frames: np.ndarray | None = FRAMES) -> Request:
    return Request("Say it.", VideoInput("window", {}, frames))


def answer(engine: Engine, asked: Request) -> str:
    return engine.submit(asked).future.result(timeout=60).text


def die(engine: Engine) -> None:
    engine._process.end()
    until = time.monotonic() + 60
    while engine.running:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_frames_that_the_core_never_got_are_sent_under_a_new_id_and_known_by_it_from_then_on(
    engine, monkeypatch
):
    monkeypatch.setattr(Worker, "lost", ("window",))
    new = answer(engine, request())
    assert new.startswith("window~")
    assert answer(engine, request(None)) == new
    assert engine._process.came == [("window", True), (new, True), (new, False)]


def test_frames_that_are_lost_twice_fail_their_window_alone(engine, monkeypatch):
    monkeypatch.setattr(Worker, "lost", ("window", "window~r0"))
    with pytest.raises(CacheMissError, match="lost"):
        answer(engine, request())
    other = request()
    assert answer(engine, replace(other, video=replace(other.video, uid="other"))) == "other"


def test_an_engine_that_died_idle_starts_again_for_a_run_that_holds_it_already(engine):
    answer(engine, request())
    pid = engine.pid
    die(engine)
    assert Engine.live() is None
    # The new process knows no window.
    with pytest.raises(CacheMissError, match="give its frames"):
        engine.submit(request(None))
    assert answer(engine, request()) == "window"
    assert engine.pid != pid
    assert Engine.live() is engine


def test_who_asks_for_an_engine_that_died_idle_gets_another_(engine):
    die(engine)
    other = Engine.get(engine.key)
    assert other is not engine
    with pytest.raises(EngineGoneError, match="closed"):
        engine.submit(request())
    assert answer(other, request()) == "window"
    other.close()


def test_an_engine_that_died_idle_and_cannot_start_again_says_so_to_each_request(engine, monkeypatch):
    die(engine)
    monkeypatch.setattr(Worker, "broken", True)
    with pytest.raises(EngineGoneError, match=r"could not be started again: .* no memory"):
        answer(engine, request())
    assert engine.closed
