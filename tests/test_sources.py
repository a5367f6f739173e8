"""Tasks, spans and windows as sources of a session: names, and problems that say what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from common import VIDEOS

import captionkit as ck
from captionkit.sources import search_videos, short_names
from captionkit.stages import Clip, Video, VideoTask, Window

HARBOUR = str(VIDEOS / "harbour.mp4")
NIGHT = str(VIDEOS / "night.mp4")


def task(*windows: tuple[int, int], span: tuple[float, float] | None = None) -> VideoTask:
    """Return a task of one clip with these windows."""
    return VideoTask(Video(HARBOUR, [Clip(HARBOUR, span, windows=[Window(*each) for each in windows])]))


@pytest.fixture
def sources(fake, tmp_path):
    """Return a function that opens a session on a source and returns its `Sources`."""
    opened = []

    def make(source):
        opened.append(ck.Session(source, store=tmp_path / "runs.sqlite", backend=fake))
        return opened[-1].sources

    yield make
    for session in opened:
        session.close()


def frames(sources) -> list[tuple[str, int, int, int]]:
    return [(each.video, each.number, each.start_frame, each.end_frame) for each in sources.windows]


def test_a_task_without_clips_is_a_problem_with_its_remedy(sources):
    found = sources([NIGHT, VideoTask(Video(HARBOUR))])
    assert {each.video for each in found.windows} == {"night"}
    assert list(found.problems) == ["harbour"]
    assert "the task of harbour has no clip; add one" in found.problems["harbour"]
    with pytest.raises(ValueError, match="the task of harbour has no clip"):
        sources(VideoTask(Video(HARBOUR)))


@pytest.mark.parametrize("good", [NIGHT, VideoTask(Video(NIGHT, [Clip(NIGHT)]))])
def test_a_missing_file_beside_a_path_or_a_task_is_a_problem(good, sources):
    found = sources(["nowhere.mp4", good])
    assert {each.video for each in found.windows} == {"night"}
    assert "no such file: nowhere.mp4" in found.problems["nowhere.mp4"]


def test_a_missing_file_and_an_empty_task_are_listed_together(sources):
    with pytest.raises(
        ValueError, match=r"no such file: nowhere\.mp4.*; the task of harbour has no clip"
    ):
        sources(["nowhere.mp4", VideoTask(Video(HARBOUR))])


def test_search_finds_nothing_without_an_error():
    assert search_videos([]) == ([], {})


def test_two_tasks_of_one_file_leave_the_names_of_other_videos_alone(sources):
    found = sources([NIGHT, task(span=(0.0, 9.0)), task(span=(9.0, 20.0)), HARBOUR])
    assert list(dict.fromkeys(each.video for each in found.windows)) == [
        "night",
        "harbour",
        "harbour#2",
        "harbour#3",
    ]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        ([], []),
        (["/a/x.mp4", "/a/y.mp4"], ["x", "y"]),
        (["/a/x.mp4", "/b/x.mp4"], ["a/x.mp4", "b/x.mp4"]),
        (["/a/x.mp4", "/b/a/x.mp4"], ["/a/x.mp4", "b/a/x.mp4"]),
        (["/a/x.mp4", "/a/x.mp4", "/b/x.mp4"], ["a/x.mp4", "a/x.mp4#2", "b/x.mp4"]),
        (["x.mp4", "x.mp4", "x#2.mp4", "x.mp4"], ["x", "x#3", "x#2", "x#4"]),
        (["s3://a/x.mp4", "s3://b/x.mp4", "y.mp4"], ["a/x.mp4", "b/x.mp4", "y"]),
        (["a//x.mp4", "a/x.mp4"], ["a/x.mp4", "a/x.mp4#2"]),
    ],
)
def test_short_names_differ_and_number_only_a_path_that_comes_again(paths, names):
    assert short_names(paths) == names


@pytest.mark.parametrize(
    ("window", "span", "reason"),
    [
        ((50, 20), None, "of frames 50 to 20 ends before it begins; exchange"),
        ((-300, 20), None, "of frames -300 to 20 begins before the clip; give a first frame of 0"),
        ((1000, 2000), None, "ends beyond the clip of 1024 frames; give a last frame of at most 1023"),
        ((0, 255), (0.0, 5.0), "ends beyond the clip of 150 frames; give a last frame of at most 149"),
        ((0, 2), None, "has 3 frames; a window needs at least 4"),
    ],
)
def test_a_window_outside_its_clip_is_named_and_its_neighbour_stays(
    window, span, reason, sources, preparation
):
    given = task(window, (0, 100), span=span)
    found = sources(given)
    assert frames(found) == [("harbour", 1, 0, 100)]
    assert found.problems["harbour"].startswith(f"{HARBOUR}, window 0: the window of frames")
    assert reason in found.problems["harbour"]
    clip = preparation.process(given).data.clips[0]
    assert list(clip.errors) == ["window-0"]
    assert reason in clip.errors["window-0"]
    assert [bool(each.llm_inputs) for each in clip.windows] == [False, True]


def test_a_window_far_before_its_clip_leaves_its_neighbour_prepared(preparation):
    clip = preparation.process(task((-9000, -8000), (0, 100))).data.clips[0]
    assert list(clip.errors) == ["window-0"]
    assert clip.windows[1].llm_inputs


def test_the_last_frame_of_a_span_belongs_to_its_clip(sources):
    assert frames(sources(task((0, 149), span=(0.0, 5.0)))) == [("harbour", 0, 0, 149)]


@pytest.mark.parametrize("span", [(5.0, 3.0), (float("nan"), 3.0)])
def test_a_span_without_length_is_refused_with_its_seconds(span, sources, preparation):
    reason = f"the span from {span[0]} to 3.0 s has no length"
    with pytest.raises(ValueError, match=reason):
        sources(task(span=span))
    assert reason in preparation.process(task(span=span)).data.clips[0].errors["video"]


def test_a_window_given_twice_is_called_the_same_window(sources):
    found = sources(task((0, 100), (101, 200), (0, 100)))
    assert frames(found) == [("harbour", 0, 0, 100), ("harbour", 1, 101, 200)]
    assert found.problems == {"harbour": "window 2 (frames 0 to 100) is the same as window 0; left out"}


def test_a_window_that_another_video_has_is_named_with_that_video(sources, tmp_path):
    copy = str(shutil.copy(HARBOUR, tmp_path / "copy.mp4"))
    windows = [Window(0, 255), Window(0, 100)]
    found = sources([HARBOUR, VideoTask(Video(copy, [Clip(copy, windows=windows)]))])
    assert frames(found)[4:] == [("copy", 1, 0, 100)]
    assert found.problems == {
        "copy": "window 0 (frames 0 to 255) is the same as window 0 of harbour; left out"
    }


def test_every_problem_of_a_video_is_listed(sources, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_text("no film")
    windows = [Window(9, 0), Window(0, 9), Window(0, 9)]
    clips = [Clip(str(bad)), Clip(HARBOUR, windows=windows)]
    problem = sources(VideoTask(Video(Path(HARBOUR), clips))).problems["harbour"]
    assert "bad.mp4" in problem
    assert "frames 9 to 0 ends before it begins" in problem
    assert "window 2 (frames 0 to 9) is the same as window 1" in problem
