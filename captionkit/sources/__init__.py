"""Windows of videos: find and open videos, cut windows, and name each window by its content."""

from captionkit.sources.collection import Opening, Sources
from captionkit.sources.find import VIDEO_SUFFIXES, find_videos, search_videos, short_names
from captionkit.sources.planned import (
    KEY_MARK,
    PlannedWindow,
    SourceClip,
    earlier_key,
    plan,
    whole_hash,
)
from captionkit.sources.requests import (
    CUTS,
    ClipRequest,
    Cut,
    CutRule,
    SpanRequest,
    VideoRequest,
    refuse_recut,
)
from captionkit.sources.rows import windows_table
from captionkit.sources.scenes import check_scenes, scene_windows
from captionkit.sources.spans import Spans, span_requests
from captionkit.sources.windows import WindowSpan, compute_windows, sample_frames

__all__ = [
    "CUTS",
    "KEY_MARK",
    "VIDEO_SUFFIXES",
    "ClipRequest",
    "Cut",
    "CutRule",
    "Opening",
    "PlannedWindow",
    "SourceClip",
    "Sources",
    "SpanRequest",
    "Spans",
    "VideoRequest",
    "WindowSpan",
    "check_scenes",
    "compute_windows",
    "earlier_key",
    "find_videos",
    "plan",
    "refuse_recut",
    "sample_frames",
    "scene_windows",
    "search_videos",
    "short_names",
    "span_requests",
    "whole_hash",
    "windows_table",
]
