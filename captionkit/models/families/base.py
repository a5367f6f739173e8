"""What a family of models does with the frames of a window, computed from a model's own files."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

_LONGEST_SIDE = 200
_PROFILED_VIDEO = {"count": 1, "num_frames": 128, "width": 448, "height": 448}
# Most images of a prompt: the most frames of a window.
_MOST_IMAGES = 768


class Family(ABC):
    """A model that sees frames, known by the ``model_type`` of its ``config.json``.

    A value that the files leave out is the one that transformers takes.

    Parameters
    ----------
    config
        Content of ``config.json``.
    processor
        Content of the processor's files: ``image_processor`` and ``video_processor`` with their
        settings, and settings of the processor itself.
    """

    name: ClassVar[str]
    model_types: ClassVar[tuple[str, ...]]
    # Frames enter the prompt one by one, as images: vLLM takes no video for these models.
    images: ClassVar[bool] = False
    # Layout of a frame that vLLM expects: (height, width, 3), else (3, height, width).
    channels_last: ClassVar[bool] = False
    # At every start, also without a profile, vLLM makes the largest video: of GLM 453 frames of 2884 x
    # 2884 pixels (11 GB), of InternVL as many frames as its context holds.
    makes_largest_video: ClassVar[bool] = False

    def __init__(self, config: Mapping[str, Any], processor: Mapping[str, Any]) -> None:
        self.config = config
        self.vision: Mapping[str, Any] = config.get("vision_config") or {}
        self.processor = processor

    @property
    @abstractmethod
    def grid(self) -> int:
        """Width and height of a frame are multiples of so many pixels."""

    @property
    @abstractmethod
    def min_pixels(self) -> int:
        """Least pixels of a frame."""

    @property
    @abstractmethod
    def default_pixels(self) -> int:
        """Most pixels of a frame, unless a variant or a recipe says otherwise."""

    @abstractmethod
    def frame_size(self, width: int, height: int, budget: int) -> tuple[int, int]:
        """Return the (width, height) at which a frame goes to vLLM, in pixels.

        Parameters
        ----------
        width, height
            Size of the picture; `check_picture` accepts it.
        budget
            Most pixels, at least `min_pixels`.
        """

    @abstractmethod
    def tokens(self, width: int, height: int, frames: int) -> int:
        """Return the video tokens of a window: what the vision tower makes of its frames.

        Parameters
        ----------
        width, height
            Size of the frames, from `frame_size`.
        frames
            Number of frames.
        """

    def processor_kwargs(self, pixels: tuple[int, int] | None) -> dict[str, Any]:
        """Return what vLLM's processor is told once, when the engine starts.

        Parameters
        ----------
        pixels
            (least, most) pixels of a frame if the processor resizes; None if frames have their size.
        """
        return {"do_sample_frames": False, **({} if pixels else {"do_resize": False})}

    def window_kwargs(self, pixels: tuple[int, int] | None, frames: int) -> dict[str, Any]:
        """Return what vLLM's processor is told with each window, as `processor_kwargs`."""
        return {}

    def limits(self, video: Any = 1) -> dict[str, Any]:
        """Return what a prompt may hold; ``video`` is vLLM's limit of videos, or its profiled video."""
        if not self.images:
            bound = self.makes_largest_video and not isinstance(video, dict)
            return {"video": _PROFILED_VIDEO if bound else video, "image": 0}
        profiled = {"count": _MOST_IMAGES}
        if isinstance(video, dict):
            profiled |= {name: video[name] for name in ("width", "height") if name in video}
        return {"video": 0, "image": profiled if len(profiled) > 1 else _MOST_IMAGES}

    def check_picture(self, width: int, height: int, budget: int) -> None:
        """Refuse a picture or a budget that no frame of this family fits.

        Raises
        ------
        ValueError
            If one side is more than 200 times the other, or the budget is below `min_pixels`.
        """
        if budget < self.min_pixels:
            raise ValueError(
                f"a pixel budget of {budget} is too small for {self.name}; give at least "
                f"{self.min_pixels} pixels a frame"
            )
        if max(width, height) > _LONGEST_SIDE * min(width, height):
            raise ValueError(
                f"a picture of {width} x {height} pixels is too long for {self.name}: one side may "
                f"be at most {_LONGEST_SIDE} times the other"
            )

    def size_problem(self, width: int, height: int) -> str | None:
        """Return why vLLM must not get frames of this size from others; None if they fit."""
        if width % self.grid or height % self.grid:
            return f"both must be multiples of {self.grid}"
        return None

    def setting(self, part: str, name: str, default: Any) -> Any:
        """Return a setting of ``image_processor`` or ``video_processor``."""
        return (self.processor.get(part) or {}).get(name, default)


class GridFamily(Family):
    """Frames of any size on a grid of patches; a token covers a cell of the grid in a few frames."""

    patch_size: ClassVar[int] = 14
    # The processor's ``size`` counts the pixels of all frames of a window.
    whole_video: ClassVar[bool] = False

    @property
    def grid(self) -> int:
        """Patch size times merge size."""
        merge = int(self.vision.get("spatial_merge_size", 2))
        return int(self.vision.get("patch_size", self.patch_size)) * merge

    @property
    def min_pixels(self) -> int:
        """Four cells of the grid; smaller frames are enlarged."""
        return 4 * self.grid**2

    @property
    def default_pixels(self) -> int:
        """144 cells of the grid: 448 x 252 pixels of 28 x 28."""
        return 144 * self.grid**2

    def frame_size(self, width: int, height: int, budget: int) -> tuple[int, int]:
        """As Qwen's own processors: the aspect is as near as the grid and the budget allow."""
        grid = self.grid
        wide, high = round(width / grid) * grid, round(height / grid) * grid
        if wide * high > budget:
            shrink = math.sqrt(width * height / budget)
            wide = max(grid, math.floor(width / shrink / grid) * grid)
            high = max(grid, math.floor(height / shrink / grid) * grid)
        elif wide * high < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (width * height))
            wide = math.ceil(width * grow / grid) * grid
            high = math.ceil(height * grow / grid) * grid
        return wide, high

    def tokens(self, width: int, height: int, frames: int) -> int:
        """One a cell of the grid and pair of frames."""
        pair = int(self.vision.get("temporal_patch_size", 2))
        return math.ceil(frames / pair) * (width // self.grid) * (height // self.grid)

    def processor_kwargs(self, pixels: tuple[int, int] | None) -> dict[str, Any]:
        """A size a frame holds for all windows; a size of the whole video goes with each window."""
        told = super().processor_kwargs(pixels)
        return told if self.whole_video else told | _size(pixels)

    def window_kwargs(self, pixels: tuple[int, int] | None, frames: int) -> dict[str, Any]:
        """The size of the whole video: so many times a frame's."""
        return _size(pixels, frames) if self.whole_video else {}


class FixedFamily(Family):
    """Frames that all have one size and one number of tokens, whatever the picture's shape."""

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """(width, height) of every frame."""

    @property
    @abstractmethod
    def frame_tokens(self) -> int:
        """Tokens of a frame."""

    @property
    def grid(self) -> int:
        """Frames have one size."""
        return 1

    @property
    def min_pixels(self) -> int:
        """Pixels of every frame."""
        return self.size[0] * self.size[1]

    @property
    def default_pixels(self) -> int:
        """Pixels of every frame."""
        return self.min_pixels

    def frame_size(self, width: int, height: int, budget: int) -> tuple[int, int]:
        """Squeeze the picture, as the model's own processor does."""
        return self.size

    def size_problem(self, width: int, height: int) -> str | None:
        """Only the one size fits."""
        wide, high = self.size
        return None if (width, height) == (wide, high) else f"{self.name} takes {wide} x {high}"

    def tokens(self, width: int, height: int, frames: int) -> int:
        """The same for each frame."""
        return frames * self.frame_tokens


def sides(value: Any, default: int) -> tuple[int, int]:
    """Return (width, height) of a size in any of its spellings."""
    if isinstance(value, Mapping):
        edge = value.get("longest_edge") or value.get("shortest_edge") or default
        return int(value.get("width", edge)), int(value.get("height", edge))
    if isinstance(value, (list, tuple)):
        return int(value[-1]), int(value[0])
    return int(value or default), int(value or default)


def _size(pixels: tuple[int, int] | None, frames: int = 1) -> dict[str, Any]:
    if pixels is None:
        return {}
    least, most = pixels
    return {"size": {"shortest_edge": least * frames, "longest_edge": most * frames}}
