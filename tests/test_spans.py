"""Windows from elsewhere: tables of spans, PySceneDetect's CSV, clip metas, and scenes."""

from __future__ import annotations

import json
import shutil
import sys

import av
import numpy as np
import pandas as pd
import pytest
from common import VIDEOS

import captionkit as ck
from captionkit.cli import main
from captionkit.sources import scene_windows
from captionkit.widgets import Workbench
from captionkit.widgets.standing import status

HARBOUR, NIGHT = str(VIDEOS / "harbour.mp4"), str(VIDEOS / "night.mp4")


@pytest.fixture
def opened(fake, tmp_path):
    """Return a function that opens a session with the fake backend."""
    sessions = []

    def make(source=None, **settings):
        sessions.append(ck.Session(source, store=tmp_path / "s", backend=fake, **settings))
        return sessions[-1]

    yield make
    for session in sessions:
        session.close()


def frames(session) -> list[tuple[str, int, int, int]]:
    table = session.windows
    return list(zip(table.video, table.window, table.start_frame, table.end_frame, strict=True))


def rows(*spans: tuple) -> pd.DataFrame:
    return pd.DataFrame(spans, columns=["video", "start_s", "end_s"])


def test_each_row_of_a_table_is_one_window_of_exactly_its_frames(opened):
    table = rows((HARBOUR, 0, 1), (NIGHT, 2.5, 4), (HARBOUR, 0.5, 3))
    session = opened(spans=table)
    assert frames(session) == [("harbour", 0, 0, 29), ("harbour", 1, 15, 89), ("night", 0, 75, 119)]
    assert session.windows["end_s"].tolist() == pytest.approx([1, 3, 4])
    assert session.problems == {}


def test_a_span_equal_to_a_window_has_its_key_and_so_its_captions(opened, fake):
    cut = opened(HARBOUR)
    cut.caption("Say it.")
    first = cut.windows.iloc[0]
    fake.calls.clear()
    given = opened(spans=rows((HARBOUR, first.start_s, first.end_s)))
    assert given.caption("Say it.").captions["text"].notna().all()
    assert fake.calls == []


@pytest.mark.parametrize("video", ["harbour", "harbour.mp4", "/elsewhere/harbour.mp4", HARBOUR])
def test_a_video_is_found_by_its_path_or_by_its_name_in_the_source(video, opened):
    assert frames(opened(VIDEOS, spans=rows((video, 0, 1)))) == [("harbour", 0, 0, 29)]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ((HARBOUR, 5, 3), "the table, row 2: the span from 5 to 3 s does not end after its start"),
        ((HARBOUR, 3, 3), "row 2: the span from 3 to 3 s does not end after its start"),
        ((HARBOUR, -1, 3), "row 2: the span starts at -1 s; give 0 or more"),
        ((HARBOUR, float("nan"), 3), "row 2: start_s is nan; give seconds"),
        ((HARBOUR, 0, "soon"), "row 2: end_s is 'soon'; give seconds"),
        ((None, 0, 3), "row 2: the video is nan; give its path or name"),
        (("nowhere.mp4", 0, 3), "row 2: no such video: nowhere.mp4"),
        ((HARBOUR, 30, 40), "row 2: the span from 30 to 40 s ends beyond the film of 34.13 s"),
        ((HARBOUR, 40, 50), "row 2: the span from 40 to 50 s starts beyond the film of 34.13 s"),
        ((HARBOUR, 1, 1.05), "has 2 frames; a window needs at least 4"),
        ((HARBOUR, 0, 1), "is the same as window 0"),
    ],
)
def test_a_bad_row_is_named_with_its_reason_and_the_others_go_on(row, reason, opened):
    session = opened(spans=rows((HARBOUR, 0, 1), row, (NIGHT, 0, 1)))
    assert [(name, first) for name, _, first, _ in frames(session)] == [("harbour", 0), ("night", 0)]
    (problem,) = session.problems.values()
    assert reason in problem


def test_an_end_that_a_tool_rounded_beyond_the_film_is_the_films_end(opened):
    assert frames(opened(spans=rows((HARBOUR, 30, 34.3)))) == [("harbour", 0, 900, 1023)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,b\n1,2\n", r"cuts\.csv has the columns a, b; a table of windows needs video, start_s and"),
        ("video,start_s,end_s\n", r"cuts\.csv has no row"),
        ("", r"cuts\.csv is not a CSV file"),
        ("start_s,end_s\n0,1\n", r"cuts\.csv does not say which video it is of"),
    ],
)
def test_a_file_that_is_no_table_of_windows_is_refused_in_words(text, reason, opened, tmp_path):
    (tmp_path / "cuts.csv").write_text(text)
    with pytest.raises(ValueError, match=reason):
        opened(spans=tmp_path / "cuts.csv")


def test_a_missing_file_and_two_rules_at_once_are_refused(opened, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file: .*none\.csv"):
        opened(spans=tmp_path / "none.csv")
    with pytest.raises(ValueError, match="spans= has the windows already"):
        opened(spans=rows((HARBOUR, 0, 1)), cut="scenes")
    with pytest.raises(ValueError, match="cut is 'shots'; give one of frames, scenes"):
        opened(HARBOUR, cut="shots")


def test_paths_of_a_file_start_at_the_file_and_a_byte_order_mark_is_no_column(opened, tmp_path):
    shutil.copy(NIGHT, tmp_path / "film.mp4")
    (tmp_path / "cuts.csv").write_text("\ufeffvideo,start_s,end_s\nfilm.mp4,0,2\n", encoding="utf-8")
    assert frames(opened(spans=str(tmp_path / "cuts.csv"))) == [("film", 0, 0, 59)]


DETECTED = """Timecode List:,00:00:02.000,00:00:05.005
Scene Number,Start Frame,Start Timecode,Start Time (seconds),End Frame,End Timecode,End Time (seconds),\
Length (frames),Length (timecode),Length (seconds)
1,1,00:00:00.000,0.000,60,00:00:02.000,2.000,60,00:00:02.000,2.000
2,61,00:00:02.000,2.000,150,00:00:05.005,5.000,90,00:00:03.000,3.000
"""


@pytest.mark.parametrize("lines", [DETECTED, DETECTED.partition("\n")[2]])
def test_a_csv_of_pyscenedetect_is_of_the_video_of_its_name(lines, opened, tmp_path):
    (tmp_path / "night-Scenes.csv").write_text(lines)
    found = frames(opened(VIDEOS, spans=tmp_path / "night-Scenes.csv"))
    assert found == [("night", 0, 0, 59), ("night", 1, 60, 149)]
    (tmp_path / "scenes.csv").write_text(lines)
    assert frames(opened(HARBOUR, spans=tmp_path / "scenes.csv"))[0] == ("harbour", 0, 0, 59)


def test_clip_metas_of_nemo_curator_bring_their_clips_and_windows(opened, tmp_path):
    metas = tmp_path / "out" / "metas" / "v0"
    metas.mkdir(parents=True)
    for number, (start, windows) in enumerate([(10, [(0, 99), (100, 149)]), (0, [])]):
        meta = {
            "source_video": "/data/on/the/cluster/harbour.mp4",
            "duration_span": [start, start + 5],
            "windows": [{"start_frame": first, "end_frame": last} for first, last in windows],
        }
        (metas / f"{number}.json").write_text(json.dumps(meta))
    (metas / "broken.json").write_text("{}")
    session = opened(VIDEOS, spans=tmp_path / "out")
    assert frames(session) == [("harbour", 0, 0, 149), ("harbour", 1, 0, 99), ("harbour", 2, 100, 149)]
    assert session.windows["start_s"].tolist() == pytest.approx([0, 10, 10 + 100 / 30])
    (problem,) = session.problems.values()
    assert "broken.json is not the meta of a clip" in problem


def test_what_export_wrote_for_nemo_curator_comes_back_with_the_same_keys(opened, tmp_path):
    session = opened(HARBOUR)
    session.caption("Say it.").export(tmp_path / "out", "nemo")
    again = opened(spans=tmp_path / "out")
    assert again.windows["key"].tolist() == session.windows["key"].tolist()


# Scenes


@pytest.mark.parametrize(
    ("starts", "windows"),
    [
        ([0], [(0, 299)]),
        ([0, 100], [(0, 99), (100, 299)]),
        ([0, 10, 100], [(0, 99), (100, 299)]),
        ([0, 100, 110, 120, 200], [(0, 99), (100, 199), (200, 299)]),
        ([0, 100, 290], [(0, 99), (100, 299)]),
        ([0, 10, 20], [(0, 299)]),
    ],
)
def test_shots_are_windows_and_short_ones_join_the_next_or_at_the_end_the_last(starts, windows):
    times = np.arange(300) / 30
    found = scene_windows(starts, times, 10.0, 400, 128)
    assert [(each.start, each.end) for each in found] == windows


def test_a_long_shot_is_cut_as_a_film_of_its_length_is():
    times = np.arange(900) / 30
    found = scene_windows([0, 100], times, 30.0, 256, 128)
    assert [(each.start, each.end) for each in found] == [(0, 99), (100, 355), (356, 611), (612, 899)]


def test_a_shot_is_short_by_its_time_whatever_the_rate():
    times = np.concatenate([np.arange(60) / 240, 0.25 + np.arange(60)])
    found = scene_windows([0, 60], times, 61.25, 256, 128)
    assert [(each.start, each.end) for each in found] == [(0, 119)]


SHOTS = [0, 50, 60, 130]


@pytest.fixture
def film(tmp_path):
    """A film of 200 frames whose shots begin at `SHOTS`; the second is a third of a second long."""
    pytest.importorskip("scenedetect", reason="needs the extra scenes")
    path = tmp_path / "film.mp4"
    rng = np.random.default_rng(0)
    looks = [rng.integers(0, 255, (9, 16, 3), dtype=np.uint8) for _ in SHOTS]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=30, options={"bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 256, 144, "yuv420p"
        for number in range(200):
            shot = sum(number >= start for start in SHOTS) - 1
            pixels = looks[shot].repeat(16, 0).repeat(16, 1)
            pixels = np.clip(pixels.astype(int) + number % 5, 0, 255).astype(np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode())
    return path


def test_scenes_begin_at_the_very_frames_of_the_cuts(film, opened):
    session = opened(film, cut="scenes")
    assert frames(session) == [("film", 0, 0, 49), ("film", 1, 50, 129), ("film", 2, 130, 199)]


def test_scenes_are_found_once_and_then_kept(film, opened, monkeypatch):
    before = frames(opened(film, cut="scenes"))
    monkeypatch.setattr(
        "captionkit.sources.scenes._found", lambda *_: pytest.fail("the film was searched again")
    )
    assert frames(opened(film, cut="scenes")) == before


def test_scenes_without_the_extra_say_what_to_install(opened, monkeypatch):
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    with pytest.raises(ValueError, match=r'pip install "captionkit\[scenes\]"'):
        opened(HARBOUR, cut="scenes")


def test_the_workbench_cuts_by_scenes_and_back_by_frames(film, opened):
    session = opened(film, recipe=ck.Recipe(window_size=100))
    bench = Workbench(session)
    tuner = bench.tuner
    assert tuner.recut.layout.display == "none"
    tuner.cut_by.value = "scenes"
    assert tuner.recut.layout.display is None
    tuner.run_all.click()
    assert bench.board.idle(30)
    assert "press “Cut windows anew” first" in tuner.problem.value
    tuner.recut.click()
    assert bench.board.idle(60)
    assert [row.window.start_frame for row in bench.board.windows] == [0, 50, 130]
    tuner._code_button.value = True
    assert bench.board.idle(30)
    assert "cut=&#x27;scenes&#x27;" in tuner.code.value
    assert "--cut scenes" in tuner.code.value
    tuner.cut_by.value = "frames"
    tuner.recut.click()
    assert bench.board.idle(60)
    assert [row.window.start_frame for row in bench.board.windows] == [0, 100]
    bench.close()


def test_the_workbench_cuts_by_seconds_and_back_by_frames(opened):
    bench = Workbench(opened(HARBOUR))
    tuner = bench.tuner
    assert tuner.window_seconds.layout.display == "none"
    tuner.cut_by.value = "seconds"
    tuner.window_seconds.value = 5.0
    assert tuner.window_size.layout.display == "none"
    tuner.recut.click()
    assert bench.board.idle(60)
    assert [row.window.start_s for row in bench.board.windows] == [0, 5, 10, 15, 20, 25, 30]
    assert (tuner.cut_by.value, tuner.recipe.window_seconds) == ("seconds", 5.0)
    tuner.run_all.click()
    assert bench.board.idle(60)
    assert status(bench.board).startswith("Run 1 done: 7 of 7 windows captioned")
    tuner.cut_by.value = "frames"
    tuner.recut.click()
    assert bench.board.idle(60)
    assert len(bench.board.windows) == 4
    assert bench.session.recipe.window_seconds is None
    bench.close()


def test_long_shots_are_cut_by_seconds_if_the_recipe_has_them():
    times = np.arange(600) / 30
    found = scene_windows([0, 150], times, 20.0, 256, 128, window_seconds=5.0)
    assert [(each.start, each.end) for each in found] == [(0, 149), (150, 299), (300, 449), (450, 599)]


def test_the_workbench_shows_given_spans_and_can_cut_anew(opened):
    bench = Workbench(opened(spans=rows((HARBOUR, 0, 1), (HARBOUR, 5, 6), (HARBOUR, 50, 60))))
    assert bench.tuner.cut_by.value == "given spans"
    assert len(bench.board.windows) == 2
    assert "1 left out: harbour" in bench.left_out.value
    assert "ends beyond the film" in bench.left_out.value or "starts beyond" in bench.left_out.value
    bench.tuner.cut_by.value = "frames"
    bench.tuner.recut.click()
    assert bench.board.idle(60)
    assert len(bench.board.windows) == 4
    assert bench.left_out.value == ""
    bench.close()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "there is no video"),
        (["--spans", "cuts.csv", "--cut", "scenes"], "--spans has the windows already"),
        ([HARBOUR, "--cut", "scenes", "--ray", "--out", "o"], "--ray cuts windows by frames"),
    ],
)
def test_the_command_line_refuses_what_does_not_go_together(arguments, reason, capsys):
    assert main(["caption", *arguments]) == 2
    assert reason in capsys.readouterr().err


def test_the_command_line_captions_given_spans(fake, tmp_path, monkeypatch, capsys):
    (tmp_path / "cuts.csv").write_text(f"video,start_s,end_s\n{HARBOUR},0,1\n{HARBOUR},9,8\n")
    monkeypatch.setattr(ck.Session, "open_backend", lambda *_: fake)
    command = ["caption", "--spans", str(tmp_path / "cuts.csv"), "--store", str(tmp_path / "s")]
    assert main(command) == 1
    printed = capsys.readouterr()
    assert "1 of 1 windows captioned" in printed.err
    assert "row 2: the span from 9 to 8 s does not end after its start" in printed.err
