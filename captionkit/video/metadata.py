"""Facts of a video file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class VideoMetadata:
    """Facts of a video file, known once its packets were counted.

    Parameters
    ----------
    width, height
        In pixels, as shown (after rotation).
    frame_times
        Seconds of each shown frame since the first one, of shape (frames,), from the timestamps.
    fps
        Average frames a second.
    duration
        Seconds, the time that the last frame is shown included.
    codec, container
        ffmpeg's names.
    rotation
        Degrees clockwise that were applied; 0, 90, 180 or 270.
    identity
        Hash of this file: its path, size, time of change and both ends.
    damage
        Description of what is missing or broken, or None.
    content
        Hash of the content, wherever the file lies; see `video.content`.
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
    content: str = ""

    @property
    def num_frames(self) -> int:
        """Number of shown frames."""
        return len(self.frame_times)
