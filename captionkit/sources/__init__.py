"""Which windows there are: videos found, opened, cut, and each window with an identity."""

from captionkit.sources.collection import ClipRequest, Sources, VideoRequest
from captionkit.sources.find import VIDEO_SUFFIXES, find_videos, short_names
from captionkit.sources.planned import PlannedWindow, SourceClip, content_hash, plan
from captionkit.sources.windows import WindowSpan, compute_windows, sample_frames

__all__ = [
    "VIDEO_SUFFIXES",
    "ClipRequest",
    "PlannedWindow",
    "SourceClip",
    "Sources",
    "VideoRequest",
    "WindowSpan",
    "compute_windows",
    "content_hash",
    "find_videos",
    "plan",
    "sample_frames",
    "short_names",
]
