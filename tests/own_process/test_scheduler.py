"""The CPU's scheduler: whose caption begins, and what is said of it.

vLLM's own scheduling stands still: it only writes down how many captions it may run.
"""

from __future__ import annotations

from types import SimpleNamespace as Made

import pytest
from vllm.v1.core.sched.scheduler import Scheduler

from captionkit.engine.cpu.scheduler import CaptionScheduler, extra_args


class Pace:
    """A scheduler on whose steps nothing is computed."""

    def __init__(self, monkeypatch):
        self.allowed, self.new, self.started, self.ready = [], [], [], set()
        monkeypatch.setattr(Scheduler, "__init__", lambda scheduler: None)
        monkeypatch.setattr(Scheduler, "schedule", self._schedule)
        monkeypatch.setattr(
            Scheduler, "add_request", lambda made, each: made.requests.update({each.name: each})
        )
        self.made = CaptionScheduler()
        self.made.max_num_active_reqs = self.made.max_num_running_reqs = 16
        self.made.encoder_cache_manager = Made(cached={"known": set()})
        self.made.running, self.made.requests, self.made.waiting = [], {}, []
        self.ahead = Made(request=lambda video, *_: video.identifier in self.ready, room=0)
        self.made.attach(self.ahead, self.started.append)

    def _schedule(self, _):
        self.allowed.append(self.made.max_num_active_reqs)
        return Made(scheduled_new_reqs=[Made(req_id=each) for each in self.new])

    def step(self) -> int:
        self.made.schedule()
        return self.allowed[-1]


def request(name, priority=0, batch_size=16):
    return Made(
        name=name,
        priority=priority,
        arrival_time=5.0,
        sampling_params=Made(extra_args=extra_args(f"id of {name}", batch_size)),
        mm_features=[Made(identifier=name, data=1)],
    )


@pytest.fixture
def pace(monkeypatch):
    return Pace(monkeypatch)


def test_the_newest_request_decides_how_many_run_and_how_far_ahead_videos_are_encoded(pace):
    pace.made.add_request(request("a"))
    assert (pace.made.max_num_active_reqs, pace.ahead.room) == (16, 5)
    pace.made.add_request(request("b", batch_size=2))
    assert (pace.made.max_num_active_reqs, pace.ahead.room) == (2, 1)
    # vLLM has room for so many in one step.
    pace.made.add_request(request("c", batch_size=400))
    assert pace.made.max_num_active_reqs == 16


def test_a_caption_begins_when_its_video_is_ready_and_nothing_overtakes_it(pace):
    pace.made.waiting.append(request("b"))
    # Nothing else is to be done: one is awaited.
    assert pace.step() == 1
    pace.made.running = ["a"]
    assert pace.step() == 1
    # Known windows begin, and the new one behind them waits as it would alone.
    pace.made.waiting[:] = [request("known"), request("b"), request("known")]
    assert pace.step() == 2
    pace.ready.add("b")
    assert pace.step() == 3


def test_one_new_video_begins_a_step(pace):
    pace.made.running, pace.ready = ["a"], {"b", "c"}
    pace.made.waiting[:] = [request("b"), request("c")]
    assert pace.step() == 2


def test_a_known_window_sorts_before_a_new_one(pace):
    new, known = request("b"), request("known")
    pace.made.add_request(new)
    pace.made.add_request(known)
    assert known.arrival_time < new.arrival_time


def test_never_more_run_than_the_batch_size(pace):
    pace.made.running = ["a", "b"]
    pace.made.waiting[:] = [request("known"), request("known")]
    pace.made.max_num_active_reqs = 3
    assert pace.step() == 3
    assert pace.made.max_num_active_reqs == 3
    pace.made.max_num_active_reqs = 1
    assert pace.step() == 1


def test_a_request_is_started_when_it_is_scheduled_first_and_not_before(pace):
    for name in ("a", "b"):
        pace.made.add_request(request(name))
    pace.step()
    assert pace.started == []
    pace.new = ["a"]
    pace.step()
    assert pace.started == ["id of a"]
