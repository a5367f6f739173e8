"""Films by their own tables: the same packets as a pass over the file, or none."""

from __future__ import annotations

import io
import os
import shutil
import struct
from pathlib import Path

import av
import numpy as np
import programs
import pytest
from barcodes import copy_cut, write
from common import SHARED, VIDEOS

from captionkit.video import index as index_module
from captionkit.video.content import FEW_SIZES, PacketHash, content_hash, sizes_tell
from captionkit.video.index import build_index
from captionkit.video.opened import open_video
from captionkit.video.sample_table import packets_of_table

OPTIONS = {
    "b-frames": {"options": {"bf": "3", "g": "24"}},
    "open-gop": {"options": {"x264-params": "open-gop=1:keyint=30:bframes=3"}},
    "intra-refresh": {"options": {"x264-params": "intra-refresh=1:keyint=30"}},
    "negative-offsets": {
        "options": {"bf": "3"},
        "container_options": {"movflags": "negative_cts_offsets"},
    },
    "no-edit-list": {"options": {"bf": "3"}, "container_options": {"use_editlist": "0"}},
    "index-first": {"options": {"bf": "3"}, "container_options": {"movflags": "faststart"}},
    "variable-rate": {"times": [n * 40 if n < 60 else 2400 + (n - 60) * 333 for n in range(90)]},
    "hevc": {"codec": "libx265", "options": {"x265-params": "log-level=error"}},
    "mpeg4": {"codec": "mpeg4", "options": {"bf": "2"}},
    "motion-jpeg": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
}


def by_pass(path: Path) -> list[tuple[int, int, bool]]:
    container, stream = open_video(str(path))
    with container:
        return [(p.pts, p.size, p.is_discard) for p in container.demux(stream) if p.size]


def by_table(path: Path) -> list[tuple[int, int, bool]] | None:
    container, stream = open_video(str(path))
    with container:
        found = packets_of_table(str(path), container, stream)
    if found is None:
        return None
    return list(zip(found.pts.tolist(), found.sizes.tolist(), found.hidden.tolist(), strict=True))


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    made = {}
    for name, how in OPTIONS.items():
        suffix = ".mov" if name in ("motion-jpeg", "mpeg4") else ".mp4"
        made[name] = write(folder / f"{name}{suffix}", 90, **how)
    made["cut"] = copy_cut(made["b-frames"], folder / "cut.mp4", 1.3)
    for name, edits in {
        "two-edits": [(1000, 0), (1000, 20480)],
        "repeated": [(1000, 5120), (1000, 5120)],
        "late-start": [(500, -1), (2000, 3000)],
        "backwards": [(1000, 20480), (500, 700)],
    }.items():
        made[name] = with_edits(made["b-frames"], folder / f"{name}.mp4", edits)
    return made


@pytest.mark.parametrize("name", [*OPTIONS, "cut", "two-edits", "repeated", "late-start", "backwards"])
def test_the_tables_tell_what_a_pass_over_the_packets_tells(name, films):
    told = by_table(films[name])
    assert told is not None
    assert told == by_pass(films[name])


@pytest.mark.parametrize("name", [*OPTIONS, "cut", "two-edits", "late-start"])
def test_the_index_is_the_same_by_the_tables_and_by_a_pass(name, films, monkeypatch):
    path = str(films[name])
    told = build_index(path)
    with monkeypatch.context() as patch:
        patch.setattr(index_module, "packets_of_table", lambda *_: None)
        passed = build_index(path)
    assert told.pts.tolist() == passed.pts.tolist()
    assert told.shown.tolist() == passed.shown.tolist()
    assert told.metadata.frame_times.tolist() == passed.metadata.frame_times.tolist()
    assert told.metadata.content == passed.metadata.content
    assert told.discarded == passed.discarded
    assert set(told.keyframes) <= set(passed.keyframes)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared films beside this checkout")
def test_real_films_are_the_same_by_their_tables_and_by_a_pass():
    seen = 0
    for path in [*VIDEOS.glob("*.mp4"), *SHARED.rglob("*.mp4"), *SHARED.rglob("*.mov")]:
        told = by_table(path)
        if told is not None:
            assert told == by_pass(path), path
            seen += 1
    assert seen > 10


@pytest.mark.parametrize("flags", ["frag_keyframe", "frag_keyframe+empty_moov"])
def test_films_in_fragments_are_left_to_the_pass(flags, tmp_path):
    path = write(tmp_path / "f.mp4", 60, container_options={"movflags": flags})
    assert by_table(path) is None
    assert build_index(str(path)).metadata.num_frames == 60


def test_a_film_that_breaks_off_is_left_to_the_pass(films, tmp_path):
    data = films["index-first"].read_bytes()
    path = tmp_path / "cut-off.mp4"
    path.write_bytes(data[: len(data) * 7 // 10])
    assert by_table(path) is None


@pytest.mark.parametrize("name", [b"ctts", b"stsz", b"stsc", b"stco"])
@pytest.mark.parametrize("at", [4, 8, 13, 20])
def test_a_damaged_table_tells_no_other_times_than_a_pass(name, at, films, tmp_path):
    data = bytearray(films["b-frames"].read_bytes())
    place = data.index(name) + at
    data[place] ^= 0x55
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    try:
        told = by_table(path)
    except ValueError:
        return
    assert told is None or told == by_pass(path)


def test_a_film_whose_sound_lies_beyond_the_file_is_left_to_the_pass(tmp_path):
    path, rng = tmp_path / "sound.mp4", np.random.default_rng(0)
    with av.open(str(path), "w") as out:
        video, sound = out.add_stream("libx264", rate=30), out.add_stream("aac", rate=44_100)
        video.width, video.height, video.pix_fmt = 192, 112, "yuv420p"
        for number in range(60):
            pixels = np.full((112, 192, 3), number * 4, np.uint8)
            out.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            samples = rng.uniform(-number / 60, number / 60, (1, 1470)).astype(np.float32)
            tone = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            tone.sample_rate = 44_100
            out.mux(sound.encode(tone))
        for stream in (video, sound):
            out.mux(stream.encode())
    assert by_table(path) == by_pass(path)
    data = bytearray(path.read_bytes())
    # Let a sample in the middle of the second track have 8 MB.
    place = data.rindex(b"stsz") + 16 + 4 * 20 + 1
    data[place] = 0x7F
    path.write_bytes(data)
    assert by_table(path) is None


def test_a_film_by_its_tables_is_not_read_whole(tmp_path):
    """Count the bytes that a process of its own reads of a film of 40 MB."""
    path = write(
        tmp_path / "noise.mp4", 120, codec="mpeg4", options={"b": "80M", "qmin": "1", "qmax": "1"},
        size=(1920, 1120),
    )  # fmt: skip
    with path.open("r+b") as file:
        small = file.read()
    place, big = small.index(b"mdat"), 40 << 20
    assert place > 0
    # Move the table behind 40 MB that nobody reads, as in a long film.
    boxes = dict(top_boxes(small))
    movie = small[slice(*boxes[b"moov"])]
    begin = boxes[b"mdat"][0]
    media = small[slice(*boxes[b"mdat"])]
    padded = struct.pack(">I4s", len(media) + big, b"mdat") + media[8:] + os.urandom(big)
    path.write_bytes(small[:begin] + padded + movie)
    read = int(programs.run("index_bytes", path))
    assert read < 12 << 20


def top_boxes(data: bytes) -> list[tuple[bytes, tuple[int, int]]]:
    found, start = [], 0
    while start < len(data):
        size, name = struct.unpack_from(">I4s", data, start)
        found.append((name, (start, start + size)))
        start += size
    return found


def with_edits(source: Path, target: Path, edits: list[tuple[int, int]]) -> Path:
    """Give a film another edit list: pairs of length (ms) and start in the media, -1 for a pause."""
    data = source.read_bytes()
    content = struct.pack(">II", 0, len(edits))
    content += b"".join(struct.pack(">Iihh", length, start, 1, 0) for length, start in edits)
    new = struct.pack(">I4s", len(content) + 8, b"elst") + content

    def rebuilt(part: bytes, names: list[bytes]) -> bytes:
        out = io.BytesIO()
        for name, (begin, end) in top_boxes(part):
            box = part[begin:end]
            if name == names[0]:
                box = new if len(names) == 1 else rebuilt(part[begin + 8 : end], names[1:])
                if len(names) > 1:
                    box = struct.pack(">I4s", len(box) + 8, name) + box
            out.write(box)
        return out.getvalue()

    target.write_bytes(rebuilt(data, [b"moov", b"trak", b"edts", b"elst"]))
    return target


def test_a_copy_has_the_content_of_its_original_and_another_film_has_not(tmp_path):
    first = build_index(str(VIDEOS / "harbour.mp4")).metadata.content
    copy = build_index(str(shutil.copy(VIDEOS / "harbour.mp4", tmp_path / "x.mp4"))).metadata.content
    other = build_index(str(VIDEOS / "night.mp4")).metadata.content
    assert first == copy != other


def test_films_of_equal_sizes_are_told_apart_by_all_their_bytes(tmp_path):
    """Uncompressed films of one length differ in one pixel that no sampled block has."""
    contents = []
    for changed in (False, True):
        path = tmp_path / f"{changed}.nut"
        with av.open(str(path), "w") as out:
            stream = out.add_stream("rawvideo", rate=25)
            stream.width, stream.height, stream.pix_fmt = 320, 240, "rgb24"
            for number in range(60):
                pixels = np.full((240, 320, 3), number, np.uint8)
                if changed and number == 7:
                    pixels[5, 5] = 255
                out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            out.mux(stream.encode())
        contents.append(build_index(str(path)).metadata.content)
    assert contents[0] != contents[1]


def test_many_sizes_tell_and_few_do_not(tmp_path):
    path = tmp_path / "film"
    path.write_bytes(bytes(4 << 20))
    few, many = np.full(500, 700), np.arange(500)
    assert sizes_tell(str(path), many)
    assert not sizes_tell(str(path), few)
    digest = PacketHash()
    for size in range(FEW_SIZES):
        digest.add(b"x", size)
    assert digest.digest()
    digest.add(b"x", FEW_SIZES)
    assert digest.digest() == b""
    seconds = np.arange(500) / 30
    assert content_hash(str(path), few, seconds, b"a") != content_hash(str(path), few, seconds, b"b")
    assert content_hash(str(path), many, seconds) != content_hash(str(path), many, seconds + 1e-3)
