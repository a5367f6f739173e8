"""Whether a core lives, and names of vLLM that the engine takes from the installed version."""

from __future__ import annotations

import ast
from concurrent.futures import Future

import programs
import pytest
from common import ROOT

from captionkit.engine import liveness
from captionkit.engine.liveness import Liveness


@pytest.fixture
def core(monkeypatch):
    """A core whose answers and processor time a test sets."""

    class Core(Liveness):
        used_s = computes_s = 0.0

        def _processor_s(self) -> float:
            self.used_s += self.computes_s
            return self.used_s

    monkeypatch.setattr(liveness.time, "sleep", lambda _: None)
    asked: list[Future[None]] = []

    def ask() -> Future[None]:
        asked.append(Future())
        return asked[-1]

    made = Core(ask)
    made.asked = asked
    return made


def test_a_core_that_answers_lives_and_is_asked_again(core):
    core.asked[0].set_result(None)
    assert core.beat()
    assert len(core.asked) == 2
    # No answer yet, and nothing computes.
    assert not core.beat()
    core.asked[1].set_result(None)
    assert core.beat()


def test_a_core_that_computes_lives_without_an_answer_up_to_the_longest_step(core, monkeypatch):
    monkeypatch.setattr(liveness, "_LONGEST_STEP_S", 3.5 * liveness.BEAT_S)
    core.computes_s = 1.0
    assert [core.beat() for _ in range(4)] == [True, True, True, False]


@pytest.mark.engine
def test_all_names_of_vllm_outside_the_patches_are_in_the_installed_version():
    names = set()
    for file in (ROOT / "captionkit" / "engine").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vllm":
                names |= {f"{node.module}:{alias.name}" for alias in node.names}
    assert {"vllm:AsyncEngineArgs", "vllm:AsyncLLMEngine", "vllm:SamplingParams"} <= names
    assert programs.run("vllm_names", *sorted(names)).splitlines()[-1] == "configured"
