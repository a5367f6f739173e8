"""The windows of a session: which videos there are, how they are cut, how they look.

Imports stages, store and video; called by `session`.
"""

from __future__ import annotations

import glob
import hashlib
import io
import json
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from captionkit.display import html as display
from captionkit.recipe import Recipe
from captionkit.stages import CaptionPreparationStage
from captionkit.stages.preparation import source_of
from captionkit.store import StoredWindow
from captionkit.stages.tasks import Clip, Video, VideoTask, Window
from captionkit.video import DecodePool, VideoError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VIDEO_SUFFIXES = frozenset(
    [
        ".mp4",
        ".mov",
        ".m4v",
        ".mkv",
        ".webm",
        ".avi",
        ".ts",
        ".mts",
        ".mpg",
        ".mpeg",
        ".flv",
        ".wmv",
        ".ogv",
        ".3gp",
    ]
)
_THUMBNAIL_WIDTH = 160
_MOST_THUMBNAILS = 2000
_BLOCK = 1 << 20


class WindowTable(pd.DataFrame):
    """Windows as rows; what pandas makes of it is one too. Shows thumbnails in a notebook."""

    _metadata = ["images"]  # noqa: RUF012
    images: Callable[[str, int], bytes | None] | None = None

    @property
    def _constructor(self) -> Callable[..., WindowTable]:
        return WindowTable

    def _repr_html_(self) -> str | None:
        if self.images is None or not {"video", "window"} <= set(self.columns):
            return super()._repr_html_()
        return display.windows_html(self, self.images)


@dataclass(frozen=True)
class SourceWindow:
    """A window with its clip, and as the store knows it."""

    clip: Clip
    window: Window
    stored: StoredWindow


@dataclass(frozen=True)
class ModelFrames:
    """The frames of a window that a model sees.

    ``pixels`` is uint8 of shape (frames, 3, height, width), ``seconds`` their times in the source.
    """

    pixels: NDArray[np.uint8]
    seconds: list[float]

    def figure(self) -> Figure:
        """The frames side by side, with their times."""
        return display.frames_figure(self.pixels, self.seconds)


class Sources:
    """All windows of some videos.

    Parameters
    ----------
    source
        See `session.Session`.
    planner
        Cuts clips into windows and reads frames for thumbnails.
    """

    def __init__(
        self,
        source: str | Path | VideoTask | Iterable[str | Path | VideoTask],
        planner: CaptionPreparationStage,
    ) -> None:
        self._planner = planner
        self.problems: dict[str, str] = {}
        tasks = list(_tasks(source))
        with ThreadPoolExecutor(planner.pool.workers) as threads:
            hashes = list(threads.map(self._plan, tasks))
        names = _names([str(task.data.input_video) for task in tasks])
        found: dict[str, SourceWindow] = {}
        for task, name, known in zip(tasks, names, hashes, strict=True):
            for each in self._windows(task, name, known):
                first = found.setdefault(each.stored.key, each)
                if first is not each:
                    self.problems[name] = f"has the same content as {first.stored.video}; left out"
        self.windows = list(found.values())
        if not self.windows:
            reasons = "; ".join(self.problems.values())
            raise ValueError(f"no video has a window that can be captioned: {reasons}")
        self._by_key = found
        self._by_name = {(each.stored.video, each.stored.number): each for each in self.windows}
        self._pictures: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def _plan(self, task: VideoTask) -> dict[int, str]:
        """Plan a task's clips; gives each clip's content hash."""
        hashes = {}
        for number, clip in enumerate(task.data.clips):
            self._planner.plan(task.data, clip)
            if clip.windows:
                hashes[number] = _content_hash(clip)
        return hashes

    def _windows(self, task: VideoTask, name: str, hashes: dict[int, str]) -> Iterator[SourceWindow]:
        count = 0
        for number, clip in enumerate(task.data.clips):
            for reason in clip.errors.values():
                self.problems[name] = reason
            metadata = clip.metadata
            if metadata is None:
                continue
            source = json.dumps(
                {
                    "width": metadata.width,
                    "height": metadata.height,
                    "fps": metadata.fps,
                    "span": clip.span or (0.0, metadata.duration),
                }
            )
            content = f"{hashes.get(number)}:{clip.first_frame}"
            for window in clip.windows:
                frames = f"{content}:{window.start_frame}:{window.end_frame}"
                stored = StoredWindow(
                    key=hashlib.sha256(frames.encode()).hexdigest()[:32],
                    video=name,
                    path=clip.source_video,
                    # Of the content, so that two exports of one video can be laid side by side.
                    clip=str(uuid.uuid5(uuid.NAMESPACE_OID, content)),
                    number=count,
                    start_frame=window.start_frame,
                    end_frame=window.end_frame,
                    start_s=window.start_s or 0.0,
                    end_s=window.end_s or 0.0,
                    source=source,
                )
                count += 1
                yield SourceWindow(clip, window, stored)

    @property
    def pool(self) -> DecodePool:
        """What reads the frames."""
        return self._planner.pool

    def close(self) -> None:
        """End the decoding processes."""
        self._planner.teardown()

    def table(self, notes: dict[str, str], images: Callable[[str, int], bytes | None]) -> WindowTable:
        """All windows as a table."""
        rows: list[dict[str, Any]] = [
            {
                "video": each.stored.video,
                "window": each.stored.number,
                "start": each.stored.start_s,
                "end": each.stored.end_s,
                "frames": each.stored.end_frame - each.stored.start_frame + 1,
                "note": notes.get(each.stored.key, ""),
                "id": each.stored.key,
            }
            for each in self.windows
        ]
        table = WindowTable(rows)
        table.images = images
        return table

    def select(self, windows: pd.DataFrame | None) -> list[SourceWindow]:
        """The windows of some rows, in their order.

        Raises
        ------
        ValueError
            No table of windows, or one of other videos.
        """
        if windows is None:
            return self.windows
        if not isinstance(windows, pd.DataFrame) or "id" not in windows:
            raise ValueError(
                "windows= takes rows of the session's table, as "
                "session.windows.query(\"video == 'harbour'\")"
            )
        unknown = [row for row in windows.itertuples() if row.id not in self._by_key]
        if unknown:
            first = unknown[0]
            raise ValueError(
                f"{len(unknown)} of these windows are not in this session (the first: window "
                f"{getattr(first, 'window', '?')} of {getattr(first, 'video', '?')!r}); take rows of "
                "this session's own table"
            )
        return [self._by_key[key] for key in windows["id"].drop_duplicates()]

    def frames(self, video: str, window: int, recipe: Recipe) -> ModelFrames:
        """See `session.Session.frames`."""
        each = self._find(video, window)
        stage = CaptionPreparationStage.from_recipe(recipe, pool=self.pool)
        task, _ = task_of([each])
        inputs = stage.prepare(task.data, task.data.clips[0], 0)
        times, first = each.clip.metadata, each.clip.first_frame + each.window.start_frame
        assert times is not None
        numbers = [first + number for number in inputs["video_metadata"]["frames_indices"]]
        pixels = inputs["multi_modal_data"]["video"]
        assert pixels is not None
        return ModelFrames(pixels, [float(times.frame_times[number]) for number in numbers])

    def clip(self, video: str, window: int) -> bytes:
        """See `session.Session.clip`."""
        each = self._find(video, window)
        first, last = (
            each.clip.first_frame + frame for frame in (each.window.start_frame, each.window.end_frame)
        )
        return self.pool.clip(source_of(each.clip), first, last)

    def _find(self, video: str, window: int) -> SourceWindow:
        if (video, window) not in self._by_name:
            raise KeyError(f"there is no window {window} of {video!r} in this session")
        return self._by_name[video, window]

    def thumbnail(self, video: str, window: int) -> bytes | None:
        """See `session.Session.thumbnails`."""
        each = self._by_name.get((video, window))
        if each is None:
            return None
        key = each.stored.key
        with self._lock:
            if key in self._pictures:
                self._pictures.move_to_end(key)
                return self._pictures[key]
        metadata, clip = each.clip.metadata, each.clip
        assert metadata is not None
        middle = clip.first_frame + (each.window.start_frame + each.window.end_frame) // 2
        high = max(2, round(_THUMBNAIL_WIDTH * metadata.height / metadata.width))
        try:
            frames = self._planner.pool.read(source_of(clip), [middle], (_THUMBNAIL_WIDTH, high))
        except VideoError:
            return None
        packed = io.BytesIO()
        Image.fromarray(frames.pixels[0].transpose(1, 2, 0)).save(packed, "JPEG", quality=80)
        with self._lock:
            self._pictures[key] = packed.getvalue()
            while len(self._pictures) > _MOST_THUMBNAILS:
                self._pictures.popitem(last=False)
        return packed.getvalue()


def task_of(windows: Sequence[SourceWindow]) -> tuple[VideoTask, list[list[int]]]:
    """One task of some windows, and for each window of each of its clips its place in ``windows``."""
    clips: list[Clip] = []
    places: list[list[int]] = []
    known: dict[int, int] = {}
    for place, each in enumerate(windows):
        number = known.setdefault(id(each.clip), len(clips))
        if number == len(clips):
            clips.append(replace(each.clip, windows=[], errors={}))
            places.append([])
        clips[number].windows.append(
            Window(
                each.window.start_frame,
                each.window.end_frame,
                start_s=each.window.start_s,
                end_s=each.window.end_s,
                warnings=list(each.window.warnings),
            )
        )
        places[number].append(place)
    return VideoTask(Video(input_video="", clips=clips)), places


def _tasks(
    source: str | Path | VideoTask | Iterable[str | Path | VideoTask],
) -> Iterator[VideoTask]:
    sources = [source] if isinstance(source, (str, Path, VideoTask)) else list(source)
    seen: set[str] = set()
    for each in sources:
        if isinstance(each, VideoTask):
            for clip in each.data.clips:
                clip.metadata = None
            yield each
            continue
        for path in _paths(str(each)):
            if path not in seen:
                seen.add(path)
                yield VideoTask(Video(input_video=path, clips=[Clip(source_video=path)]), task_id=path)
    if not sources:
        raise ValueError("there is no video; give a path, a pattern, a folder or a list of these")


def _paths(source: str) -> list[str]:
    """The files that a path, a pattern or a folder means, sorted."""
    path = Path(source).expanduser()
    if path.is_file():
        return [str(path)]
    if path.is_dir():
        found = [each for each in path.rglob("*") if each.suffix.lower() in VIDEO_SUFFIXES]
        if not found:
            known = " ".join(sorted(VIDEO_SUFFIXES))
            raise FileNotFoundError(f"the folder {source} holds no video ({known})")
        return sorted(map(str, found))
    if not glob.has_magic(source):
        raise FileNotFoundError(f"there is no {source} (in {Path.cwd()})")
    patterns = (str(path), str(path.parent / "**" / path.name))
    for pattern in patterns:
        matched = [each for each in glob.glob(pattern, recursive=True) if Path(each).is_file()]
        if matched:
            return sorted(matched)
    raise FileNotFoundError(f"nothing matches {source} (in {Path.cwd()}), nor in the folders below")


def _names(paths: list[str]) -> list[str]:
    """A short name for each video: its stem, or as much of its path as makes it the only one."""
    names = [Path(path).stem for path in paths]
    for depth in range(1, 20):
        twice = {name for name in names if names.count(name) > 1}
        if not twice:
            return names
        names = [
            "/".join(Path(path).parts[-depth - 1 :]) if name in twice else name
            for name, path in zip(names, paths, strict=True)
        ]
    return [f"{name}#{place}" for place, name in enumerate(names)]


def _content_hash(clip: Clip) -> str:
    digest = hashlib.blake2b(digest_size=16)
    if clip.buffer is not None:
        digest.update(clip.buffer)
        return digest.hexdigest()
    with open(clip.source_video, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
