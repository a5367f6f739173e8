"""Reading video: exact frames, from processes that may die.

`probe` and `read_frames` serve one call each; `DecodePool` keeps its processes. Times come from
timestamps, frames are named by time, and a frame that cannot be read exactly is a `VideoError`.
"""

from __future__ import annotations

from captionkit.video.errors import VideoError
from captionkit.video.metadata import VideoMetadata
from captionkit.video.pool import READERS, DecodePool, Frames, Reader, Source

__all__ = [
    "READERS",
    "DecodePool",
    "Frames",
    "Reader",
    "Source",
    "VideoError",
    "VideoMetadata",
    "probe",
    "read_frames",
]


def probe(source: Source) -> VideoMetadata:
    """Describe what a video (a path, or a file's bytes) shows and when; see `DecodePool.probe`."""
    with DecodePool(workers=1) as pool:
        return pool.probe(source)


def read_frames(
    source: Source, numbers: list[int], size: tuple[int, int], reader: Reader = "pyav"
) -> Frames:
    """Read exact frames of a video by number, resized; see `DecodePool.read`."""
    with DecodePool(workers=1, reader=reader) as pool:
        return pool.read(source, numbers, size)
