"""On a processor without bfloat16 of its own, an engine computes in float32, and captions are right."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from common import DATA, VIDEOS

import captionkit as ck
from captionkit.engine import Engine

pytestmark = pytest.mark.engine


def test_captions_in_float32_are_right_and_known_windows_are_not_encoded_again(tmp_path, monkeypatch):
    paths = [str(Path(__file__).parent / "no_bf16"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    monkeypatch.setenv("CAPTIONKIT_ENCODER_STATS", "1")
    monkeypatch.setattr(Engine, "_live", ())
    scenes = json.loads((DATA / "videos" / "harbour.json").read_text())["scenes"]
    session = ck.Session(VIDEOS / "harbour.mp4", store=tmp_path / "runs.sqlite")
    run = session.caption(temperature=0)
    engine = Engine.live()
    assert engine.info["dtype"] == "float32"
    assert engine.info["precision"].startswith("float32: the processor has no bfloat16")
    for text, scene in zip(run.captions["text"], scenes, strict=True):
        for each in scene["objects"]:
            assert each["kind"] in text
            assert each["colour"] in text
    engine.encoder_runs()
    session.caption("Say it in few words.", temperature=0)
    assert engine.encoder_runs() == 0
    session.close()
    engine.close()
