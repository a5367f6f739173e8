"""Prepare a window's prompt and exact frames for a recipe."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from captionkit import display, prompts
from captionkit.engine.protocol import VideoInput
from captionkit.models.variants import get_variant
from captionkit.recipe import Recipe
from captionkit.sources import PlannedWindow, WindowSpan, sample_frames
from captionkit.sources.windows import is_constant_rate
from captionkit.video import DecodePool

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Indices of frames at a variable rate are milliseconds.
_FINE_FPS = 1000.0


@dataclass(frozen=True)
class PreparedWindow:
    """Input of the backend: the prompt of stage 1 and the video.

    ``values`` fills the placeholders of a stage-2 text except the caption; ``damage`` is the decoder's
    report, or None. Where no stage sees the video, it has a name only.
    """

    prompt: str
    values: dict[str, str]
    video: VideoInput = field(repr=False)
    damage: str | None = None


@dataclass(frozen=True)
class ModelFrames:
    """The frames of a window that a model sees.

    ``pixels`` is uint8 of shape (frames, 3, height, width), ``seconds`` their times in the file.
    """

    pixels: NDArray[np.uint8]
    seconds: list[float]

    def figure(self) -> Figure:
        """Draw the frames side by side, with their times."""
        return display.frames_figure(self.pixels, self.seconds)


def prepare(
    window: PlannedWindow,
    recipe: Recipe,
    pool: DecodePool,
    *,
    frames: bool = True,
    model_resizes: bool = False,
    salt: str = "",
    texts: Mapping[str, str] = MappingProxyType({}),
) -> PreparedWindow:
    """Prepare a window for the backend.

    Parameters
    ----------
    window, recipe
        The window's frames, and the settings of sampling and size.
    pool
        Processes that read the frames.
    frames
        Whether to decode; False for a window that the backend knows.
    model_resizes
        Deliver frames as decoded and leave resizing to the model's processor.
    salt
        Part of the window's id in the backend: a new salt makes the window new to all caches, for
        measurements.
    texts
        Texts beside the picture by placeholder, for a recipe with `Recipe.texts`.

    Raises
    ------
    VideoError
        If the frames cannot be read.
    ValueError
        If the window's frames or the picture's shape do not fit the model.
    """
    seconds = window.end_s - window.start_s
    values = {
        "start": f"{window.start_s:.2f}",
        "end": f"{window.end_s:.2f}",
        "duration": f"{seconds:.2f}",
        "video": window.path.replace("\\", "/").rsplit("/", 1)[-1],
        **texts,
    }
    prompt = prompts.render(recipe.prompt_text, values)
    name = f"window {window.number} of {window.video} at {values['start']} s"
    if not recipe.sees_video:
        return PreparedWindow(prompt, values, VideoInput("", {}, name=name))
    numbers, size = _sampled(window, recipe, model_resizes)
    clip = window.source
    pixels = damage = None
    if frames:
        read = pool.read(clip.file, numbers, size, clip.metadata.identity)
        pixels, damage = read.pixels, read.damage
    metadata = _told_times(window, numbers)
    # Identify the exact pixels: vLLM returns the cached video for a known id.
    content = f"{clip.metadata.identity}:{numbers}:{size}:{pool.reader}{salt}"
    uid = hashlib.sha256(content.encode()).hexdigest()[:40]
    return PreparedWindow(prompt, values, VideoInput(uid, metadata, pixels, name), damage)


def _told_times(window: PlannedWindow, numbers: list[int]) -> dict[str, Any]:
    """Return the metadata from which models compute each frame's time.

    Models take index / fps (Qwen3-VL), or equal steps of total_num_frames / fps / frames (Qwen2.5-VL).
    At a variable rate the indices are the frames' own times in milliseconds, and `sample_frames`
    repeats frames so that the equal steps are true, too.
    """
    seconds = window.end_s - window.start_s
    metadata = {
        "fps": window.frames / seconds,
        "frames_indices": [each - window.source.first_frame - window.start_frame for each in numbers],
        "total_num_frames": window.frames,
        "duration": seconds,
        "do_sample_frames": False,
    }
    if not is_constant_rate(np.append(_times(window), window.end_s)):
        times = window.source.metadata.frame_times[numbers] - window.start_s
        metadata["fps"] = _FINE_FPS
        metadata["frames_indices"] = np.round(times * _FINE_FPS).astype(int).tolist()
        metadata["total_num_frames"] = max(round(seconds * _FINE_FPS), 1)
    return metadata


def _times(window: PlannedWindow) -> NDArray[np.float64]:
    """Return the seconds of the window's frames in the file."""
    first = window.source.first_frame + window.start_frame
    return window.source.metadata.frame_times[first : first + window.frames]


def window_tokens(window: PlannedWindow, recipe: Recipe) -> int:
    """Return the video tokens of a window, without reading a frame; raise as `prepare`."""
    numbers, _ = _sampled(window, recipe, model_resizes=False)
    shown = window.source.metadata
    variant = get_variant(recipe.model)
    return variant.tokens(shown.width, shown.height, len(numbers), recipe.pixel_budget)


def model_frames(window: PlannedWindow, recipe: Recipe, pool: DecodePool) -> ModelFrames:
    """Return the exact frames of a window that the model sees; raise as `prepare`."""
    numbers, size = _sampled(window, recipe, model_resizes=False)
    facts = window.source.metadata
    pixels = pool.read(window.source.file, numbers, size, facts.identity).pixels
    times = facts.frame_times
    return ModelFrames(pixels, [float(times[number]) for number in numbers])


def _sampled(
    window: PlannedWindow, recipe: Recipe, model_resizes: bool
) -> tuple[list[int], tuple[int, int]]:
    """Return frame numbers within the file, and (width, height), as `Recipe.frames_key` decides."""
    clip = window.source
    shown = clip.metadata
    if window.start_frame < 0 or clip.first_frame + window.end_frame >= shown.num_frames:
        raise ValueError(
            f"window {window.number} asks for frames {window.start_frame} to {window.end_frame}, but "
            f"{window.path} has {shown.num_frames - clip.first_frame}"
        )
    span = WindowSpan(window.start_frame, window.end_frame)
    sampled = sample_frames(span, window.end_s - window.start_s, recipe.sampling_fps, _times(window))
    # Check the size before decoding, also if the model's processor resizes.
    final = get_variant(recipe.model).frame_size(shown.width, shown.height, recipe.pixel_budget)
    size = (shown.width, shown.height) if model_resizes else final
    return [clip.first_frame + frame for frame in sampled], size
