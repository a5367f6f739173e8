"""captionkit: caption video windows with a vision-language model, from the notebook to scale.

The names below are all there is to learn; each is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from captionkit.review.comparison import ab, compare
    from captionkit.export import load_captions
    from captionkit.pipeline.caption import WindowResult, caption_windows
    from captionkit.runs.history import open_run, runs
    from captionkit.stages.qwen_vl import QwenVL
    from captionkit.models.variants import Variant, register
    from captionkit.prompts import PROMPTS
    from captionkit.recipe import Recipe
    from captionkit.runs.run import Run
    from captionkit.session import Session
    from captionkit.stages import CaptionGenerationStage, CaptionPreparationStage
    from captionkit.stages.tasks import Caption, Clip, Video, VideoMetadata, VideoTask, Window
    from captionkit.video import VideoError, probe, read_frames
    from captionkit.widgets import (
        Browser,
        CompareView,
        ExportPanel,
        SweepView,
        Tuner,
        Workbench,
        workbench,
    )
    from captionkit.sources.windows import compute_windows

__version__ = "0.1.0"

_HOMES = {
    "Browser": "widgets",
    "Caption": "tasks",
    "CaptionGenerationStage": "stages",
    "CaptionPreparationStage": "stages",
    "Clip": "tasks",
    "CompareView": "widgets",
    "ExportPanel": "widgets",
    "PROMPTS": "prompts",
    "QwenVL": "models.qwen_vl",
    "Recipe": "recipe",
    "Run": "run",
    "Session": "session",
    "SweepView": "widgets",
    "Tuner": "widgets",
    "Variant": "models.variants",
    "Video": "tasks",
    "VideoError": "video",
    "VideoMetadata": "tasks",
    "VideoTask": "tasks",
    "Window": "tasks",
    "WindowResult": "flow",
    "Workbench": "widgets",
    "ab": "comparison",
    "caption_windows": "flow",
    "compare": "comparison",
    "compute_windows": "windows",
    "load_captions": "export",
    "open_run": "history",
    "probe": "video",
    "read_frames": "video",
    "register": "models.variants",
    "runs": "history",
    "workbench": "widgets",
}
__all__ = [
    "PROMPTS",
    "Browser",
    "Caption",
    "CaptionGenerationStage",
    "CaptionPreparationStage",
    "Clip",
    "CompareView",
    "ExportPanel",
    "QwenVL",
    "Recipe",
    "Run",
    "Session",
    "SweepView",
    "Tuner",
    "Variant",
    "Video",
    "VideoError",
    "VideoMetadata",
    "VideoTask",
    "Window",
    "WindowResult",
    "Workbench",
    "ab",
    "caption_windows",
    "compare",
    "compute_windows",
    "load_captions",
    "open_run",
    "probe",
    "read_frames",
    "register",
    "runs",
    "workbench",
]


def __getattr__(name: str) -> object:
    if name == "scale":
        return importlib.import_module("captionkit.scale")
    if name not in _HOMES:
        raise AttributeError(f"module 'captionkit' has no attribute {name!r}")
    return getattr(importlib.import_module(f"captionkit.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
