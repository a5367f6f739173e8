"""Windows of videos: find and open videos, cut windows, and name each window by its content."""

from captionkit.sources.collection import ClipRequest, Opening, Sources, VideoRequest
from captionkit.sources.find import VIDEO_SUFFIXES, find_videos, search_videos, short_names
from captionkit.sources.planned import (
    KEY_MARK,
    PlannedWindow,
    SourceClip,
    earlier_key,
    plan,
    whole_hash,
)
from captionkit.sources.table import refuse_unknown, row_keys, sample_rows, windows_table
from captionkit.sources.windows import WindowSpan, compute_windows, sample_frames

__all__ = [
    "KEY_MARK",
    "VIDEO_SUFFIXES",
    "ClipRequest",
    "Opening",
    "PlannedWindow",
    "SourceClip",
    "Sources",
    "VideoRequest",
    "WindowSpan",
    "compute_windows",
    "earlier_key",
    "find_videos",
    "plan",
    "refuse_unknown",
    "row_keys",
    "sample_frames",
    "sample_rows",
    "search_videos",
    "short_names",
    "whole_hash",
    "windows_table",
]
