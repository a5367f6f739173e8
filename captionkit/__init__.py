"""captionkit: caption video windows with a vision-language model, from the notebook to scale.

`__all__` lists the public names; each is loaded at its first use.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from captionkit.system.hints import hint

if TYPE_CHECKING:
    from captionkit.captions import CaptionRow
    from captionkit.engine import Backend
    from captionkit.export import load_captions
    from captionkit.models.variants import Variant, register
    from captionkit.pipeline import Caption, StageDone, TextGrew, WindowDone, caption
    from captionkit.prompts import PROMPTS
    from captionkit.recipe import Recipe
    from captionkit.review import AB, Comparison
    from captionkit.run import (
        Run,
        RunTask,
        ab,
        agreement,
        compare,
        export_dataset,
        judge,
        open_run,
        prompts_tried,
        runs,
    )
    from captionkit.search import Found, Proposals, metrics, propose
    from captionkit.session import Session
    from captionkit.sources import PlannedWindow, compute_windows, find_videos
    from captionkit.stages import (
        CaptionGenerationStage,
        CaptionPreparationStage,
        Clip,
        QwenVL,
        Video,
        VideoTask,
        Window,
    )
    from captionkit.video import VideoError, VideoMetadata, probe, read_frames
    from captionkit.widgets import (
        Browser,
        CompareView,
        ExportPanel,
        SearchView,
        SweepView,
        Tuner,
        Workbench,
        workbench,
    )

__version__ = "0.2.0"

_HOMES = {
    "AB": "review",
    "Backend": "engine",
    "Browser": "widgets",
    "Caption": "pipeline",
    "CaptionGenerationStage": "stages",
    "CaptionPreparationStage": "stages",
    "CaptionRow": "captions",
    "Clip": "stages",
    "CompareView": "widgets",
    "Comparison": "review",
    "ExportPanel": "widgets",
    "Found": "search",
    "PROMPTS": "prompts",
    "PlannedWindow": "sources",
    "Proposals": "search",
    "QwenVL": "stages",
    "Recipe": "recipe",
    "Run": "run",
    "RunTask": "run",
    "SearchView": "widgets",
    "Session": "session",
    "StageDone": "pipeline",
    "SweepView": "widgets",
    "TextGrew": "pipeline",
    "Tuner": "widgets",
    "Variant": "models.variants",
    "Video": "stages",
    "VideoError": "video",
    "VideoMetadata": "video",
    "VideoTask": "stages",
    "Window": "stages",
    "WindowDone": "pipeline",
    "Workbench": "widgets",
    "ab": "run",
    "agreement": "run",
    "caption": "pipeline",
    "compare": "run",
    "compute_windows": "sources",
    "export_dataset": "run",
    "find_videos": "sources",
    "judge": "run",
    "load_captions": "export",
    "metrics": "search",
    "open_run": "run",
    "probe": "video",
    "prompts_tried": "run",
    "propose": "search",
    "read_frames": "video",
    "register": "models.variants",
    "runs": "run",
    "workbench": "widgets",
}
__all__ = [
    "AB",
    "PROMPTS",
    "Backend",
    "Browser",
    "Caption",
    "CaptionGenerationStage",
    "CaptionPreparationStage",
    "CaptionRow",
    "Clip",
    "CompareView",
    "Comparison",
    "ExportPanel",
    "Found",
    "PlannedWindow",
    "Proposals",
    "QwenVL",
    "Recipe",
    "Run",
    "RunTask",
    "SearchView",
    "Session",
    "StageDone",
    "SweepView",
    "TextGrew",
    "Tuner",
    "Variant",
    "Video",
    "VideoError",
    "VideoMetadata",
    "VideoTask",
    "Window",
    "WindowDone",
    "Workbench",
    "ab",
    "agreement",
    "caption",
    "compare",
    "compute_windows",
    "export_dataset",
    "find_videos",
    "judge",
    "load_captions",
    "metrics",
    "open_run",
    "probe",
    "prompts_tried",
    "propose",
    "read_frames",
    "register",
    "runs",
    "samples",
    "workbench",
]


def samples() -> list[Path]:
    """Return the paths of the demo model's sample films, which are part of captionkit."""
    package = Path(__file__).parent
    installed = package / "data" / "videos"
    folder = installed if installed.is_dir() else package.parent / "data" / "videos"
    return sorted(folder.glob("*.mp4"))


def __getattr__(name: str) -> object:
    if name == "scale":
        return importlib.import_module("captionkit.scale")
    if name not in _HOMES:
        raise AttributeError(f"module 'captionkit' has no attribute {name!r}{hint(name, __all__)}")
    return getattr(importlib.import_module(f"captionkit.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "scale"])
