"""The in-process core tells the tokens of several steps at once, and loses none."""

from __future__ import annotations

import pytest
from common import checked

CODE = """
from captionkit.engine.torch_companions import reconcile
reconcile()
import queue
from types import SimpleNamespace
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason
from vllm.v1.metrics.stats import PrefillStats
from captionkit.engine.cpu.inproc_core import InprocAsyncClient

def step(**tokens):
    return EngineCoreOutputs(outputs=[EngineCoreOutput(name, said) for name, said in tokens.items()])

begins = step(a=[1], b=[2])
begins.outputs[1].prefill_stats = PrefillStats()
plain = [step(a=[10 + n], b=[20 + n]) for n in range(6)]
# One of them is preempted for a step, and then goes on.
plain[2] = step(a=[12])
ends = step(a=[99], b=[98])
ends.outputs[0].finish_reason = FinishReason.LENGTH
steps = [begins, *plain, ends, step(b=[97]), EngineCoreOutputs(outputs=[])]
left = iter(steps)

class Core(InprocAsyncClient):
    def __init__(self):
        self.engine_core = SimpleNamespace(scheduler=SimpleNamespace(has_requests=lambda: True))
        self._inbox = queue.SimpleQueue()
        self.told = []
    def get_output(self):
        given = next(left)
        if given is steps[-1]:
            self._inbox.put(None)
        return given
    def _emit(self, outputs):
        self.told.append({each.request_id: each.new_token_ids for each in outputs.outputs})

core = Core()
core._run()
assert core.told == [
    {"a": [1], "b": [2]},
    {"a": [10, 11, 12, 13], "b": [20, 21, 23]},
    {"a": [14, 15, 99], "b": [24, 25, 98]},
    {"b": [97]},
], core.told
"""


@pytest.mark.engine
def test_tokens_wait_for_four_steps_but_not_where_a_caption_begins_or_ends():
    assert checked("", {"told": CODE}) == {"told": ""}
