"""The decode pool: probing files and reading frames in processes that may die.

A crash or a hang of a decoder is a `VideoError` on that request within the time limit; the pool
replaces the process.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from captionkit.system import ipc
from captionkit.system.cores import usable_cores
from captionkit.system.temp import TempFolder
from captionkit.video.cache import file_stamp
from captionkit.video.encoding import Encoding, Excerpt
from captionkit.video.errors import VideoError, shown_path
from captionkit.video.kept import kept_facts
from captionkit.video.metadata import VideoMetadata

Reader = Literal["pyav", "decord"]
Source = str | Path | bytes

# Looks for an answer within the time limit.
_LOOKS = 10

# Eight GPUs with 20 windows/s each would take more, but disks and the session's own process then limit.
_MOST_WORKERS = 32

READERS: tuple[Reader, ...] = ("pyav", "decord")


@dataclass(frozen=True)
class Frames:
    """Frames of one window: uint8 of shape (frames, 3, height, width), and reported damage."""

    pixels: NDArray[np.uint8]
    damage: str | None


class DecodeProcess:
    """One decoding process and our end of its channel."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "captionkit.video.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # Drop what ffmpeg and decord print: errors are reported as `VideoError`.
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        self.channel = ours
        self.interrupted = False

    def ask(self, message: dict[str, Any], limit_s: float) -> tuple[dict[str, Any], bytearray]:
        """Send a request and wait for its answer, `TimeoutError` after the limit without any sign.

        Time that this process is stopped does not count, as on a laptop that sleeps.
        """
        self.channel.settimeout(limit_s / _LOOKS)
        ipc.send(self.channel, message)
        while True:
            answer, payload = ipc.receive(self.channel, _LOOKS)
            if answer["op"] != "alive":
                return answer, payload

    def kill(self) -> int:
        """End the process and return its exit code."""
        self.process.kill()
        code = self.process.wait()
        self.channel.close()
        return code


class DecodePool:
    """A few decoding processes, started when they are needed.

    Safe to call from several threads; each process serves one request at a time.

    Parameters
    ----------
    workers
        Most processes; by default one for each core that this process may use, up to 32.
    reader
        ``"pyav"``, or ``"decord"`` for the streams that it reads exactly.
    timeout_s
        Seconds without progress after which the process of a request is killed. A long file may take
        longer: the decoder shows signs of life while it reads packets.

    Raises
    ------
    ValueError
        If there is no reader of that name.
    """

    def __init__(
        self, workers: int | None = None, reader: Reader = "pyav", timeout_s: float = 120.0
    ) -> None:
        if reader not in READERS:
            raise ValueError(f"no reader is called {reader!r}; known: {', '.join(READERS)}")
        count = workers or min(_MOST_WORKERS, usable_cores())
        self.workers = count
        self.reader = reader
        self._limit = timeout_s
        # None stands for a process that has not started. The process used last comes first: it has
        # the file open.
        self._idle: queue.LifoQueue[DecodeProcess | None] = queue.LifoQueue()
        for _ in range(count):
            self._idle.put(None)
        self._count = count
        self._lock = threading.Lock()
        # Processes that serve `probe`.
        self._probing: set[DecodeProcess] = set()
        self._probing_stopped = False
        self._buffers: OrderedDict[str, Path] = OrderedDict()
        self._in_use: Counter[str] = Counter()
        self._folder: TempFolder | None = None
        # End the processes of a pool that was never closed, as in a notebook.
        weakref.finalize(self, _end_idle, self._idle)

    def probe(self, source: Source) -> VideoMetadata:
        """Describe what a video shows and when.

        Parameters
        ----------
        source
            A path, or the bytes of a file.

        Raises
        ------
        VideoError
            If the video cannot be read; the message names the file and the reason.
        """
        if not isinstance(source, bytes):
            # The decoder tells what is wrong with a path.
            with contextlib.suppress(OSError, UnicodeEncodeError):
                known = kept_facts(str(source), file_stamp(str(source)))
                if known is not None:
                    return known
        answer, payload = self._ask({"op": "probe"}, source)
        times = np.frombuffer(bytes(payload), np.float64)
        metadata = answer["metadata"]
        if isinstance(source, bytes):
            metadata["identity"] = hashlib.sha256(source).hexdigest()[:32]
        return VideoMetadata(frame_times=times, **metadata)

    def read(
        self,
        source: Source,
        numbers: list[int],
        size: tuple[int, int],
        identity: str | None = None,
    ) -> Frames:
        """Read exact frames of a video, resized.

        Parameters
        ----------
        source
            A path, or the bytes of a file.
        numbers
            Frame numbers from 0, ascending.
        size
            (width, height) in pixels, as shown.
        identity
            The identity that `probe` told; another file under this path is refused.

        Raises
        ------
        VideoError
            If a frame cannot be read exactly, the file has changed, or the decoder crashed or hung.
        """
        message = {
            "op": "read",
            "numbers": numbers,
            "size": list(size),
            "reader": self.reader,
            "identity": _of_file(source, identity),
        }
        answer, payload = self._ask(message, source)
        pixels = np.frombuffer(payload, np.uint8).reshape(answer["shape"])
        return Frames(pixels, answer["damage"])

    def clip(self, source: Source, first: int, last: int, identity: str | None = None) -> bytes:
        """Cut a stretch of a video as an H.264 mp4 file for a browser; see `video.clip.cut`.

        Parameters
        ----------
        source
            A path, or the bytes of a file.
        first, last
            Frame numbers from 0, both included.
        identity
            The identity that `probe` told; another file under this path is refused.

        Raises
        ------
        VideoError
            If a frame cannot be read, the file has changed, or the decoder crashed or took too long.
        """
        message = {
            "op": "clip",
            "first": first,
            "last": last,
            "identity": _of_file(source, identity),
        }
        return bytes(self._ask(message, source)[1])

    def excerpt(
        self,
        source: Source,
        first: int,
        last: int,
        target: Path,
        how: Encoding,
        identity: str | None = None,
    ) -> Excerpt:
        """Write frames ``first`` to ``last`` with their sound as an mp4 file; see `video.excerpt`.

        Raises
        ------
        VideoError
            If a frame cannot be read, the file has changed, or the decoder crashed or took too long.
        OSError
            If the target cannot be written.
        """
        message = {
            "op": "excerpt",
            "first": first,
            "last": last,
            "target": str(target),
            "how": asdict(how),
            "reader": "pyav",
            "identity": _of_file(source, identity),
        }
        return Excerpt(**self._ask(message, source)[0]["made"])

    def stop_probing(self) -> None:
        """End the calls of `probe` under way and refuse further ones; frames are still read."""
        with self._lock:
            self._probing_stopped = True
            for process in self._probing:
                process.interrupted = True
                process.process.kill()

    def close(self) -> None:
        """End the processes and drop temporary copies; may be called twice."""
        for process in [self._idle.get() for _ in range(self._count)]:
            if process is not None:
                process.kill()
            self._idle.put(None)
        with self._lock:
            if self._folder is not None:
                self._folder.remove()
                self._folder = None
                self._buffers.clear()

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, message: dict[str, Any], source: Source) -> tuple[dict[str, Any], bytearray]:
        with self._placed(source) as path:
            return self._ask_process({**message, "path": path}, source)

    def _ask_process(self, message: dict[str, Any], source: Source) -> tuple[dict[str, Any], bytearray]:
        process = self._idle.get()
        fresh = process is None
        try:
            process = process or DecodeProcess()
            kept = not isinstance(source, bytes)
            with self._interruptible(process, message["op"]):
                answer, payload = process.ask({**message, "kept": kept}, self._limit)
        except BaseException as error:
            # Kill on an interrupt, too: the next request would get the answer that is left.
            code = process.kill() if process is not None else 0
            self._idle.put(None)
            if isinstance(error, TimeoutError):
                raise VideoError(
                    f"{_name(source)}: the decoder did not answer within {self._limit:g} s and was "
                    "stopped"
                ) from error
            if isinstance(error, (EOFError, OSError)):
                if process is not None and process.interrupted:
                    raise VideoError(f"{_name(source)}: the opening was stopped") from error
                if not fresh:
                    # The process may have died idle, which is not this file's fault.
                    return self._ask_process(message, source)
                how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
                raise VideoError(f"{_name(source)}: the decoder crashed ({how})") from error
            raise
        self._idle.put(process)
        if answer["op"] == "error":
            text = answer["message"]
            if "errno" in answer:
                raise OSError(answer["errno"], text)
            raise VideoError(text.replace(message["path"], _name(source)))
        return answer, payload

    @contextlib.contextmanager
    def _interruptible(self, process: DecodeProcess, op: str) -> Iterator[None]:
        if op != "probe":
            yield
            return
        with self._lock:
            self._probing.add(process)
            if self._probing_stopped:
                process.interrupted = True
                process.process.kill()
        try:
            yield
        finally:
            with self._lock:
                self._probing.discard(process)

    @contextlib.contextmanager
    def _placed(self, source: Source) -> Iterator[str]:
        """Yield the path of a source for a process; bytes get a temporary file, kept for a while.

        Files of requests under way stay: more requests may wait for a process than files are kept.
        """
        if not isinstance(source, bytes):
            if _name(source) != str(source):
                raise VideoError(f"{_name(source)}: the name is not valid UTF-8; rename the file")
            yield str(source)
            return
        key = hashlib.sha256(source).hexdigest()
        with self._lock:
            if key not in self._buffers:
                if self._folder is None:
                    self._folder = TempFolder("videos")
                path = self._folder.path / key[:32]
                try:
                    path.write_bytes(source)
                except OSError as error:
                    path.unlink(missing_ok=True)
                    raise VideoError(
                        f"{_name(source)}: cannot write a copy for the decoder: {error}"
                    ) from error
                self._buffers[key] = path
            self._buffers.move_to_end(key)
            self._in_use[key] += 1
            path = self._buffers[key]
        try:
            yield str(path)
        finally:
            with self._lock:
                self._in_use[key] -= 1
                free = [each for each in self._buffers if not self._in_use[each]]
                for each in free[: max(0, len(self._buffers) - 4 * self._count)]:
                    self._buffers.pop(each).unlink(missing_ok=True)
                    del self._in_use[each]


def _end_idle(idle: queue.LifoQueue[DecodeProcess | None]) -> None:
    while True:
        try:
            process = idle.get_nowait()
        except queue.Empty:
            return
        if process is not None:
            process.kill()


def _of_file(source: Source, identity: str | None) -> str | None:
    """Return the identity to check; bytes do not change, and their copy on disk has another one."""
    return None if isinstance(source, bytes) else identity


def _name(source: Source) -> str:
    if isinstance(source, bytes):
        return f"a buffer of {len(source):,} bytes"
    return shown_path(source)
