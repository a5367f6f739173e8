"""PlannedWindow: consecutive frames of a video that get one caption, with a permanent identity."""

from __future__ import annotations

import functools
import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from captionkit.recipe import LEAST_FRAMES
from captionkit.sources.windows import WindowSpan, tile
from captionkit.video import DecodePool, Source
from captionkit.video.cache import file_cache, file_stamp
from captionkit.video.metadata import VideoMetadata

#: First character of a window's key. Keys of earlier versions begin with a hexadecimal digit.
KEY_MARK = "w"
# What tables of spans may round off, and how far they may pass the end of a film.
_ROUNDED_S = 0.001001
_BEYOND_S = 0.5
_BLOCK = 1 << 20


@dataclass(frozen=True)
class SourceClip:
    """Source of windows: a whole file, a span of a file, or the bytes of a file.

    Parameters
    ----------
    file
        Input of the decoder: a path, or a file's bytes.
    path
        The file's path, or a name for bytes.
    metadata
        Facts of the stream from the decoder.
    first_frame, num_frames
        The clip's frames within the file.
    span
        Start and end in seconds of the file.
    """

    file: Source = field(repr=False)
    path: str
    metadata: VideoMetadata = field(repr=False)
    first_frame: int
    num_frames: int
    span: tuple[float, float]

    @classmethod
    def open(
        cls,
        pool: DecodePool,
        file: Source,
        path: str,
        span: tuple[float, float] | None = None,
        metadata: VideoMetadata | None = None,
    ) -> SourceClip:
        """Read a file's index without decoding. A span is in seconds, its end excluded.

        ``metadata`` is the file's, if another clip of it was opened.

        Raises
        ------
        VideoError
            If the file cannot be read.
        ValueError
            If the span does not end after its start.
        """
        if span is not None and not span[0] < span[1]:
            raise ValueError(
                f"{path}: the span from {span[0]} to {span[1]} s has no length; give (start, end) in "
                "seconds, the start before the end"
            )
        metadata = metadata or pool.probe(file)
        first, count = 0, metadata.num_frames
        if span is not None:
            begin, past = np.searchsorted(metadata.frame_times, np.array(span) - 1e-6)
            first, count = int(begin), int(past - begin)
        return cls(file, path, metadata, first, count, span or (0.0, metadata.duration))

    def times(self, start_frame: int, end_frame: int) -> tuple[float, float]:
        """Return start and end of frames of the clip, in seconds of the file.

        A window ends where the next frame begins.
        """
        times, last = self.metadata.frame_times, self.metadata.num_frames - 1
        start, after = self.first_frame + start_frame, self.first_frame + end_frame + 1
        end = float(times[after]) if after <= last else self.metadata.duration
        return float(times[min(start, last)]), end

    def cut(
        self, window_size: int, remainder_threshold: int, window_seconds: float | None = None
    ) -> list[WindowSpan]:
        """Cut the clip into windows of frames, or of seconds.

        ``remainder_threshold`` then stands for the same share of ``window_seconds`` as of
        ``window_size``.

        Raises
        ------
        ValueError
            If the clip has too few frames for a window.
        """
        times = self.metadata.frame_times[self.first_frame : self.first_frame + self.num_frames]
        spans = tile(times, window_size, remainder_threshold, window_seconds)
        if not spans:
            raise ValueError(
                f"{self.path} has {self.num_frames} frames; a window needs at least {LEAST_FRAMES}"
            )
        return spans

    def within(self, start_s: float, end_s: float) -> WindowSpan:
        """Return the frames of the clip between two times of the file, the end excluded.

        Tables round their times: a frame within a millisecond of the start counts, and an end may lie
        half a second beyond the film.

        Raises
        ------
        ValueError
            If the span lies beyond the film.
        """
        length = self.metadata.duration
        for name, seconds, most in (("starts", start_s, length), ("ends", end_s, length + _BEYOND_S)):
            if seconds > most:
                raise ValueError(
                    f"the span from {start_s:g} to {end_s:g} s {name} beyond the film of {length:.2f} s"
                )
        times = np.array((start_s, end_s)) - _ROUNDED_S
        begin, past = np.searchsorted(self.metadata.frame_times, times)
        return WindowSpan(int(begin) - self.first_frame, int(past) - 1 - self.first_frame)

    def check(self, window: WindowSpan) -> None:
        """Refuse a window that is not at least 4 frames of this clip.

        Raises
        ------
        ValueError
            If the window does not fit; the message has its frames and the remedy.
        """
        count = self.num_frames
        if window.end < window.start:
            wrong = "ends before it begins; exchange its first and its last frame"
        elif window.start < 0:
            wrong = "begins before the clip; give a first frame of 0 or more"
        elif window.end >= count:
            wrong = f"ends beyond the clip of {count} frames; give a last frame of at most {count - 1}"
        elif len(window) < LEAST_FRAMES:
            wrong = f"has {len(window)} frames; a window needs at least {LEAST_FRAMES}"
        else:
            return
        raise ValueError(f"the window of frames {window.start} to {window.end} {wrong}")

    @functools.cached_property
    def facts(self) -> str:
        """Size, rate and span as JSON, in the store's format."""
        shown = self.metadata
        return json.dumps(
            {"width": shown.width, "height": shown.height, "fps": shown.fps, "span": self.span}
        )


@dataclass(frozen=True)
class PlannedWindow:
    """Consecutive frames of a clip that get one caption.

    Parameters
    ----------
    key
        Hash of the file's content (`video.VideoMetadata.content`) and the window's frames: a copied or
        moved file keeps its keys. Begins with `KEY_MARK`.
    video
        Short name of the video, unique in its session.
    path
        Path of the file.
    clip
        Id of the clip, a hash of its content.
    number
        The window's number in its video, from 0.
    start_frame, end_frame
        First and last frame, inclusive, counted from the clip's first frame.
    start_s, end_s
        Start and end in seconds of the file.
    source
        Clip of the window.
    """

    key: str
    video: str
    path: str
    clip: str
    number: int
    start_frame: int
    end_frame: int
    start_s: float
    end_s: float
    source: SourceClip

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.end_frame - self.start_frame + 1


def plan(
    clip: SourceClip, spans: Sequence[WindowSpan], video: str, first_number: int = 0
) -> list[PlannedWindow]:
    """Return the windows of a clip with their keys.

    Parameters
    ----------
    clip, spans
        The clip and the frames of its windows.
    video
        Short name of the video.
    first_number
        Number of the first window, for a video of several clips.
    """
    content = f"{clip.metadata.content}:{clip.first_frame}"
    name = str(uuid.uuid5(uuid.NAMESPACE_OID, content))
    windows = []
    for number, span in enumerate(spans, first_number):
        start_s, end_s = clip.times(span.start, span.end)
        windows.append(
            PlannedWindow(
                key=KEY_MARK + _hash(f"{content}:{span.start}:{span.end}")[:31],
                video=video,
                path=clip.path,
                clip=name,
                number=number,
                start_frame=span.start,
                end_frame=span.end,
                start_s=start_s,
                end_s=end_s,
                source=clip,
            )
        )
    return windows


def earlier_key(window: PlannedWindow, whole: str) -> str:
    """Return the key that captionkit 0.1 gave a window, from the hash of the whole file."""
    frames = f"{whole}:{window.source.first_frame}:{window.start_frame}:{window.end_frame}"
    return _hash(frames)[:32]


def whole_hash(file: Source) -> str:
    """Return the hash of all bytes of a file, 32 hexadecimal digits, kept in the cache of files."""
    if isinstance(file, bytes):
        return hashlib.blake2b(file, digest_size=16).hexdigest()
    cache = file_cache()
    stamp = file_stamp(file)
    kept = cache.get(file, "whole", stamp)
    if kept is not None:
        return kept.decode()
    digest = hashlib.blake2b(digest_size=16)
    with Path(file).open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    cache.put(file, "whole", stamp, digest.hexdigest().encode())
    return digest.hexdigest()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
