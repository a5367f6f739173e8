"""Clips cut from films: the very frames, with their sound, read back before they count."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from barcodes import HEIGHT, WIDTH, heard_clicks, numbers, turn, write

from captionkit.video import DecodePool, VideoError
from captionkit.video.encoding import Encoding, file_hash


@pytest.fixture(scope="module")
def pool():
    with DecodePool(workers=1) as pool:
        yield pool


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("films")


@pytest.fixture(scope="module")
def film(folder):
    """Return 4 seconds with a key frame each second, and a tone in each second."""
    keys = {"g": "30", "keyint_min": "30", "sc_threshold": "0", "bf": "2"}
    return write(folder / "film.mp4", 120, options=keys, clicks=[0.5, 1.25, 2.5, 3.5])


KINDS = {
    "open GOP in mkv": ("libx265", "mkv", {"x265-params": "log-level=none"}, {}),
    "transport stream": ("libx264", "ts", {}, {}),
    "AVI": ("mpeg4", "avi", {}, {}),
    "variable rate": ("libx264", "mp4", {}, {"times": [n * 40 + n % 3 * 7 for n in range(100)]}),
    "full range": ("libx264", "mp4", {}, {"pix_fmt": "yuvj420p"}),
    "RGB": ("ffv1", "mkv", {}, {"pix_fmt": "bgr0"}),
    "ten bits": ("libx265", "mp4", {"x265-params": "log-level=none"}, {"pix_fmt": "yuv420p10le"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_has_exactly_the_frames_of_its_window(kind, pool, folder):
    codec, suffix, options, more = KINDS[kind]
    source = write(folder / f"{codec}-{len(kind)}.{suffix}", 100, codec=codec, options=options, **more)
    target = folder / "clip.mp4"
    made = pool.excerpt(source, 37, 80, target, Encoding())
    assert numbers(target, pool) == list(range(37, 81))
    assert made.frames == 44
    wanted, there = pool.probe(source).frame_times[37:81], pool.probe(target).frame_times
    assert np.abs(there - (wanted - wanted[0])).max() < 0.0012
    with av.open(str(target)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")


def test_colours_stay_whatever_their_range(pool, folder):
    for pix_fmt in ("yuv420p", "yuvj420p"):
        source = write(folder / f"{pix_fmt}.mp4", 40, pix_fmt=pix_fmt)
        pool.excerpt(source, 3, 38, folder / "clip.mp4", Encoding(crf=5))
        before = pool.read(source, [20], (WIDTH, HEIGHT)).pixels.astype(int)
        after = pool.read(folder / "clip.mp4", [17], (WIDTH, HEIGHT)).pixels.astype(int)
        assert np.abs(before - after).mean() < 1.5


def test_a_copy_is_made_only_where_it_has_the_very_pixels(film, pool, folder):
    target = folder / "clip.mp4"
    made = pool.excerpt(film, 30, 89, target, Encoding())
    assert made.copied
    size = (WIDTH, HEIGHT)
    before = pool.read(film, list(range(30, 90)), size).pixels
    assert np.array_equal(pool.read(target, list(range(60)), size).pixels, before)
    for first, last, how in (
        (31, 89, Encoding()),
        (30, 89, Encoding(copy=False)),
        (30, 89, Encoding(size=(96, 96))),
        (30, 89, Encoding(fps=10)),
    ):
        assert not pool.excerpt(film, first, last, target, how).copied


@pytest.mark.parametrize("copy", [True, False])
def test_sound_begins_and_ends_with_the_picture(film, pool, folder, copy):
    target = folder / "clip.mp4"
    made = pool.excerpt(film, 30, 89, target, Encoding(copy=copy))
    assert (made.copied, made.sound) == (copy, "kept")
    assert heard_clicks(target) == pytest.approx([0.25, 1.5], abs=0.02)
    with av.open(str(target)) as container:
        sound = container.streams.audio[0]
        assert float(sound.duration * sound.time_base) == pytest.approx(2.0, abs=0.08)
    # A window between two tones, and a film without sound.
    assert pool.excerpt(film, 50, 60, target, Encoding()).sound == "kept"
    assert heard_clicks(target) == []
    silent = write(folder / "silent.mp4", 30)
    assert pool.excerpt(silent, 0, 9, target, Encoding()).sound == "none"


def test_another_rate_shows_the_frame_of_each_moment(film, pool, folder):
    target = folder / "clip.mp4"
    made = pool.excerpt(film, 10, 99, target, Encoding(fps=10))
    assert numbers(target, pool) == list(range(10, 100, 3))
    assert made.fps == pytest.approx(10)
    pool.excerpt(film, 10, 39, target, Encoding(fps=60))
    assert numbers(target, pool) == [10 + n // 2 for n in range(60)]


def test_a_size_is_a_bound_that_keeps_the_shape(film, pool, folder):
    made = pool.excerpt(film, 0, 29, folder / "clip.mp4", Encoding(size=(100, 500)))
    assert (made.width, made.height) == (100, 58)
    made = pool.excerpt(film, 1, 29, folder / "clip.mp4", Encoding(size=(1000, 1000)))
    assert (made.width, made.height) == (WIDTH, HEIGHT)


def test_a_turned_film_is_upright_in_its_clip(film, pool, folder):
    turned = turn(film, folder / "turned.mp4")
    shown = pool.probe(turned)
    assert (shown.width, shown.height) == (HEIGHT, WIDTH)
    made = pool.excerpt(turned, 30, 45, folder / "clip.mp4", Encoding())
    assert (made.copied, made.width, made.height) == (False, HEIGHT, WIDTH)
    size = (HEIGHT, WIDTH)
    before = pool.read(turned, [40], size).pixels.astype(int)
    after = pool.read(folder / "clip.mp4", [10], size).pixels.astype(int)
    assert np.abs(before - after).mean() < 3


def test_the_facts_of_a_clip_are_those_of_its_file(film, pool, folder):
    target = folder / "clip.mp4"
    made = pool.excerpt(film, 5, 64, target, Encoding())
    assert made.sha256 == file_hash(target)
    assert made.bytes == target.stat().st_size
    assert (made.frames, made.fps, made.duration) == (60, pytest.approx(30), pytest.approx(2.0))


def test_a_film_that_changed_or_is_cut_off_makes_no_clip(film, pool, folder):
    broken = folder / "broken.mkv"
    whole = write(folder / "whole.mkv", 100).read_bytes()
    broken.write_bytes(whole)
    identity = pool.probe(broken).identity
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VideoError, match="changed"):
        pool.excerpt(broken, 60, 99, folder / "clip.mp4", Encoding(), identity)
    with pytest.raises(VideoError, match="changed"):
        pool.excerpt(film, 0, 9, folder / "clip.mp4", Encoding(), identity="another")


def test_a_target_that_cannot_be_written_is_not_an_error_of_the_film(film, pool, folder):
    for target in (Path("/proc/clip.mp4"), folder / "nowhere" / "clip.mp4"):
        with pytest.raises(OSError, match=r"No such file|denied|not permitted"):
            pool.excerpt(film, 1, 9, target, Encoding())
