"""What replaces parts of vLLM's core on a CPU: videos encoded ahead, the scheduler, the core itself."""

from __future__ import annotations

import queue
import threading
import time
from contextlib import nullcontext
from types import SimpleNamespace as Made

import pytest
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason
from vllm.v1.metrics.stats import PrefillStats

from captionkit.engine.cpu import encode_ahead
from captionkit.engine.cpu.inproc_core import InprocAsyncClient
from captionkit.engine.cpu.scheduler import CaptionScheduler
from captionkit.engine.protocol import BATCH_SIZE, REQUEST_ID


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
        self.observability_config = Made(enable_mm_processor_stats=True)

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


class Pace:
    """A scheduler whose steps compute nothing: vLLM's own only notes how many captions it may run."""

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
        sampling_params=Made(extra_args={REQUEST_ID: f"id of {name}", BATCH_SIZE: batch_size}),
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


def outputs_of(**tokens):
    return EngineCoreOutputs(outputs=[EngineCoreOutput(name, said) for name, said in tokens.items()])


class Core(InprocAsyncClient):
    """A core whose steps have these outputs; ends with the last one."""

    def __init__(self, steps):
        self.engine_core = Made(scheduler=Made(has_requests=lambda: True))
        self._inbox = queue.SimpleQueue()
        self._steps = steps
        self.emitted = []

    def get_output(self):
        if len(self._steps) == 1:
            self._inbox.put(None)
        return self._steps.pop(0)

    def _emit(self, outputs):
        self.emitted.append({each.request_id: each.new_token_ids for each in outputs.outputs})


def test_tokens_wait_for_four_steps_but_not_where_a_caption_begins_or_ends():
    begins = outputs_of(a=[1], b=[2])
    begins.outputs[1].prefill_stats = PrefillStats()
    plain = [outputs_of(a=[10 + n], b=[20 + n]) for n in range(6)]
    # One of them is preempted for a step, and then goes on.
    plain[2] = outputs_of(a=[12])
    ends = outputs_of(a=[99], b=[98])
    ends.outputs[0].finish_reason = FinishReason.LENGTH
    core = Core([begins, *plain, ends, outputs_of(b=[97]), EngineCoreOutputs(outputs=[])])
    core._run()
    assert core.emitted == [
        {"a": [1], "b": [2]},
        {"a": [10, 11, 12, 13], "b": [20, 21, 23]},
        {"a": [14, 15, 99], "b": [24, 25, 98]},
        {"b": [97]},
    ]
