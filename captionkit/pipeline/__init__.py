"""From windows to captions: prepare frames, ask the backend, emit events."""

from captionkit.pipeline.backends import EngineOptions, engine_key, open_backend
from captionkit.pipeline.events import Caption, Event, StageDone, TextGrew, WindowDone
from captionkit.pipeline.flow import caption
from captionkit.pipeline.prepared import ModelFrames, PreparedWindow, model_frames, prepare

__all__ = [
    "Caption",
    "EngineOptions",
    "Event",
    "ModelFrames",
    "PreparedWindow",
    "StageDone",
    "TextGrew",
    "WindowDone",
    "caption",
    "engine_key",
    "model_frames",
    "open_backend",
    "prepare",
]
