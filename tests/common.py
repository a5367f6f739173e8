"""Helpers of several tests: paths, tasks, and inputs of windows."""

from __future__ import annotations

import contextlib
import inspect
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import psutil

from captionkit.stages.tasks import Clip, LlmInputs, Video, VideoTask

ROOT = Path(__file__).parents[1]
DATA = ROOT / "data"
VIDEOS = DATA / "videos"
SHARED = ROOT.parent / "shared" / "videos"


def whole_file(path: str) -> VideoTask:
    """Return a task of one video, with the whole video as its clip."""
    return VideoTask(Video(path, clips=[Clip(path)]))


def curator_task(*buffers: bytes | None) -> Any:
    """Return a task of the installed NeMo Curator, with a clip for each buffer."""
    from nemo_curator.tasks.video import Clip, Video, VideoTask

    clips = [
        Clip(uuid=uuid4(), source_video="films/winter.mp4", span=(0.0, 25.0), buffer=buffer)
        for buffer in buffers
    ]
    video = Video(input_video=Path("films/winter.mp4"), clips=clips)
    video.metadata.framerate, video.metadata.height = 30.0, 360
    required = {"task_id": "winter"} if "task_id" in inspect.signature(VideoTask).parameters else {}
    return VideoTask(dataset_name="films", data=video, **required)


def curator_inputs(window: Any, name: str) -> Any:
    """Return a window's inputs where the installed NeMo Curator keeps them."""
    return window.llm_inputs.get(name) if hasattr(window, "llm_inputs") else window.qwen_llm_input


def is_engine(command: list[str] | None) -> bool:
    """Return whether a command line belongs to an engine's process."""
    return any("captionkit.engine" in word and word.endswith("worker") for word in command or [])


def core_among(processes: list[psutil.Process]) -> psutil.Process | None:
    """Return the process of vLLM's core, forked or spawned; None if there is none yet."""
    for each in processes:
        with contextlib.suppress(psutil.Error):
            if "EngineCore" in each.name() or any("spawn_main" in word for word in each.cmdline()):
                return each
    return None


def noise_inputs(seed: int, prompt: str = "Describe this video.", frames: int = 4) -> LlmInputs:
    """Return inputs of a window of noise; each seed makes another video."""
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
