"""The reference's tasks: videos, clips and windows of NVIDIA NeMo Curator's stages.

Only the stages of this folder use tasks; everything else works on `sources.PlannedWindow`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict
from uuid import UUID, uuid4

import numpy as np
from numpy.typing import NDArray

from captionkit.pipeline.events import Caption
from captionkit.video.metadata import VideoMetadata


class LlmInputs(TypedDict):
    """Inputs of the caption stage for a window, from the preparation stage.

    ``prompt`` is the text of stage 1, with its placeholders filled. ``multi_modal_data["video"]`` is a
    uint8 array of shape (frames, 3, height, width), or None for a window that the engine has seen
    under the same id. ``video_metadata`` is vLLM's metadata, ``multi_modal_uuids["video"]`` the
    window's id, ``values`` the placeholders of a stage-2 text except the caption.
    """

    prompt: str
    multi_modal_data: dict[str, NDArray[np.uint8] | None]
    multi_modal_uuids: dict[str, str]
    video_metadata: dict[str, Any]
    values: dict[str, str]


@dataclass
class Window:
    """Consecutive frames of a clip that get one caption.

    ``start_frame`` and ``end_frame`` (inclusive) count from the clip's first frame. ``llm_inputs``,
    ``caption`` and ``captions`` are keyed by model variant: ``caption`` has the final text,
    ``captions`` every stage's `Caption`, ``enhanced_caption`` the text of a model that read the caption
    alone. ``warnings`` has the decoder's reports on a window that got captions.
    """

    start_frame: int
    end_frame: int
    mp4_bytes: bytes | None = None
    llm_inputs: dict[str, LlmInputs] = field(default_factory=dict)
    caption: dict[str, str] = field(default_factory=dict)
    webp_bytes: bytes | None = None
    captions: dict[str, list[Caption]] = field(default_factory=dict)
    start_s: float | None = None
    end_s: float | None = None
    warnings: list[str] = field(default_factory=list)
    enhanced_caption: dict[str, str] = field(default_factory=dict)


@dataclass
class Clip:
    """A stretch of a video: its own bytes (``buffer``), or a span of ``source_video``.

    ``span`` is (start, end) in seconds of the source, None for the whole file. ``errors`` has the
    failures by ``"video"``, ``"windows"`` or ``"window-N"``.
    """

    source_video: str
    span: tuple[float, float] | None = None
    uuid: UUID = field(default_factory=uuid4)
    buffer: bytes | None = None
    windows: list[Window] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)


@dataclass
class Video:
    """An input video and its clips."""

    input_video: Path | str
    clips: list[Clip] = field(default_factory=list)
    metadata: VideoMetadata | None = None
    errors: dict[str, str] = field(default_factory=dict)


@dataclass
class VideoTask:
    """Input and output of a stage: one video."""

    data: Video
    task_id: str = ""
    dataset_name: str = ""
