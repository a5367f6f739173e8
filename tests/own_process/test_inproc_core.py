"""The in-process core emits the tokens of several steps at once, and loses none."""

from __future__ import annotations

import queue
from types import SimpleNamespace

from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason
from vllm.v1.metrics.stats import PrefillStats

from captionkit.engine.cpu.inproc_core import InprocAsyncClient


def step(**tokens):
    return EngineCoreOutputs(outputs=[EngineCoreOutput(name, said) for name, said in tokens.items()])


class Core(InprocAsyncClient):
    """A core whose steps have these outputs; ends with the last one."""

    def __init__(self, steps):
        self.engine_core = SimpleNamespace(scheduler=SimpleNamespace(has_requests=lambda: True))
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
    begins = step(a=[1], b=[2])
    begins.outputs[1].prefill_stats = PrefillStats()
    plain = [step(a=[10 + n], b=[20 + n]) for n in range(6)]
    # One of them is preempted for a step, and then goes on.
    plain[2] = step(a=[12])
    ends = step(a=[99], b=[98])
    ends.outputs[0].finish_reason = FinishReason.LENGTH
    core = Core([begins, *plain, ends, step(b=[97]), EngineCoreOutputs(outputs=[])])
    core._run()
    assert core.emitted == [
        {"a": [1], "b": [2]},
        {"a": [10, 11, 12, 13], "b": [20, 21, 23]},
        {"a": [14, 15, 99], "b": [24, 25, 98]},
        {"b": [97]},
    ]
