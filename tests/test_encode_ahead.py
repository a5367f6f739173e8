"""Videos that are encoded beside the captions: in whose turn, how many, and when a caption begins."""

from __future__ import annotations

import functools

import pytest
from common import checked

# Run anew before each check, so that each has names of its own.
CODE = """
from captionkit.engine.torch_companions import reconcile
reconcile()
import threading, time
from contextlib import nullcontext
from types import SimpleNamespace as Made
from captionkit.engine import encode_ahead

def until(true):
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)

class Runner:
    # Encodes what it is given to the same, when its gate is open, and writes down what.
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

encode_ahead.group_and_batch_mm_kwargs = lambda items: [("video", 1, {"video": items[0][1]})]
runner = Runner()
ahead = encode_ahead.EncodeAhead(runner)
ahead.room = 8

def video(name):
    return Made(identifier=name, modality="video", data=name)

def fetch(name):
    runner.requests["r"] = Made(mm_features=[video(name)])
    step = Made(scheduled_encoder_inputs={"r": [0]}, ec_manager_metadata=None,
                free_encoder_mm_hashes=[])
    return runner._execute_mm_encoder(step)
"""
CHECKS = {
    "the_most_wanted_comes_first_and_each_once": """
ahead.ready(video("a"), 0)
until(lambda: runner.seen == ["a"])
for name, priority in (("b", 0), ("c", 0), ("looked at", -1), ("b", 0)):
    assert not ahead.ready(video(name), priority)
runner.gate.release(4)
until(lambda: ahead.ready(video("c"), 0))
assert runner.seen == ["a", "looked at", "b", "c"]
assert fetch("b") == ["b"] and runner.encoder_cache == {"b": "b"}
assert len(runner.seen) == 4
""",
    "no_more_wait_for_captions_than_there_is_room_for_but_those_that_are_looked_at": """
ahead.room = 1
runner.gate.release(100)
for name in "abc":
    ahead.ready(video(name), 0)
until(lambda: ahead.ready(video("a"), 0))
time.sleep(0.2)
assert runner.seen == ["a"]
ahead.ready(video("looked at"), -1)
until(lambda: ahead.ready(video("looked at"), -1))
assert runner.seen == ["a", "looked at"]
# The engine stands still for this one: it must not wait for room behind others.
assert fetch("c") == ["c"]
assert runner.seen == ["a", "looked at", "c"]
fetch("a"), fetch("looked at")
until(lambda: ahead.ready(video("b"), 0))
""",
    "what_is_withdrawn_is_not_encoded_and_may_come_again": """
for name in "abc":
    ahead.ready(video(name), 0)
until(lambda: runner.seen == ["a"])
ahead.drop(video("b"))
runner.gate.release(100)
until(lambda: ahead.ready(video("c"), 0))
assert runner.seen == ["a", "c"]
assert fetch("b") == ["b"]
""",
    "an_error_is_told_to_whoever_fetches_and_the_thread_goes_on": """
runner.gate.release(100)
ahead.ready(video("broken"), 0)
try:
    fetch("broken")
except ValueError as error:
    assert str(error) == "broken"
else:
    raise AssertionError
assert fetch("whole") == ["whole"]
""",
}
# vLLM's own scheduling stands still: what is asked for is how many captions it may run.
PACE = """
from captionkit.engine.torch_companions import reconcile
reconcile()
from types import SimpleNamespace as Made
from vllm.v1.core.sched.scheduler import Scheduler
from captionkit.engine.scheduler import CaptionScheduler
allowed = []
def schedule(self, _):
    allowed.append(self.max_num_active_reqs)
    return Made(scheduled_encoder_inputs=self.encodes)
Scheduler.__init__ = lambda self: None
Scheduler.schedule = schedule
Scheduler.add_request = lambda self, request: self.requests.update({request.name: request})
made = CaptionScheduler()
made.max_num_active_reqs = made.max_num_running_reqs = 16
made.encoder_cache_manager = Made(cached={"known": set()})
made.running, made.finished_req_ids, made.requests, made.encodes = [], set(), {}, {}
made.waiting = []
def request(name, priority=0):
    return Made(name=name, priority=priority, arrival_time=5.0, sampling_params=Made(extra_args=None),
                mm_features=[Made(identifier=name, data=1)])
class Clock:
    now = 0.0
    def monotonic(self):
        return self.now
import captionkit.engine.scheduler as module
module.time = clock = Clock()
made._last_step = 0.0
def step(seconds):
    clock.now += seconds
    made.schedule()
    return allowed[-1]
"""
PACES = {
    "captions_get_their_share_of_time_for_each_video_that_is_encoded": """
made.add_request(request("a"))
made.waiting.append(request("b"))
assert step(0.0) == 1
made.running, made.encodes = ["a"], {"a": [0]}
step(0.0)
made.encodes = {}
# One second of encoding is owed four of captions until the first has ended, and a quarter later.
assert step(1.0) == 1
assert step(3.9) == 1
made.encodes = {"b": [0]}
assert step(0.2) == 2
made.encodes, made.finished_req_ids = {}, {"a"}
assert step(1.0) == 1
made.finished_req_ids = set()
assert step(0.26) == 2
""",
    "a_busy_engine_whose_captions_have_all_ended_is_not_at_its_first_again": """
made.add_request(request("a"))
made.waiting.append(request("b"))
made.running = ["a"]
made.finished_req_ids = {"a"}
step(0.0)
# Nothing runs for a moment, and more comes.
made.running, made.finished_req_ids = [], set()
step(0.0)
made.add_request(request("c"))
assert not made._first
made.requests.clear()
made.add_request(request("d"))
assert made._first
""",
    "a_window_that_is_looked_at_and_a_known_one_do_not_wait": """
made.running, made._owed_s = ["a"], 100.0
made.waiting.append(request("b"))
assert step(0.0) == 1
made.waiting[0] = request("b", priority=-1)
assert step(0.0) == 2
# Two known ones begin, and the new one behind them waits as it would alone.
made.waiting[:] = [request("known"), request("known"), request("b")]
assert step(0.0) == 3
made.waiting[2] = request("b", priority=-1)
assert step(0.0) == 4
made.max_num_active_reqs = 2
assert step(0.0) == 2
made.max_num_active_reqs = 16
new, known = request("b"), request("known")
made.add_request(new), made.add_request(known)
assert known.arrival_time < new.arrival_time
""",
    "beside_encoding_a_caption_begins_when_its_video_is_ready": """
ready = set()
made.ahead = Made(ready=lambda feature, priority: feature.identifier in ready, room=0)
made.add_request(request("a"))
assert made.ahead.room == 5
made.waiting.append(request("b"))
# Nothing else is to be done: one is awaited.
assert step(0.0) == 1
made.running = ["a"]
assert step(0.0) == 1
made.waiting[:] = [request("known"), request("b"), request("known")]
assert step(0.0) == 2
ready.add("b")
assert step(0.0) == 3
""",
}


@functools.cache
def _told() -> dict[str, str]:
    codes = {name: CODE + code for name, code in CHECKS.items()}
    codes |= {name: PACE + code for name, code in PACES.items()}
    return checked("", codes)


@pytest.mark.engine
@pytest.mark.parametrize("name", CHECKS)
def test_encoding_ahead(name):
    assert _told()[name] == ""


@pytest.mark.engine
@pytest.mark.parametrize("name", PACES)
def test_the_scheduler(name):
    assert _told()[name] == ""
