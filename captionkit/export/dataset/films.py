"""Where the frames of captioned windows are: in a session's films, or in the files that rows name."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from captionkit.sources import PlannedWindow, SourceClip
from captionkit.sources.planned import KEY_MARK, earlier_key, plan, whole_hash
from captionkit.sources.windows import WindowSpan
from captionkit.video import DecodePool, Source, VideoError
from captionkit.video.metadata import VideoMetadata

# Files round times; frames lie farther apart.
_ROUNDED_S = 0.0015


@dataclass(frozen=True)
class Stretch:
    """Frames of a film, first and last included; ``metadata`` has the film's facts."""

    file: Source = field(repr=False)
    first: int
    last: int
    metadata: VideoMetadata = field(repr=False)


class Films:
    """Finds the frames of windows.

    Parameters
    ----------
    known
        Windows of a session by key.
    pool
        Processes that read the films.
    """

    def __init__(self, known: Mapping[str, PlannedWindow], pool: DecodePool) -> None:
        self._known = known
        self._pool = pool
        self._facts: dict[str, VideoMetadata] = {}
        self._lock = threading.Lock()

    def find(self, row: Mapping[str, Any]) -> Stretch:
        """Return the frames of a row with the columns of `CaptionRow`.

        Raises
        ------
        VideoError
            If the film is gone, or is not the one that was captioned.
        """
        window = self._known.get(str(row["key"]))
        if window is not None:
            clip = window.source
            begin = clip.first_frame
            return Stretch(
                clip.file, begin + window.start_frame, begin + window.end_frame, clip.metadata
            )
        path = row["path"]
        if path is None:
            raise VideoError(f"{row['video']}: its row has no path; open a session with the film")
        if row["start_s"] is None or row["frames"] is None:
            raise VideoError(
                f"{row['video']}: its row, perhaps of captionkit 0.1, lacks start_s or frames; caption "
                "the film again"
            )
        shown = self._metadata(path)
        first = int(np.searchsorted(shown.frame_times, row["start_s"] - _ROUNDED_S))
        stretch = Stretch(path, first, first + row["frames"] - 1, shown)
        if not self._is_captioned(row, stretch):
            raise VideoError(f"{path} is not the film that was captioned; it has other frames")
        return stretch

    def _metadata(self, path: str) -> VideoMetadata:
        with self._lock:
            known = self._facts.get(path)
        if known is None:
            known = self._pool.probe(path)
            with self._lock:
                self._facts[path] = known
        return known

    @staticmethod
    def _is_captioned(row: Mapping[str, Any], stretch: Stretch) -> bool:
        """Whether the frames are those of the row, by the key that stands for their content."""
        shown, first = stretch.metadata, stretch.first
        begin = first - row["start_frame"]
        if begin < 0 or stretch.last >= shown.num_frames:
            return False
        if abs(float(shown.frame_times[first]) - row["start_s"]) > _ROUNDED_S:
            return False
        key = row["key"]
        if key is None:
            return True
        path = str(stretch.file)
        clip = SourceClip(path, path, shown, begin, shown.num_frames - begin, (0.0, shown.duration))
        (window,) = plan(clip, [WindowSpan(row["start_frame"], row["end_frame"])], row["video"])
        if key.startswith(KEY_MARK):
            return window.key == key
        return earlier_key(window, whole_hash(path)) == key
