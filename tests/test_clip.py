"""Clips for a browser: each frame at its own time, also where frames are left out."""

from __future__ import annotations

import av
import numpy as np
import pytest
from barcodes import read_number, turn, write

from captionkit.video import clip
from captionkit.video.errors import VideoError
from captionkit.video.index import build_index

FIRST, LAST = 5, 90
X264 = {"bf": "3", "g": "40", "b_strategy": "0"}
FILMS = {
    "h264": ("libx264", X264, True),
    "h264, open groups": ("libx264", {**X264, "x264-params": "open-gop=1:b-pyramid=normal"}, True),
    "h264 without B-frames": ("libx264", {"bf": "0", "x264-params": "ref=1"}, False),
    "hevc": ("libx265", {"x265-params": "log-level=error:bframes=4:keyint=40:b-adapt=0"}, True),
    "vp9": ("libvpx-vp9", {"cpu-used": "8", "deadline": "realtime"}, False),
}


def shown(content, tmp_path):
    """Return the numbers in a clip's frames by their times in frames of the film."""
    (tmp_path / "clip.mp4").write_bytes(content)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        return [
            (
                round(frame.time * 30) + FIRST,
                read_number(frame.to_ndarray(format="rgb24").transpose(2, 0, 1)),
            )
            for frame in container.decode(video=0)
        ]


@pytest.mark.parametrize("name", FILMS)
def test_a_thinned_clip_has_both_ends_and_each_frame_at_its_time(name, tmp_path, monkeypatch):
    codec, options, thinner = FILMS[name]
    film = write(tmp_path / "film.mp4", codec=codec, options=options)
    index = build_index(str(film), lambda: None)
    whole = shown(clip.cut(str(film), index, FIRST, LAST, lambda: None), tmp_path)
    assert whole == [(number, number) for number in range(FIRST, LAST + 1)]
    monkeypatch.setattr(clip, "_LARGE", 0)
    thin = shown(clip.cut(str(film), index, FIRST, LAST, lambda: None), tmp_path)
    assert all(time == number for time, number in thin)
    assert (thin[0][0], thin[-1][0]) == (FIRST, LAST)
    assert len(thin) < 0.8 * len(whole) if thinner else len(thin) == len(whole)


def test_a_thinned_clip_is_upright(tmp_path, monkeypatch):
    monkeypatch.setattr(clip, "_LARGE", 0)
    film = turn(write(tmp_path / "film.mp4", frames=20), tmp_path / "turned.mp4")
    index = build_index(str(film), lambda: None)
    (tmp_path / "clip.mp4").write_bytes(clip.cut(str(film), index, 0, 19, lambda: None))
    with av.open(str(tmp_path / "clip.mp4")) as container:
        frame = next(container.decode(video=0))
    assert (frame.width, frame.height) == (index.metadata.width, index.metadata.height)
    assert frame.height > frame.width


def test_damage_is_not_hidden_by_a_thinned_clip(tmp_path, monkeypatch):
    monkeypatch.setattr(clip, "_LARGE", 0)
    film = write(tmp_path / "film.mp4", options={"bf": "0", "g": "120"})
    index = build_index(str(film), lambda: None)
    data = bytearray(film.read_bytes())
    begin = data.index(b"mdat") + len(data) // 2
    data[begin : begin + 400] = np.random.default_rng(0).bytes(400)
    film.write_bytes(data)
    with pytest.raises(VideoError):
        clip.cut(str(film), index, 0, 119, lambda: None)
