"""Plain data that travels through the pipeline: tasks, videos, clips, windows, captions.

Field names are the reference's (NVIDIA NeMo Curator) where it has them. No I/O and no imports of
captionkit; every other room knows these.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict
from uuid import UUID, uuid4

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class VideoMetadata:
    """What a file says of itself once its packets were counted.

    Parameters
    ----------
    width, height
        In pixels, as shown (after rotation).
    frame_times
        Seconds of each shown frame from the first one, shape (frames,), from the timestamps.
    fps
        Average frames a second.
    duration
        Seconds, the last frame's own time included.
    codec, container
        ffmpeg's names.
    rotation
        Degrees clockwise that were applied; 0, 90, 180 or 270.
    identity
        Changes when the content does; part of each window's id.
    damage
        What is known to be missing or broken, or None.
    """

    width: int
    height: int
    frame_times: NDArray[np.float64]
    fps: float
    duration: float
    codec: str
    container: str
    rotation: int
    identity: str
    damage: str | None = None

    @property
    def num_frames(self) -> int:
        """Number of shown frames."""
        return len(self.frame_times)


@dataclass(frozen=True)
class Completion:
    """What the engine made of one prompt.

    ``prompt`` is the final prompt in the model's chat format. ``finish_reason`` is vLLM's: ``stop``, or
    ``length`` where ``max_output_tokens`` cut it off. Times are in seconds, measured in the engine.
    """

    prompt: str
    text: str
    finish_reason: str
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int
    queue_s: float
    first_token_s: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Caption(Completion):
    """A completion as a window's caption: of stage 1 or 2, with the readable part of its prompt."""

    stage: int
    prompt_text: str


class LlmInputs(TypedDict):
    """What the caption stage needs of a window, made by the preparation stage.

    ``prompt`` is the text of stage 1, its placeholders filled in. ``multi_modal_data["video"]`` is a
    uint8 array of shape (frames, 3, height, width), or None for a window that the engine has seen
    under the same id. ``video_metadata`` is what vLLM asks for with it, ``multi_modal_uuids["video"]``
    the window's id, ``values`` the placeholders of a stage-2 text but for the caption.
    """

    prompt: str
    multi_modal_data: dict[str, NDArray[np.uint8] | None]
    multi_modal_uuids: dict[str, str]
    video_metadata: dict[str, Any]
    values: dict[str, str]


@dataclass
class Window:
    """Some consecutive frames of a clip that get one caption.

    ``start_frame`` and ``end_frame`` (inclusive) count from the clip's first frame. ``llm_inputs``,
    ``caption`` and ``captions`` are keyed by model variant: ``caption`` holds the final text,
    ``captions`` every stage's `Caption`. ``warnings`` says what the decoder reported while the window
    was captioned all the same.
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


@dataclass
class Clip:
    """A stretch of a video: bytes of its own (``buffer``), or a span of ``source_video``.

    ``span`` is (start, end) in seconds of the source; None means all of it. ``errors`` says what went
    wrong, by ``"video"``, ``"windows"`` or ``"window-N"``. ``metadata`` and ``first_frame`` (of the
    source) are filled in by the preparation stage.
    """

    source_video: str
    span: tuple[float, float] | None = None
    uuid: UUID = field(default_factory=uuid4)
    buffer: bytes | None = None
    windows: list[Window] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    metadata: VideoMetadata | None = None
    first_frame: int = 0


@dataclass
class Video:
    """An input video and its clips."""

    input_video: Path | str
    clips: list[Clip] = field(default_factory=list)
    metadata: VideoMetadata | None = None
    errors: dict[str, str] = field(default_factory=dict)


@dataclass
class VideoTask:
    """What stages take and give: one video."""

    data: Video
    task_id: str = ""
    dataset_name: str = ""
