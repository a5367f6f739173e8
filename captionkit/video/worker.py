"""The process that decodes: ``python -m captionkit.video.worker FD``.

Files from the internet crash and hang decoders; here that costs one process, never the caller.
"""

from __future__ import annotations

import os
import resource
import socket
import sys
import time
from typing import Any

from captionkit.system import ipc
from captionkit.video.cache import file_stamp
from captionkit.video.clip import cut
from captionkit.video.decord_reader import DecordReader
from captionkit.video.encoding import Encoding
from captionkit.video.errors import VideoError
from captionkit.video.excerpt import write_excerpt
from captionkit.video.index import StreamIndex, build_index
from captionkit.video.kept import keep, kept_fields
from captionkit.video.pyav_reader import PyAVReader

# Bounds what a header that claims huge pictures can allocate.
_MEMORY_LIMIT = 6 * 2**30
_NICE = 5
_BEAT_S = 0.5
_READERS = {"pyav": PyAVReader, "decord": DecordReader}


def main() -> None:
    """Answer one parent until it closes the channel or dies."""
    channel = ipc.open_channel(int(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_LIMIT, _MEMORY_LIMIT))
    # Windows are decoded ahead of need: on few cores, let the engine and the notebook go first.
    os.nice(_NICE)
    server = DecodeServer(Heartbeat(channel))
    while True:
        try:
            message, _ = ipc.receive(channel)
        except EOFError:
            return
        try:
            answer, payload = server.answer(message)
        except (VideoError, ValueError) as error:
            answer, payload = {"op": "error", "message": str(error)}, b""
        except OSError as error:
            text, payload = error.strerror or str(error), b""
            answer = {"op": "error", "message": f"{message['path']} cannot be read: {text}"}
            if message["op"] == "excerpt":
                # Of the file that is written.
                answer = {"op": "error", "message": text, "errno": error.errno}
        except MemoryError:
            text = f"{message['path']} needs more than {_MEMORY_LIMIT >> 30} GiB to decode"
            answer, payload = {"op": "error", "message": text}, b""
        except Exception as error:
            text = f"{message['path']} cannot be decoded: {type(error).__name__}: {error}"
            answer, payload = {"op": "error", "message": text}, b""
        ipc.send(channel, answer, payload)


class Heartbeat:
    """Tells the parent, at most once in a while, that packets are still being read.

    A decoder that hangs inside a call reads none.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._last = time.monotonic()
        self.every_s = _BEAT_S

    def __call__(self) -> None:
        """Count a packet."""
        now = time.monotonic()
        if now - self._last > self.every_s:
            self._last = now
            ipc.send(self._channel, {"op": "alive"})


class DecodeServer:
    """Answers requests and keeps the last file open: consecutive windows need no seek."""

    def __init__(self, alive: Heartbeat) -> None:
        self._alive = alive
        self._opened: tuple[str, str] | None = None
        self._reader: Any = None
        self._indexes: dict[tuple[str, str], StreamIndex] = {}

    def answer(self, message: dict[str, Any]) -> tuple[dict[str, Any], bytes | memoryview]:
        """Serve a ``probe``, ``read``, ``clip`` or ``excerpt``: return a head and its payload."""
        path = message["path"]
        index = self._index(path, kept=message["kept"])
        if message["op"] == "probe":
            fields = {**vars(index.metadata)}
            times = fields.pop("frame_times")
            return {"op": "probe", "metadata": fields}, times.data.cast("B")
        if message["identity"] not in (None, index.metadata.identity):
            raise VideoError(f"{path} changed since the session was opened; open a new session")
        if message["op"] == "clip":
            return {"op": "clip"}, cut(path, index, message["first"], message["last"], self._alive)
        reader = self._reader_of(path, message["reader"], index)
        try:
            if message["op"] == "excerpt":
                first, last, how = message["first"], message["last"], Encoding(**message["how"])
                made = write_excerpt(
                    reader, index, path, first, last, message["target"], how, self._alive
                )
                return {"op": "excerpt", "made": made}, b""
            width, height = message["size"]
            frames, damage = reader.read(message["numbers"], (width, height))
        except VideoError:
            self._close()
            raise
        head = {"op": "frames", "shape": list(frames.shape), "damage": damage}
        return head, frames.data.cast("B")

    def _index(self, path: str, *, kept: bool) -> StreamIndex:
        """Return the index of a file, from memory, from the cache of files, or built now."""
        try:
            stamp = file_stamp(path)
        except OSError:
            stamp = ""
        if (path, stamp) not in self._indexes:
            if len(self._indexes) >= 8:
                del self._indexes[next(iter(self._indexes))]
            fields = kept_fields(path, stamp) if kept else None
            index = StreamIndex(**fields) if fields else build_index(path, self._alive)
            if kept and not fields:
                keep(path, stamp, vars(index))
            self._indexes[path, stamp] = index
        return self._indexes[path, stamp]

    def _reader_of(self, path: str, name: str, index: StreamIndex) -> Any:
        stamp = (path, name + index.metadata.identity)
        if self._opened != stamp:
            self._close()
            self._reader = _READERS[name](path, index, self._alive)
            self._opened = stamp
        return self._reader

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._reader, self._opened = None, None


if __name__ == "__main__":
    main()
