"""Frames: the one asked for is the one delivered, or an error says why not."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import barcodes
import numpy as np
import pytest
from common import VIDEOS

from captionkit.video import DecodePool, VideoError

FRAMES = 120
SIZE = (192, 112)

# What trips readers that count after a seek.
FILMS: dict[str, tuple[str, dict]] = {
    "plain": ("plain.mp4", {}),
    "b-frames": ("b.mp4", {"options": {"bf": "3", "g": "24"}}),
    "open-gop-x264": ("open.mp4", {"options": {"x264-params": "open-gop=1:keyint=24:bframes=3"}}),
    "open-gop-mkv": ("open.mkv", {"options": {"x264-params": "open-gop=1:keyint=24:bframes=3"}}),
    "open-gop-x265": (
        "open265.mp4",
        {"codec": "libx265", "options": {"x265-params": "open-gop=1:keyint=24:log-level=none"}},
    ),
    "intra-refresh": ("refresh.mp4", {"options": {"x264-params": "intra-refresh=1:keyint=24"}}),
    "ten-bit": (
        "ten.mp4",
        {"codec": "libx265", "pix_fmt": "yuv420p10le", "options": {"x265-params": "log-level=none"}},
    ),
    "mpegts": ("plain.ts", {"options": {"g": "24", "bf": "2"}}),
    "avi-with-b-frames": ("b.avi", {"codec": "mpeg4", "options": {"bf": "2", "b": "4000000"}}),
    "mpeg-ps": ("plain.mpg", {"codec": "mpeg2video", "options": {"b": "4000000"}}),
    "raw-h264": ("plain.h264", {"options": {"g": "24"}}),
    "vp9": ("plain.webm", {"codec": "libvpx-vp9", "options": {"g": "24", "deadline": "realtime"}}),
    "av1": ("plain-av1.mp4", {"codec": "libsvtav1", "options": {"g": "24", "preset": "10"}}),
    "variable-frame-rate": (
        "vfr.mp4",
        {"times": [n * 33 + (n // 10) * 200 + (n % 3) * 7 for n in range(FRAMES)]},
    ),
}
# decord is known to read these exactly; the rest it has to refuse.
DECORD_READS = {"plain", "b-frames", "ten-bit", "vp9"}


@pytest.fixture(scope="session")
def films(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("films")
    return {
        name: barcodes.write(folder / file, FRAMES, **settings)
        for name, (file, settings) in FILMS.items()
    }


@pytest.fixture(scope="module")
def pool():
    with DecodePool(2, timeout_s=60) as pool:
        yield pool


def numbers_of(pixels: np.ndarray) -> list[int]:
    return [barcodes.read_number(frame) for frame in pixels]


def test_no_encoder_left_this_process_with_real_time_priority(films):
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.mark.parametrize("name", FILMS)
def test_every_frame_asked_for_is_the_frame_delivered(films, pool, name):
    metadata = pool.probe(films[name])
    assert metadata.num_frames == FRAMES
    rng = np.random.default_rng(0)
    asked = [sorted(rng.choice(FRAMES, 8, replace=False).tolist()) for _ in range(6)]
    # Consecutive windows, as captioning reads them, and single frames around keyframes.
    asked += [list(range(start, start + 30, 4)) for start in range(0, 120, 30)]
    asked += [[n] for n in (0, 23, 24, 25, 47, 48, 71, 72, 119)]
    for numbers in asked:
        assert numbers_of(pool.read(films[name], numbers, SIZE).pixels) == numbers


@pytest.mark.parametrize("name", FILMS)
def test_decord_reads_a_stream_exactly_or_refuses_it_with_the_reason(films, name):
    with DecodePool(1, reader="decord", timeout_s=60) as pool:
        try:
            for numbers in ([0, 1, 2], [23, 24, 25, 60], [118, 119]):
                assert numbers_of(pool.read(films[name], numbers, SIZE).pixels) == numbers
        except VideoError as error:
            assert name not in DECORD_READS, error
            assert 'reader="pyav"' in str(error)
        else:
            assert name in DECORD_READS


def test_frames_hidden_by_an_edit_list_are_not_counted(films, pool, tmp_path):
    cut = barcodes.copy_cut(films["b-frames"], tmp_path / "cut.mp4", 1.2)
    metadata = pool.probe(cut)
    shown = numbers_of(pool.read(cut, list(range(metadata.num_frames)), SIZE).pixels)
    assert shown == list(range(120 - len(shown), 120))
    assert shown[0] == 36
    with DecodePool(1, reader="decord") as decord, pytest.raises(VideoError, match="edit list"):
        decord.read(cut, [0, 1], SIZE)


@pytest.mark.parametrize(("name", "file"), [("mpegts", "cut.ts"), ("open-gop-mkv", "cut.mkv")])
def test_a_stream_that_begins_in_the_middle_is_read_from_where_it_can_be(
    films, pool, tmp_path, name, file
):
    path = tmp_path / file
    with av.open(str(films[name])) as into, av.open(str(path), "w") as out:
        copy = out.add_stream_from_template(into.streams.video[0])
        for number, packet in enumerate(into.demux(video=0)):
            if packet.dts is not None and number >= 10:
                packet.stream = copy
                out.mux(packet)
    metadata = pool.probe(path)
    shown = numbers_of(pool.read(path, list(range(metadata.num_frames)), SIZE).pixels)
    assert shown == list(range(FRAMES - len(shown), FRAMES))
    assert len(shown) > 60


def test_times_come_from_timestamps(films, pool):
    times = pool.probe(films["variable-frame-rate"]).frame_times
    wanted = np.array(FILMS["variable-frame-rate"][1]["times"]) / 1000
    np.testing.assert_allclose(times, wanted, atol=1e-3)


def test_rotation_is_honoured(tmp_path, pool, films):
    turned = barcodes.turn(films["plain"], tmp_path / "turned.mp4")
    metadata = pool.probe(turned)
    assert (metadata.width, metadata.height, metadata.rotation) == (112, 192, 90)
    pixels = pool.read(turned, [37], (112, 192)).pixels[0]
    upright = np.rot90(pixels, 1, axes=(1, 2))
    assert barcodes.read_number(upright) == 37


def test_bytes_are_read_like_files(films, pool):
    data = films["plain"].read_bytes()
    assert pool.probe(data).num_frames == FRAMES
    assert numbers_of(pool.read(data, [5, 50], SIZE).pixels) == [5, 50]


def test_a_path_with_spaces_and_emoji_is_read(films, pool, tmp_path):
    odd = tmp_path / "my film 🎬 %20 #1.mp4"
    shutil.copy(films["plain"], odd)
    assert numbers_of(pool.read(odd, [7], SIZE).pixels) == [7]


def test_a_file_that_changes_is_read_anew(pool, tmp_path):
    path = barcodes.write(tmp_path / "film.mp4", 30)
    first = pool.probe(path)
    barcodes.write(path, 60)
    second = pool.probe(path)
    assert (first.num_frames, second.num_frames) == (30, 60)
    assert first.identity != second.identity


def _bad_files(folder: Path, film: Path) -> dict[str, tuple[Path, str]]:
    whole = film.read_bytes()
    empty, text, cut = folder / "empty.mp4", folder / "text.mp4", folder / "cut.mp4"
    empty.touch()
    text.write_text("this is not a film")
    cut.write_bytes(whole[: len(whole) // 2])
    audio = folder / "audio.mp4"
    with av.open(str(audio), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    playlist = folder / "playlist.mp4"
    playlist.write_text(f"#EXTM3U\n#EXTINF:1,\n{film}\n")
    return {
        "missing": (folder / "none.mp4", "no such file"),
        "folder": (folder, "is a folder"),
        "empty": (empty, "is empty"),
        "text": (text, "cannot be read as a video"),
        "truncated": (cut, "cannot be read as a video"),
        "audio only": (audio, "no video stream"),
        "playlist": (playlist, ""),
    }


def test_bad_files_are_errors_that_name_the_file_and_the_reason(films, pool, tmp_path):
    for name, (path, reason) in _bad_files(tmp_path, films["plain"]).items():
        with pytest.raises(VideoError) as caught:
            pool.probe(path)
        assert str(path) in str(caught.value), name
        assert reason in str(caught.value), name


def test_damage_is_reported_and_the_other_frames_stay_right(films, pool, tmp_path):
    data = bytearray(films["b-frames"].read_bytes())
    middle = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2
    data[middle : middle + 400] = bytes(400)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    try:
        damage = pool.read(path, list(range(48, 96, 2)), SIZE).damage
    except VideoError as error:
        damage = str(error)
    assert damage
    assert numbers_of(pool.read(path, [0, 5, 9], SIZE).pixels) == [0, 5, 9]


def test_a_cut_off_file_says_how_many_frames_are_missing(pool, tmp_path):
    path = barcodes.write(tmp_path / "f.mp4", 90, container_options={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    metadata = pool.probe(path)
    assert metadata.num_frames < 90
    assert "90 frames" in (metadata.damage or "")


def test_a_process_that_died_idle_costs_no_request(films):
    with DecodePool(1) as pool:
        pool.read(films["plain"], [0], (192, 112))
        decoder = pool._idle.get()
        decoder.process.kill()
        pool._idle.put(decoder)
        assert len(pool.read(films["plain"], [0], (192, 112)).pixels) == 1


def test_a_crash_of_the_decoder_is_an_error_that_names_file_and_signal(films, monkeypatch):
    def crash(decoder, message, limit):
        decoder.process.send_signal(11)
        decoder.process.wait()
        raise EOFError

    with DecodePool(1) as pool:
        with monkeypatch.context() as patch:
            patch.setattr("captionkit.video.pool.DecodeProcess.ask", crash)
            with pytest.raises(VideoError, match=r"plain\.mp4: the decoder crashed \(SIGSEGV\)"):
                pool.probe(films["plain"])
        assert pool.probe(films["plain"]).num_frames == FRAMES


def test_a_hang_of_the_decoder_ends_at_the_time_limit(films):
    with DecodePool(1) as pool:
        pool.probe(films["plain"])
        decoder = pool._idle.get()
        os.kill(decoder.process.pid, signal.SIGSTOP)
        pool._idle.put(decoder)
        # Only the stopped process has little time: a busy machine is slow to start another one.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pool, "_limit", 1.5)
            with pytest.raises(
                VideoError, match=r"plain\.mp4: the decoder did not answer within 1\.5 s"
            ):
                pool.read(films["plain"], [0], (192, 112))
        assert pool.probe(films["plain"]).num_frames == FRAMES


def test_processes_leave_when_the_pool_closes(films):
    pool = DecodePool(2)
    pool.probe(films["plain"])
    decoder = pool._idle.get()
    pool._idle.put(decoder)
    pool.close()
    pool.close()
    assert decoder.process.poll() is not None


def test_a_pool_that_nobody_closed_takes_its_processes_along(films):
    pool = DecodePool(1)
    pool.probe(films["plain"])
    process = pool._idle.queue[-1].process
    del pool
    gc.collect()
    assert process.poll() is not None


def test_real_videos_are_read_where_they_are_present(pool):
    folder = Path(__file__).parents[2] / "shared" / "videos"
    if not folder.is_dir():
        pytest.skip("no real videos beside this checkout")
    metadata = pool.probe(folder / "video_90.mov")
    assert (metadata.width, metadata.height, metadata.num_frames) == (320, 568, 3)
    damaged = folder / "corrupted.mp4"
    assert pool.read(damaged, [25, 28], (196, 112)).damage


def test_videos_in_memory_are_read_when_more_wait_for_a_decoder_than_copies_are_kept(monkeypatch):
    film = (VIDEOS / "winter.mp4").read_bytes()
    count = 9
    with DecodePool(1) as pool:
        take = pool._idle.get
        # All requests have their copy before the first one gets the decoder.
        all_wait = threading.Barrier(count)
        with monkeypatch.context() as patched, ThreadPoolExecutor(count) as threads:
            patched.setattr(pool._idle, "get", lambda: (all_wait.wait(60), take())[1])
            found = list(threads.map(pool.probe, [film + bytes([each]) for each in range(count)]))
        assert len({each.identity for each in found}) == count
        # Few copies stay.
        assert len(list(pool._folder.path.glob("[0-9a-f]*"))) == 4
