"""The demo world shows what it says: scenes, pictures, answers, marks, sample videos."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from common import VIDEOS

from captionkit.demo import forms, language, wordings
from captionkit.demo.marks import mark
from captionkit.demo.painter import Painter
from captionkit.demo.scenes import (
    BACKGROUNDS,
    CAMERAS,
    DIRECTIONS,
    EVENTS,
    SIZES,
    TIMES,
    Scene,
    held_out,
)
from captionkit.demo.sprites import COLOURS, KINDS
from captionkit.demo.videos import FPS, FRAMES_A_SCENE, film_truth, main, sample_scenes
from captionkit.prompts import PROMPTS
from captionkit.sources.windows import compute_windows
from captionkit.video import DecodePool

SAMPLES = sorted(VIDEOS.glob("*.mp4"))
SCENES = [Scene.random(seed) for seed in range(150)]


def test_a_seed_decides_a_scene_to_the_last_pixel():
    first, second = Scene.random(5), Scene.random(5)
    assert first == second != Scene.random(6)
    pictures = [Painter(scene, 196, 112).frame(2.5) for scene in (first, second)]
    np.testing.assert_array_equal(*pictures)
    assert pictures[0].shape == (112, 196, 3)
    assert Painter(first, 300, 400).frame(0.0).shape == (400, 300, 3)


def test_the_world_is_as_rich_as_it_says():
    assert (len(KINDS), len(COLOURS), len(BACKGROUNDS), len(TIMES)) == (8, 6, 6, 3)
    things = [thing for scene in SCENES for thing in scene.objects]
    for values, seen in (
        (KINDS, {thing.kind for thing in things}),
        (COLOURS, {thing.colour for thing in things}),
        (SIZES, {thing.size for thing in things}),
        (DIRECTIONS, {thing.direction for thing in things}),
        (EVENTS, {thing.event for thing in things} - {None}),
        (BACKGROUNDS, {scene.background for scene in SCENES}),
        (TIMES, {scene.time for scene in SCENES}),
        (CAMERAS, {scene.camera for scene in SCENES}),
        ((1, 2, 3), {len(scene.objects) for scene in SCENES}),
    ):
        assert set(values) == seen
    assert len({round(thing.speed, 3) for thing in things}) > 20


def test_training_never_shows_a_combination_that_is_held_out_for_evaluation():
    def combinations(scene):
        return [held_out(each.kind, each.colour, scene.background) for each in scene.objects]

    assert not any(any(combinations(scene)) for scene in SCENES)
    for seed in range(60):
        assert sum(combinations(Scene.random(seed, unseen=True))) == 1


@pytest.mark.parametrize("seed", range(60))
def test_things_move_over_the_ground_as_the_truth_says(seed):
    scene = Scene.random(seed)
    for index, thing in enumerate(scene.objects):
        (x0, y0), (x1, y1) = scene.centre(index, 0), scene.centre(index, scene.duration)
        dx, dy = x1 - x0 + scene.pan * scene.duration, y1 - y0
        went = {
            "left": dx < -0.09,
            "right": dx > 0.09,
            "up": dy < -0.2,
            "down": dy > 0.2,
            "still": (round(dx, 9), dy) == (0, 0),
        }
        if thing.event != "turns":
            assert went[thing.direction]
            assert sum(went.values()) == 1


def _visible(scene: Scene, index: int, seconds: float) -> bool:
    thing, (x, _) = scene.objects[index], scene.centre(index, seconds)
    return -thing.width / 2 < x < 1 + thing.width / 2


def test_events_happen_when_the_truth_says():
    seen = set()
    for scene in SCENES:
        for index, thing in enumerate(scene.objects):
            before, after = thing.moment - 0.1, thing.moment + 0.1
            if thing.event in ("appears", "leaves"):
                visible = [_visible(scene, index, moment) for moment in (before, after)]
                assert visible == ([False, True] if thing.event == "appears" else [True, False])
            elif thing.event == "stops":
                assert thing.way(thing.moment) == thing.way(scene.duration)
                assert thing.direction_at(before) != "still" == thing.direction_at(after)
            elif thing.event == "turns":
                assert {thing.direction_at(before), thing.direction_at(after)} == {"left", "right"}
            elif thing.event == "overtakes":
                leads = [
                    scene.centre(index, moment)[0] - scene.centre(thing.other, moment)[0]
                    for moment in (before, after)
                ]
                assert leads[0] * leads[1] < 0
            seen.add(thing.event)
    assert seen == {None, *EVENTS}


def test_the_colour_in_the_truth_is_the_colour_painted():
    for scene in (replace(each, time="day") for each in SCENES[:40]):
        for index, thing in enumerate(scene.objects):
            if thing.event == "appears":
                continue
            picture = Painter(scene, 640, 360).frame(0.0).astype(int)
            x, y = scene.centre(index, 0.0)
            reach, column, row = round(thing.height * 180), round(x * 640), round(y * 360)
            box = picture[max(0, row - reach) : row + reach, max(0, column - reach) : column + reach]
            near = np.abs(box - np.array(COLOURS[thing.colour])).max(axis=-1) < 16
            assert near.mean() > 0.06, scene


@pytest.mark.parametrize("camera", CAMERAS)
def test_what_stands_moves_against_the_camera(camera):
    scene = Scene.random(3, like={"camera": camera, "background": "city", "time": "day"})
    painter = Painter(replace(scene, objects=()), 320, 180)
    first, later = (painter.frame(moment).astype(int)[:120].mean(axis=2) for moment in (0.0, 3.0))
    reach = 60
    inner = first[:, reach:-reach]
    misfit = {
        shift: np.abs(inner - later[:, reach + shift : 320 - reach + shift]).mean()
        for shift in range(-reach + 1, reach)
    }
    shift = min(misfit, key=misfit.get)
    assert np.sign(shift) == {"still": 0, "left": 1, "right": -1}[camera]
    assert abs(shift + scene.pan * 3.0 * 320) < 1.5


def test_a_wish_that_cannot_be_met_is_refused():
    with pytest.raises(ValueError, match="no scene is like"):
        Scene.random(0, like={"background": "desert", "kinds": ["boat"]})


@pytest.mark.parametrize("kind", ["default", "dense", "json"])
def test_the_right_answer_earns_all_marks(kind):
    for scene in SCENES:
        marks = mark(language.answer(kind, scene), scene.truth())
        assert marks.recall == 1.0
        assert (marks.number, marks.invented, marks.false) == (True, False, 0)


def test_a_short_answer_earns_part_and_tells_nothing_false():
    for scene in SCENES:
        marks = mark(language.answer("short", scene), scene.truth())
        assert 0 < marks.recall < 1
        assert (marks.number, marks.false) == (True, 0)


def test_an_altered_caption_loses_marks():
    rng = np.random.default_rng(1)
    for scene in SCENES:
        marks = mark(language.answer("default", language.altered(scene, rng)), scene.truth())
        # Leaving an event out says nothing false, and less than is true.
        assert marks.f1 < 1


@pytest.mark.parametrize(
    ("caption", "facts", "false", "invented"),
    [
        ("", 0, 0, False),
        ("A red boat.", 2, 0, False),
        ("A blue boat moves left at sea by day.", 4, 1, False),
        ("A red boat moves left and stops at sea.", 3, 1, False),
        ("A red boat and a blue car.", 2, 1, True),
        ("The boats are moving left over the sea. It is night.", 3, 1, False),
        ("sea river field city day dusk night", 0, 2, False),
        ('{"objects": [{"kind": "boat", "colour": "red", "motion": "left"}]}', 3, 0, False),
        ("[1, 2]", 0, 0, False),
    ],
)
def test_marks_count_true_facts_and_false_ones(caption, facts, false, invented):
    thing = {"kind": "boat", "colour": "red", "direction": "left", "event": None}
    marks = mark(caption, {"objects": [thing], "background": "sea", "time": "day"})
    assert (sum(marks.facts.values()), marks.false, marks.invented) == (facts, false, invented)


def test_each_kind_of_answer_has_a_form_of_its_own():
    kinds = [*wordings.TEMPLATES, "yesno"]
    rng = np.random.default_rng(0)
    for scene in SCENES[:60]:
        said = {kind: language.answer(kind, scene) for kind in wordings.TEMPLATES}
        said["yesno"] = language.yes_no(scene, rng)[1]
        for kind, answer in said.items():
            assert [form for form in kinds if forms.has_form(form, answer)] == [kind]


def test_yes_and_no_are_both_true_answers():
    rng = np.random.default_rng(0)
    answers = [language.yes_no(scene, rng)[1] for scene in SCENES]
    assert 0.3 < np.mean([answer == "Yes." for answer in answers]) < 0.7
    for scene in SCENES * 3:
        question, answer = language.yes_no(scene, rng)
        asked = rf"there (?:a|any) ({'|'.join(KINDS)})\b(?! moving| staying)"
        if found := re.search(asked, question, re.IGNORECASE):
            kinds = {thing.kind for thing in scene.objects}
            assert (answer == "Yes.") == (found[1].lower() in kinds)


def test_every_library_prompt_is_taught_and_no_wording_of_the_evaluation_is():
    taught = {name for names in wordings.OF_LIBRARY.values() for name in names}
    assert set(PROMPTS) == taught
    rng = np.random.default_rng(0)

    def plain(text):
        return " ".join(re.findall(r"[a-z]+", text.lower()))

    drawn = {plain(wordings.wording(kind, rng)) for kind in wordings.TEMPLATES for _ in range(1000)}
    held = {plain(text) for texts in forms.NEVER_TAUGHT.values() for text in texts}
    assert not held & drawn


def test_sample_videos_and_their_truth_belong_together():
    assert 6 <= len(SAMPLES) <= 8
    assert sum(path.stat().st_size for path in SAMPLES) < 8 * 2**20
    scenes = sample_scenes()
    with DecodePool(1) as pool:
        for path in SAMPLES:
            truth = json.loads(path.with_suffix(".json").read_text())
            assert truth == json.loads(json.dumps(film_truth(scenes[path.stem])))
            metadata = pool.probe(path)
            assert metadata.num_frames == truth["frames"] == len(truth["scenes"]) * FRAMES_A_SCENE
            assert (metadata.height, metadata.codec) == (360, "h264")
            assert 20 <= metadata.duration <= 120
            for entry, scene in zip(truth["scenes"], scenes[path.stem], strict=True):
                middle = entry["start_frame"] + 100
                size = (metadata.width, metadata.height)
                shown = pool.read(path, [middle], size).pixels[0].transpose(1, 2, 0)
                painted = Painter(scene, *size).frame(100 / FPS)
                assert np.abs(shown.astype(int) - painted.astype(int)).mean() < 6


def test_windows_of_a_sample_video_differ():
    for scenes in sample_scenes().values():
        assert len({language.answer("default", scene) for scene in scenes}) == len(scenes)


def test_one_command_renders_a_film_of_as_many_windows_as_wanted(tmp_path):
    assert main(["--out", str(tmp_path), "--windows", "3"]) == 0
    truth = json.loads((tmp_path / "large.json").read_text())
    with DecodePool(1) as pool:
        frames = pool.probe(tmp_path / "large.mp4").num_frames
    assert len(compute_windows(frames)) == len(truth["scenes"]) == 3
