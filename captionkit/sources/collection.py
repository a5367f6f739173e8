"""All windows of some videos: opened in the background, found by key or by name, with thumbnails."""

from __future__ import annotations

import functools
import io
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from PIL import Image

from captionkit.sources.planned import PlannedWindow
from captionkit.sources.requests import CutRule, VideoRequest, open_request
from captionkit.system.hints import hint
from captionkit.video import DecodePool, VideoError

logger = logging.getLogger(__name__)

_THUMBNAIL_WIDTH = 160
_MOST_THUMBNAILS = 2000
_CLOSE_S = 10.0
# The windows of a video, and the reasons for what is left out.
_Opened = tuple[list[PlannedWindow], list[str]]
_STOPPED: _Opened = ([], ["was not opened: the opening was stopped; open the session again"])


@dataclass(frozen=True)
class Opening:
    """How far a collection is opened: videos so far and in all, and the windows so far.

    ``at`` is the video that is searched for scenes, with the share that is done.
    """

    opened: int
    videos: int
    windows: int
    ended: bool
    at: tuple[str, float] | None = None

    def __str__(self) -> str:
        windows = f"{self.windows:,} window{'' if self.windows == 1 else 's'}"
        if self.ended:
            return f"{self.opened:,} of {self.videos:,} videos opened, {windows}"
        at = f" ({self.at[0]}: {self.at[1]:.0%})" if self.at else ""
        return f"opening {self.opened:,} of {self.videos:,} videos{at}, {windows} so far"


class Sources:
    """All windows of some videos, opened in the background from construction on.

    Videos are opened in parallel and appended in their given order, so that indexes, numbers and the
    choice between equal windows do not depend on which one was ready first. ``ready`` are the windows
    so far; ``windows`` and ``problems`` wait for the end.

    Parameters
    ----------
    videos
        Videos to open.
    rule
        How videos without windows of their own are cut.
    pool
        Processes that read the frames.
    problems
        Problems known before: the name of a video → the reason for skipping the video.
    on_windows
        Called with the windows of each video before anyone sees them, in one of several threads.
    """

    def __init__(
        self,
        videos: Iterable[VideoRequest],
        rule: CutRule,
        pool: DecodePool,
        problems: dict[str, str],
        on_windows: Callable[[list[PlannedWindow]], None] = lambda windows: None,
    ) -> None:
        self.pool = pool
        #: Windows so far, in order; grows until the opening has ended.
        self.ready: list[PlannedWindow] = []
        #: Windows so far by key.
        self.by_key: dict[str, PlannedWindow] = {}
        #: Problems so far.
        self.left_out = dict(problems)
        self._videos = list(videos)
        self._rule = rule
        self._on_windows = on_windows
        self._listeners: list[Callable[[], None]] = []
        # Results that wait for those of earlier videos, by the video's index.
        self._results: dict[int, _Opened] = {}
        self._begun = self._opened = 0
        # The video that comes next, and the share of it that is done.
        self._share = (0, 0.0)
        self._stopped = False
        self._error: Exception | None = None
        self._by_name: dict[tuple[str, int], PlannedWindow] = {}
        self._changed = threading.Condition()
        self._pictures: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()
        # Daemons: a program that ends does not wait for the rest of the collection.
        for _ in range(min(pool.workers, len(self._videos))):
            threading.Thread(target=self._open, name="captionkit-open", daemon=True).start()

    def _open(self) -> None:
        """Open one video after another, beside other threads."""
        while True:
            with self._changed:
                number = self._begun
                if number >= len(self._videos):
                    return
                self._begun += 1
            try:
                result = open_request(
                    self._videos[number],
                    self._rule,
                    self.pool,
                    functools.partial(self._goes_on, number),
                )
                self._on_windows(result[0])
            except Exception as error:
                logger.exception("opening %s failed", self._videos[number].name)
                self._error = self._error or error
                result = [], [f"{type(error).__name__}: {error}"]
            if self._stopped and not result[0]:
                result = _STOPPED
            self._take({number: result})

    def _goes_on(self, number: int, share: float) -> bool:
        """Note the share of a video that is done; return whether the opening goes on."""
        with self._changed:
            self._share = (number, share) if number == self._opened else self._share
        return not self._stopped

    def _take(self, results: dict[int, _Opened]) -> None:
        """Append the windows of the videos whose predecessors are all opened."""
        with self._changed:
            self._results |= results
            while self._opened in self._results:
                windows, reasons = self._results.pop(self._opened)
                self._append(self._videos[self._opened].name, windows, reasons)
                self._opened += 1
            self._changed.notify_all()
        for listener in list(self._listeners):
            listener()

    def _append(self, name: str, windows: list[PlannedWindow], reasons: list[str]) -> None:
        new = [each for each in windows if self.by_key.setdefault(each.key, each) is each]
        reasons = [*reasons, *_repeats(windows, self.by_key)]
        if reasons:
            self.left_out[name] = "; ".join(reasons)
        self._by_name.update(((each.video, each.number), each) for each in new)
        self.ready += new

    @property
    def _ended(self) -> bool:
        return self._opened == len(self._videos)

    @property
    def opening(self) -> Opening:
        """How far the opening is."""
        number, share = self._share
        at = (self._videos[number].name, share) if share and number == self._opened else None
        return Opening(self._opened, len(self._videos), len(self.ready), self._ended, at)

    @property
    def paths(self) -> list[str]:
        """Paths of all files, opened or not."""
        return list(dict.fromkeys(clip.path for video in self._videos for clip in video.clips))

    @property
    def windows(self) -> list[PlannedWindow]:
        """All windows, in the order of the videos; waits for the end of the opening."""
        self.wait()
        return self.ready

    @property
    def problems(self) -> dict[str, str]:
        """Reasons for videos, clips and windows that are left out; waits for the end of the opening."""
        self.wait()
        return self.left_out

    def wait(self, timeout_s: float | None = None, *, first: bool = False) -> bool:
        """Wait until all videos are opened, or only until there is a window; False after the timeout.

        Raises
        ------
        Exception
            What failed beside the videos, such as a `StoreError`.
        ValueError
            If no video has a window; the message lists the reasons.
        """
        with self._changed:
            done = self._changed.wait_for(
                lambda: self._ended or (first and bool(self.ready)), timeout_s
            )
        if self._error is not None:
            raise self._error
        if done and not self.ready:
            listed = "; ".join(self.left_out.values())
            raise ValueError(f"no video has a window that can be captioned: {listed}")
        return done

    def stop(self) -> None:
        """Stop the opening; what is ready stays, the other videos become problems."""
        with self._changed:
            if self._ended:
                return
            self._stopped = True
            rest = range(self._begun, len(self._videos))
            self._begun = len(self._videos)
        self.pool.stop_probing()
        self._take(dict.fromkeys(rest, _STOPPED))

    def close(self) -> None:
        """Stop the opening, wait for its threads, and end the decoding processes."""
        self.stop()
        with self._changed:
            self._changed.wait_for(lambda: self._ended, _CLOSE_S)
        self.pool.close()

    def forget(self, listener: Callable[[], None]) -> None:
        """Call a function no more."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def listen(self, listener: Callable[[], None]) -> None:
        """Call a function after each video, from a thread; the function must return fast."""
        self._listeners.append(listener)

    def find(self, video: str, number: int) -> PlannedWindow:
        """Return a window by its video's short name and its number; wait for one not opened yet.

        Raises
        ------
        KeyError
            If the window does not exist.
        """
        if (video, number) not in self._by_name:
            self.wait()
        if (video, number) not in self._by_name:
            videos = {each for each, _ in self._by_name}
            near = "" if video in videos else hint(video, videos)
            raise KeyError(f"there is no window {number} of {video!r} in this session{near}")
        return self._by_name[video, number]

    def thumbnail(self, key: str) -> bytes | None:
        """Return a small JPEG of a window's middle frame; None if the frame cannot be read."""
        window = self.by_key.get(key)
        if window is None:
            return None
        with self._lock:
            if key in self._pictures:
                self._pictures.move_to_end(key)
                return self._pictures[key]
        clip, shown = window.source, window.source.metadata
        middle = clip.first_frame + (window.start_frame + window.end_frame) // 2
        high = max(2, round(_THUMBNAIL_WIDTH * shown.height / shown.width))
        try:
            frames = self.pool.read(clip.file, [middle], (_THUMBNAIL_WIDTH, high), shown.identity)
        except VideoError:
            return None
        packed = io.BytesIO()
        Image.fromarray(frames.pixels[0].transpose(1, 2, 0)).save(packed, "JPEG", quality=80)
        with self._lock:
            self._pictures[key] = packed.getvalue()
            while len(self._pictures) > _MOST_THUMBNAILS:
                self._pictures.popitem(last=False)
        return packed.getvalue()

    def clip(self, window: PlannedWindow) -> bytes:
        """Return a window as an H.264 mp4 file, at most 640 pixels wide and without sound.

        Of a film above 1080p it may have only the frames that others need, each at its time.
        """
        clip = window.source
        first, last = clip.first_frame + window.start_frame, clip.first_frame + window.end_frame
        return self.pool.clip(clip.file, first, last, clip.metadata.identity)


def _repeats(windows: list[PlannedWindow], first: dict[str, PlannedWindow]) -> list[str]:
    """Return the reasons for windows of a video that are not the first ones with their key."""
    pairs = [(each, first[each.key]) for each in windows if first[each.key] is not each]
    if len(pairs) == len(windows):
        videos = dict.fromkeys(earlier.video for _, earlier in pairs)
        names = " and ".join(videos)
        return [f"has the same content as {names}, whose captions apply; left out"] if videos else []
    reasons = []
    for each, earlier in pairs:
        frames = f"window {each.number} (frames {each.start_frame} to {each.end_frame})"
        where = "" if earlier.video == each.video else f" of {earlier.video}"
        reasons.append(f"{frames} is the same as window {earlier.number}{where}; left out")
    return reasons
