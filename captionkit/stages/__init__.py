"""The two stages, and what they stand on."""

from __future__ import annotations

from captionkit.stages.base import NodeInfo, ProcessingStage, Resources, WorkerMetadata
from captionkit.stages.generation import CaptionEvent, CaptionGenerationStage
from captionkit.stages.preparation import CaptionPreparationStage

__all__ = [
    "CaptionEvent",
    "CaptionGenerationStage",
    "CaptionPreparationStage",
    "NodeInfo",
    "ProcessingStage",
    "Resources",
    "WorkerMetadata",
]
