"""What a file says of itself."""

from __future__ import annotations

from dataclasses import dataclass

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
