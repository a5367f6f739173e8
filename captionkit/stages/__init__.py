"""The reference's stages with its contract, on its tasks; no earlier room imports them."""

from captionkit.stages.base import NodeInfo, ProcessingStage, Resources, WorkerMetadata
from captionkit.stages.enhancement import CaptionEnhancementStage
from captionkit.stages.generation import CaptionGenerationStage
from captionkit.stages.preparation import CaptionPreparationStage
from captionkit.stages.qwen_vl import GenerationError, QwenVL
from captionkit.stages.tasks import Clip, LlmInputs, Video, VideoTask, Window

__all__ = [
    "CaptionEnhancementStage",
    "CaptionGenerationStage",
    "CaptionPreparationStage",
    "Clip",
    "GenerationError",
    "LlmInputs",
    "NodeInfo",
    "ProcessingStage",
    "QwenVL",
    "Resources",
    "Video",
    "VideoTask",
    "Window",
    "WorkerMetadata",
]
