"""Reading video: exact frames, from processes that may die.

`probe` and `read_frames` serve one call each; `DecodePool` keeps its workers. Times come from
timestamps, frames are named by them, and what cannot be read exactly is a `VideoError`.
"""

from __future__ import annotations

from captionkit.stages.tasks import VideoMetadata
from captionkit.video.errors import VideoError
from captionkit.video.pool import READERS, DecodePool, Frames, Reader, Source

__all__ = [
    "READERS",
    "DecodePool",
    "Frames",
    "Reader",
    "Source",
    "VideoError",
    "probe",
    "read_frames",
]


def probe(source: Source) -> VideoMetadata:
    """What a video (a path, or a file's bytes) shows and when; see `DecodePool.probe`."""
    with DecodePool(workers=1) as pool:
        return pool.probe(source)


def read_frames(
    source: Source, numbers: list[int], size: tuple[int, int], reader: Reader = "pyav"
) -> Frames:
    """Exact frames of a video by number, resized; see `DecodePool.read`."""
    with DecodePool(workers=1, reader=reader) as pool:
        return pool.read(source, numbers, size)
