"""The rehearsal for a GPU, on the processor: its steps work and give figures."""

from __future__ import annotations

import json

import gpu_rehearsal
import pytest
from gpu_rehearsal import Rehearsal, cancel, doctor, rehearse, reuse, several_gpus, too_large


@pytest.mark.engine
def test_the_rehearsal_answers_with_figures_and_a_failing_step_costs_no_other(tmp_path):
    def broken(on):
        """Fail."""
        raise ValueError("no such card")

    out = tmp_path / "out.json"
    (tmp_path / "stores").mkdir()
    on = Rehearsal("demo", "models/qwen", (), tmp_path / "stores")
    rehearse(on, out, (broken, doctor, reuse, cancel, too_large, several_gpus))
    steps = {each["step"]: each for each in json.loads(out.read_text())["steps"]}
    assert steps["broken"]["error"] == "ValueError: no such card"
    assert [name for name, each in steps.items() if each["error"]] == ["broken"]
    figures = {name: each.get("figures") for name, each in steps.items()}
    assert figures["reuse"]["runs of a new window"] == 1
    assert figures["reuse"]["runs of a known window"] == 0
    assert figures["cancel"]["left"] == 0
    assert "video tokens" in figures["too_large"]["refused"]
    assert "demo on" in figures["doctor"]["text"]
    assert all(step.__doc__ for step in gpu_rehearsal.STEPS)
