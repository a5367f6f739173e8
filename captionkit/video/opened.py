"""Open a local file as a video, or say why it is none."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from captionkit.video.ending import whole_boxes
from captionkit.video.errors import VideoError

_EDGE = 1 << 20
# Formats that name other files, devices or scripts, and text that ffmpeg draws.
_INDIRECT = {
    *("concat", "hls", "dash", "imf", "webm_dash_manifest", "sdp", "rtsp", "rtp", "sap", "vobsub"),
    *("image2", "image2pipe", "lavfi", "tty", "alias_pix", "avisynth", "vapoursynth", "ffmetadata"),
}
# Beginnings of files that are not videos, and words for them.
_PLAYLIST = "a playlist, which names other files; give the videos that it names"
_HEADS = {
    b"ffconcat": _PLAYLIST,
    b"#EXTM3U": _PLAYLIST,
    b"<MPD": _PLAYLIST,
    b"<AssetMap": _PLAYLIST,
    b"[playlist]": _PLAYLIST,
    b"\x89PNG": "a still image",
    b"\xff\xd8\xff": "a still image",
}


def open_video(path: str) -> tuple[InputContainer, VideoStream]:
    """Open a local file and pick its best video stream.

    Raises
    ------
    VideoError
        If the path is not a file that can be read as a video.
    """
    file = Path(path)
    if not file.exists():
        raise VideoError(f"no such file: {path}")
    if file.is_dir():
        raise VideoError(f"{path} is a folder; give a video file")
    if file.stat().st_size == 0:
        raise VideoError(f"{path} is empty (0 bytes)")
    try:
        container = _opened(path)
    except (av.FFmpegError, OSError) as error:
        what = _kind(file)
        raise VideoError(
            f"{path} is {what}" if what else f"{path} cannot be read as a video: {reason(error)}"
        ) from error
    covers = av.stream.Disposition.attached_pic
    streams = [s for s in container.streams.video if not s.disposition & covers]
    best = container.streams.best("video")
    stream = best if best in streams else next(iter(streams), None)
    if stream is None:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        container.close()
        raise VideoError(f"{path} has no video stream (it holds {kinds})")
    if stream.codec_context is None:
        container.close()
        raise VideoError(f"{path} holds a video codec that this build of ffmpeg cannot decode")
    return container, stream


def _opened(path: str) -> InputContainer:
    # Read this file only: a playlist under the name of an .mp4 must not open what it lists.
    options = {"protocol_whitelist": "file,subfile", "format_whitelist": _direct_formats()}
    try:
        return av.open(f"file:{path}", options=options, metadata_errors="ignore")
    except av.FFmpegError:
        # ffmpeg refuses an MP4 that breaks off in the header of a fragment: leave that header out.
        with open(path, "rb") as file:
            whole = whole_boxes(file, os.path.getsize(path))
        if not 0 < whole < os.path.getsize(path):
            raise
        part = f"subfile,,start,0,end,{whole},,:file:{path}"
        return av.open(part, options=options, metadata_errors="ignore")


def reason(error: Exception) -> str:
    """Say what went wrong, without the path that ffmpeg appends."""
    return (getattr(error, "strerror", None) or str(error)).split(":")[0]


def check_clear(path: str, packet: Any) -> None:
    """Refuse a packet that is encrypted.

    Raises
    ------
    VideoError
        If it is; decoders would make noise of it.
    """
    if packet.has_sidedata("encryption_info") or packet.has_sidedata("encryption_init_info"):
        raise VideoError(f"{path} is encrypted; decrypt the file first")


def file_identity(path: str) -> str:
    """Hash a file's path, size, time of change and both ends: changes when its content does."""
    status = os.stat(path)
    digest = hashlib.sha256(f"{os.path.realpath(path)}\0{status.st_mtime_ns}".encode())
    digest.update(f"\0{status.st_size}\0".encode())
    with open(path, "rb") as file:
        digest.update(file.read(_EDGE))
        file.seek(max(0, status.st_size - _EDGE))
        digest.update(file.read(_EDGE))
    return digest.hexdigest()[:32]


@cache
def _direct_formats() -> str:
    return ",".join(
        name
        for name in av.formats_available
        if not name.endswith("_pipe") and not set(name.split(",")) & _INDIRECT
    )


def _kind(file: Path) -> str | None:
    """Recognise a file that is not a video by its beginning."""
    with file.open("rb") as stream:
        head = stream.read(4096)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        animated = b"ANIM" in head[:64]
        return (
            "an animated WebP, which this build of ffmpeg cannot decode; convert it to mp4 or gif"
            if animated
            else "a still image"
        )
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"<?xml"):
        start = start[start.find(b"?>") + 2 :].lstrip()
    return next((what for mark, what in _HEADS.items() if start.startswith(mark)), None)
