"""Windows of videos: find and open videos, cut windows, and name each window by its content."""

from captionkit.sources.collection import ClipRequest, Sources, VideoRequest
from captionkit.sources.find import VIDEO_SUFFIXES, find_videos, search_videos, short_names
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
    "search_videos",
    "short_names",
]
