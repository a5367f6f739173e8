"""Films that mislead a reader: each frame is the one that was asked for, in any order, or refused."""

from __future__ import annotations

import os
import random
import socket
import struct
from fractions import Fraction
from pathlib import Path

import av
import barcodes
import numpy as np
import psutil
import pytest
from common import SHARED

from captionkit.pipeline import prepare
from captionkit.recipe import Recipe
from captionkit.sources import SourceClip, plan
from captionkit.system import ipc
from captionkit.video import DecodePool, VideoError
from captionkit.video.index import build_index
from captionkit.video.orientation import of_matrix
from captionkit.video.pyav_reader import PyAVReader
from captionkit.video.timeline import mend
from captionkit.video.worker import Heartbeat

FRAMES = 90
SIZE = (192, 112)
UNIT = 1 << 16


@pytest.fixture(scope="module")
def pool():
    with DecodePool(2, timeout_s=60) as pool:
        yield pool


def assert_exact(pool: DecodePool, path: Path, numbers: list[int]) -> None:
    """Read a film in order, backwards and at random, and compare each frame's number."""
    count = pool.probe(path).num_frames
    assert count == len(numbers)
    read = pool.read(path, list(range(count)), SIZE).pixels
    assert [barcodes.read_number(frame) for frame in read] == numbers
    jumps = random.Random(1).choices(range(count), k=20)
    for number in [*range(count - 1, -1, -7), *jumps]:
        frame = pool.read(path, [number], SIZE).pixels[0]
        assert barcodes.read_number(frame) == numbers[number]


def remuxed(source: Path, target: Path, change) -> Path:
    """Copy a film's packets; ``change`` gets the number and the packet, and returns packets to keep."""
    with av.open(str(source)) as into, av.open(str(target), "w") as out:
        copy = out.add_stream_from_template(into.streams.video[0])
        for number, packet in enumerate(p for p in into.demux(video=0) if p.size):
            if change(number, packet) is not False:
                packet.stream = copy
                out.mux(packet)
    return target


@pytest.mark.parametrize("codec", ["mpeg4", "h263", "libx264"])
def test_frames_that_only_claim_to_be_key_frames_are_no_starts(codec, pool, tmp_path):
    size = (352, 288) if codec == "h263" else SIZE
    if codec == "h263":
        path = tmp_path / "f.mov"
        with av.open(str(path), "w") as out:
            stream = out.add_stream(codec, rate=30, options={"g": "45", "b": "4000000"})
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            for number in range(FRAMES):
                picture = av.VideoFrame.from_ndarray(barcodes.picture(number), format="rgb24")
                out.mux(stream.encode(picture.reformat(*size, format="yuv420p")))
            out.mux(stream.encode())
    else:
        path = barcodes.write(
            tmp_path / "f.mp4", FRAMES, codec=codec, options={"g": "45", "b": "4000000"}
        )
    data = path.read_bytes()
    assert b"stss" in data
    path.write_bytes(data.replace(b"stss", b"free", 1))
    assert_exact(pool, path, list(range(FRAMES)))
    with DecodePool(1, reader="decord", timeout_s=60) as decord:
        for number in (70, 5):
            try:
                frame = decord.read(path, [number], SIZE).pixels[0]
            except VideoError as error:
                assert 'reader="pyav"' in str(error)
            else:
                assert barcodes.read_number(frame) == number


TIMES = [n * 40 if n < 60 else 2400 + (n - 60) * 500 for n in range(FRAMES)]


@pytest.mark.parametrize("pts", ["repeated", "absurd"])
@pytest.mark.parametrize("at", [20, 75])
def test_a_wrong_timestamp_is_mended_alone(pts, at, pool, tmp_path):
    film = barcodes.write(tmp_path / "vfr.mkv", FRAMES, times=TIMES, options={"bf": "0", "g": "30"})
    last = [0]

    def change(number, packet):
        if number == at:
            packet.pts = last[0] if pts == "repeated" else 10**9
            packet.dts = min(packet.dts, packet.pts)
        last[0] = packet.pts

    path = remuxed(film, tmp_path / "wrong.mkv", change)
    facts = pool.probe(path)
    wanted = np.array(TIMES) / 1000
    others = np.arange(FRAMES) != at
    np.testing.assert_allclose(facts.frame_times[others], wanted[others], atol=2e-3)
    assert wanted[at - 1] < facts.frame_times[at] < wanted[at + 1]
    assert "1 of 90 timestamps" in facts.damage
    assert_exact(pool, path, list(range(FRAMES)))


def test_times_that_are_missing_or_of_another_clock_are_mended():
    even = np.arange(20) * 0.5
    holed = even.copy()
    holed[[0, 7, 8, 19]] = np.nan
    np.testing.assert_allclose(mend(holed, 0.5)[0], even)
    joined = np.concatenate([even[:10] + 100, even[:10]])
    np.testing.assert_allclose(mend(joined, 0.5)[0] - 100, even)
    ahead = np.concatenate([even[:10], even[10:] + 95_443])
    np.testing.assert_allclose(mend(ahead, 0.5, broadcast=True)[0], even)
    high, late = even.copy(), even.copy()
    high[5], late[-1] = 1e6, 1e6
    np.testing.assert_allclose(mend(high, 0.5)[0], even)
    np.testing.assert_allclose(mend(late, 0.5)[0], even)
    assert mend(even, 0.5) == (pytest.approx(even), None)
    chaos = np.random.default_rng(0).permutation(20).astype(float)
    assert (np.diff(mend(chaos, 0.5)[0]) > 0).all()


@pytest.mark.parametrize("second", [0.5, 60.0, 95_000.0])
def test_two_shots_of_two_clocks_follow_each_other(second, pool, tmp_path):
    parts = []
    for name, first, shift in (("a.ts", 0, 0.0), ("b.ts", 45, second)):
        path = tmp_path / name
        with av.open(str(path), "w") as out:
            stream = out.add_stream("libx264", rate=30, options={"g": "15", "bf": "2"})
            stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
            for number in range(45):
                shown = av.VideoFrame.from_ndarray(barcodes.picture(first + number), format="rgb24")
                shown.pts, shown.time_base = number + round(shift * 30), Fraction(1, 30)
                out.mux(stream.encode(shown))
            out.mux(stream.encode())
        parts.append(path.read_bytes())
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(parts))
    facts = pool.probe(joined)
    assert_exact(pool, joined, list(range(FRAMES)))
    np.testing.assert_allclose(np.diff(facts.frame_times), 1 / 30, atol=0.04)
    assert "clock jumps" in facts.damage


@pytest.mark.parametrize(
    ("matrix", "turns", "mirrored"),
    [
        ((UNIT, 0, 0, UNIT), 0, False),
        ((-UNIT, 0, 0, UNIT), 0, True),
        ((UNIT, 0, 0, -UNIT), 2, True),
        ((-UNIT, 0, 0, -UNIT), 2, False),
        ((0, UNIT, -UNIT, 0), 1, False),
        ((0, -UNIT, UNIT, 0), 3, False),
        ((0, UNIT, UNIT, 0), 3, True),
        ((0, -UNIT, -UNIT, 0), 1, True),
        ((0, 0, 0, 0), 0, False),
    ],
)
def test_display_matrices_are_applied_as_a_player_does(matrix, turns, mirrored, pool, tmp_path):
    a, b, c, d = matrix
    found = of_matrix((a, b, 0, c, d, 0, 0, 0, 1 << 30))
    # Place each corner of a picture as the matrix does: (x, y) → (ax + cy, bx + dy).
    if a or b:
        picture = np.arange(6).reshape(2, 3)
        placed = {}
        for (y, x), value in np.ndenumerate(picture):
            placed[(b * x + d * y) // UNIT, (a * x + c * y) // UNIT] = value
        rows, columns = (sorted({key[axis] for key in placed}) for axis in (0, 1))
        wanted = [[placed[row, column] for column in columns] for row in rows]
        assert found.apply(picture).tolist() == wanted
    assert (found.turns, found.mirrored) == (turns, mirrored)


def test_a_picture_turned_by_an_odd_angle_is_refused(pool, tmp_path):
    path = barcodes.write(tmp_path / "odd.mp4", 8)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    matrix = (46341, 46341, 0, -46341, 46341, 0, 0, 0, 1 << 30)
    data[at : at + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(data)
    with pytest.raises(VideoError, match=r"odd\.mp4.*turned by 45 degrees"):
        pool.probe(path)


@pytest.mark.parametrize("codec", ["mpeg1video", "mpeg2video"])
@pytest.mark.parametrize("suffix", [".mpg", ".vob", ".ts"])
def test_program_and_transport_streams_are_exact_after_any_seek(codec, suffix, pool, tmp_path):
    options = {"b": "4000000", "bf": "2", "g": "12"}
    path = barcodes.write(tmp_path / f"f{suffix}", FRAMES, codec=codec, options=options)
    assert_exact(pool, path, list(range(FRAMES)))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("f.flv", {"codec": "flv", "options": {"g": "20", "b": "4000000"}}),
        ("f.flv", {"options": {"g": "20", "bf": "2"}}),
        ("f.wmv", {"codec": "wmv2", "options": {"g": "20", "b": "4000000"}}),
        ("f.asf", {"codec": "msmpeg4", "options": {"g": "20", "b": "4000000"}}),
        ("f.nut", {"options": {"g": "20", "bf": "2"}}),
        ("f.mxf", {"codec": "mpeg2video", "options": {"g": "12", "bf": "2", "b": "6000000"}}),
        ("f.webm", {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "20"}}),
        ("f.mkv", {"codec": "mpeg4", "options": {"bf": "2", "b": "4000000"}}),
        ("f.avi", {"options": {"g": "20", "bf": "2"}}),
    ],
)
def test_other_containers_and_codecs_are_exact(name, settings, pool, tmp_path):
    path = barcodes.write(tmp_path / name, FRAMES, fps=25, **settings)
    assert_exact(pool, path, list(range(FRAMES)))
    facts = pool.probe(path)
    assert facts.damage is None
    np.testing.assert_allclose(facts.frame_times, np.arange(FRAMES) / 25, atol=2e-3)


def test_a_decoder_keeps_few_threads_however_many_frames_it_reads(tmp_path):
    path = str(barcodes.write(tmp_path / "f.mp4", FRAMES))
    reader = PyAVReader(path, build_index(path))
    before = psutil.Process().num_threads()
    reader.read(list(range(FRAMES)), SIZE)
    assert psutil.Process().num_threads() <= before + 2
    reader.close()


def test_an_avi_with_dropped_frames_has_its_own_times_and_no_damage(pool, tmp_path):
    path = tmp_path / "gaps.avi"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=25, options={"b": "4000000"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for number in range(FRAMES):
            picture = av.VideoFrame.from_ndarray(barcodes.picture(number), format="rgb24")
            picture.pts = number if number < 45 else number + 100
            picture.time_base = Fraction(1, 25)
            out.mux(stream.encode(picture))
        out.mux(stream.encode())
    facts = pool.probe(path)
    wanted = np.array([n if n < 45 else n + 100 for n in range(FRAMES)]) / 25
    np.testing.assert_allclose(facts.frame_times, wanted, atol=1e-6)
    assert facts.damage is None
    assert_exact(pool, path, list(range(FRAMES)))


def test_the_model_is_told_true_times_at_a_variable_rate(pool, tmp_path):
    path = str(barcodes.write(tmp_path / "vfr.mkv", FRAMES, times=TIMES))
    clip = SourceClip.open(pool, path, path)
    recipe = Recipe()
    (window,) = plan(clip, clip.cut(256, 128), "vfr")
    told = prepare(window, recipe, pool).video
    times = np.array(told.metadata["frames_indices"]) / told.metadata["fps"]
    shown = [barcodes.read_number(frame) for frame in told.frames]
    np.testing.assert_allclose(times, np.array(TIMES)[shown] / 1000, atol=2e-3)
    # Models that take frames as even, by the rule of transformers' `VideoMetadata.sampled_fps`.
    rate = len(shown) / told.metadata["total_num_frames"] * told.metadata["fps"]
    even = np.arange(len(shown)) / rate
    until = [*TIMES[1:], TIMES[-1] + 500]
    on_screen = [np.searchsorted(TIMES, 1000 * each + 1, side="right") - 1 for each in even]
    assert shown == on_screen
    wrong = np.maximum(times - even, even - np.array(until)[shown] / 1000)
    assert wrong.max() < 0.25


def test_a_film_that_changed_is_refused_until_it_is_opened_anew(pool, tmp_path):
    path = barcodes.write(tmp_path / "f.mp4", 30)
    old = pool.probe(path).identity
    barcodes.write(path, 60)
    for read in (lambda: pool.read(path, [3], SIZE, old), lambda: pool.clip(path, 0, 9, old)):
        with pytest.raises(VideoError, match="changed since the session was opened"):
            read()
    assert pool.read(path, [3], SIZE, pool.probe(path).identity).damage is None


@pytest.mark.parametrize("share", ["4/3", "3/4"])
def test_pixels_that_change_their_shape_within_a_stream_are_refused_in_words(share, pool, tmp_path):
    parts = []
    for name, ratio in (("one.ts", "1"), ("two.ts", share)):
        with av.open(str(tmp_path / name), "w") as out:
            stream = out.add_stream("mpeg2video", rate=25, options={"g": "12", "b": "4000000"})
            stream.width, stream.height, stream.pix_fmt = barcodes.WIDTH, barcodes.HEIGHT, "yuv420p"
            stream.codec_context.sample_aspect_ratio = Fraction(ratio)
            for number in range(40):
                picture = av.VideoFrame.from_ndarray(barcodes.picture(number), format="rgb24")
                out.mux(stream.encode(picture.reformat(format="yuv420p")))
            out.mux(stream.encode())
        parts.append((tmp_path / name).read_bytes())
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(parts))
    frames = pool.read(path, list(range(30)), SIZE)
    assert [barcodes.read_number(frame) for frame in frames.pixels] == list(range(30))
    with pytest.raises(VideoError, match="shape of the picture changes"):
        pool.read(path, [60, 61], SIZE)


CUT_OFF = {
    "f.mp4": {"options": {"g": "30"}, "container_options": {"movflags": "faststart"}},
    "fragments.mp4": {
        "options": {"g": "30"},
        "container_options": {"movflags": "frag_keyframe+empty_moov"},
    },
    "f.mkv": {"options": {"g": "30"}},
    "f.ts": {"options": {"g": "30"}},
    "f.m2ts": {"options": {"g": "30"}},
    "hevc.ts": {"codec": "libx265", "options": {"x265-params": "log-level=none", "g": "30"}},
    "f.mpg": {"codec": "mpeg2video", "options": {"bf": "2", "g": "12", "b": "4000000"}},
    "f.flv": {"options": {"g": "30"}},
    "f.avi": {"codec": "mpeg4", "options": {"g": "30"}},
    "h264.avi": {"options": {"g": "30"}},
    "f.wmv": {"codec": "wmv2", "options": {"g": "30", "b": "4000000"}},
    "f.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "g": "30"}},
    "f.mxf": {"codec": "mpeg2video", "options": {"g": "12", "b": "6000000"}},
    "f.gif": {"codec": "gif", "pix_fmt": "rgb8"},
    "f.h264": {"options": {"g": "30"}},
}


@pytest.mark.parametrize("share", [0.7, 0.96])
@pytest.mark.parametrize("name", CUT_OFF)
def test_a_film_that_breaks_off_keeps_the_frames_that_are_there_and_tells_damage(
    name, share, pool, tmp_path
):
    path = barcodes.write(tmp_path / name, FRAMES, fps=25, **CUT_OFF[name])
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    facts = pool.probe(path)
    assert 30 < facts.num_frames <= FRAMES
    frames = pool.read(path, list(range(facts.num_frames)), SIZE)
    shown = np.array([barcodes.read_number(frame) for frame in frames.pixels])
    # A frame may be missing before a later one, which keeps its time.
    np.testing.assert_allclose(facts.frame_times * 25, shown, atol=0.1)
    assert shown.tolist()[:30] == list(range(30))
    assert facts.damage


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"ffconcat version 1.0\nfile film.mp4\n", "playlist"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfilm.mp4\n#EXT-X-ENDLIST\n", "playlist"),
        (b'<?xml version="1.0"?>\n<MPD type="static"></MPD>', "playlist"),
        (b"RIFF\x24\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0\0\0\0\0\0\0ANIM\x06\0\0\0", "animated WebP"),
    ],
)
def test_what_is_not_a_film_is_refused_in_words(content, reason, pool, tmp_path):
    barcodes.write(tmp_path / "film.mp4", 10)
    path = tmp_path / "dressed.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=rf"dressed\.mp4 is .*{reason}"):
        pool.probe(path)


def test_a_name_that_is_not_utf8_is_refused_in_words(pool, tmp_path):
    film = barcodes.write(tmp_path / "f.mp4", 10)
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")
    os.rename(film, odd)
    with pytest.raises(VideoError, match="not valid UTF-8; rename"):
        pool.probe(odd)


def test_an_encrypted_film_is_refused(pool, tmp_path):
    key = "00112233445566778899aabbccddeeff"
    options = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": key, "encryption_kid": key}
    path = barcodes.write(tmp_path / "secret.mp4", 30, container_options=options)
    with pytest.raises(VideoError, match="is encrypted"):
        pool.probe(path)


def test_an_answer_may_come_after_any_number_of_signs_of_life(pool, tmp_path, monkeypatch):
    path = barcodes.write(tmp_path / "f.avi", 30, codec="mpeg4")
    pool.probe(path)
    receive, signs = ipc.receive, iter(range(3))

    def late(*how):
        return ({"op": "alive"}, bytearray()) if next(signs, None) is not None else receive(*how)

    monkeypatch.setattr(ipc, "receive", late)
    frames = pool.read(path, [5], SIZE).pixels
    assert barcodes.read_number(frames[0]) == 5
    assert next(signs, None) is None


def test_the_decoder_shows_signs_of_life_while_it_reads_packets(tmp_path):
    ours, theirs = socket.socketpair()
    alive = Heartbeat(theirs)
    alive.every_s = 0.0
    index = build_index(str(barcodes.write(tmp_path / "f.avi", 30, codec="mpeg4")), alive)
    theirs.close()
    count = 0
    with ours, pytest.raises(EOFError):
        while ipc.receive(ours)[0] == {"op": "alive"}:
            count += 1
    assert count >= len(index.shown)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared films beside this checkout")
def test_fields_of_a_camcorder_are_whole_frames(pool):
    path = SHARED / "odd" / "avchd-fields.mts"
    facts = pool.probe(path)
    assert facts.num_frames == 13
    whole = pool.read(path, list(range(13)), SIZE).pixels
    for number in (12, 6, 0, 9):
        assert (pool.read(path, [number], SIZE).pixels[0] == whole[number]).all()


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared films beside this checkout")
def test_a_film_turned_and_mirrored_is_shown_upright(pool):
    facts = pool.probe(SHARED / "odd" / "rotated-and-mirrored.mp4")
    assert (facts.width, facts.height) == (720, 1080)
