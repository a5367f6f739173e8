"""The sound of a stretch of a film, cut to the sample; runs in decoding processes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from captionkit.video.opened import open_video, reason
from captionkit.video.packets import Alive

# Begin to decode this much earlier: decoders need some packets before their sound is right.
_LEAD_S = 0.5
# A smaller difference of timestamps is rounding, a larger one is a gap, which becomes silence.
_GAP_S = 0.02
_RATES = {96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350}
_LAYOUTS = {1: "mono", 6: "5.1"}


class Sound:
    """Samples of a film from ``start_s`` to ``end_s``, on the clock of its container.

    Parameters
    ----------
    path
        The film.
    start_s, end_s
        Seconds; the end is excluded.
    alive
        Called for each packet, to show progress.

    Attributes
    ----------
    rate, layout
        Samples a second and ffmpeg's name of the channels; a rate of 0 means that there is no sound.
    problem
        Reason why sound of the film is missing, or None.
    """

    def __init__(self, path: str, start_s: float, end_s: float, alive: Alive) -> None:
        self._start, self._end, self._alive = start_s, end_s, alive
        self.rate, self.layout = 0, "stereo"
        self.problem: str | None = None
        self._container, _ = open_video(path)
        stream: Any = self._container.streams.best("audio")
        self._stream = stream
        self._written = 0
        self._blocks: Iterator[NDArray[np.float32]] = iter(())
        self._first: NDArray[np.float32] | None = None
        if stream is None:
            return
        if stream.codec_context is None:
            self.problem = "this build of ffmpeg cannot decode its sound"
            return
        rate = int(stream.rate)
        self.rate = rate if rate in _RATES else 48_000
        self.layout = _LAYOUTS.get(stream.channels, "stereo")
        self._blocks = self._read()
        # Know whether there is any before a file gets a track for it.
        self._first = next(self._blocks, None)
        self.rate = self.rate if self._first is not None else 0

    def until(self, seconds: float) -> Iterator[av.AudioFrame]:
        """Yield the frames that begin before a time, in seconds from the start."""
        while self._first is not None and self._written < seconds * self.rate:
            frame = av.AudioFrame.from_ndarray(self._first, format="fltp", layout=self.layout)
            frame.sample_rate, frame.time_base = self.rate, Fraction(1, self.rate)
            frame.pts = self._written
            self._written += self._first.shape[1]
            self._first = next(self._blocks, None)
            yield frame

    def close(self) -> None:
        """Close the film."""
        self._container.close()

    def _read(self) -> Iterator[NDArray[np.float32]]:
        """Yield blocks of shape (channels, samples) that follow one another without a gap."""
        resampler = AudioResampler("fltp", self.layout, self.rate)
        total = round((self._end - self._start) * self.rate)
        at = 0
        for time, frame in self._decoded():
            frame.pts = None
            samples = np.concatenate([part.to_ndarray() for part in resampler.resample(frame)], axis=1)
            begin = round((time - self._start) * self.rate)
            if abs(begin - at) < _GAP_S * self.rate and at:
                begin = at
            if begin > at:
                silent = min(begin, total) - at
                yield np.zeros((samples.shape[0], silent), np.float32)
                at += silent
            samples = samples[:, at - begin : max(0, total - begin)]
            if samples.shape[1]:
                yield np.ascontiguousarray(samples)
                at += samples.shape[1]
            if at >= total:
                return

    def _decoded(self) -> Iterator[tuple[float, Any]]:
        """Yield decoded frames that reach into the stretch, each with its time in seconds."""
        with contextlib.suppress(av.FFmpegError):
            self._container.seek(int((self._start - _LEAD_S) * 1_000_000), backward=True)
        time = None
        try:
            for packet in self._container.demux(self._stream):
                self._alive()
                try:
                    frames = packet.decode()
                except av.FFmpegError as error:
                    # After a seek the first packets may be parts of packets.
                    if time is not None or self._start <= _LEAD_S:
                        self.problem = self.problem or f"some of its sound is damaged: {reason(error)}"
                    continue
                for frame in frames:
                    time = float(frame.pts * frame.time_base) if frame.pts is not None else time
                    if time is None:
                        continue
                    end = time + frame.samples / frame.sample_rate
                    if end > self._start:
                        yield time, frame
                    time = end
                    if time >= self._end:
                        return
        except av.FFmpegError as error:
            self.problem = self.problem or f"its sound breaks off: {reason(error)}"
