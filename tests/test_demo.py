"""The demo world tells the truth, and its model sees it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import DATA, ROOT

from captionkit.demo import language
from captionkit.demo.evaluate import (
    BARS,
    caption_film,
    caption_scenes,
    held_out_scenes,
    main,
    shares,
)
from captionkit.demo.scenes import Painter, Scene
from captionkit.demo.sprites import COLOURS
from captionkit.demo.videos import FPS, FRAMES_A_SCENE, film_truth, sample_scenes
from captionkit.prompts import PROMPTS
from captionkit.recipe import Recipe
from captionkit.video import DecodePool

SAMPLES = sorted(DATA.glob("*.mp4"))


def test_a_seed_decides_a_scene_to_the_last_pixel():
    first, second = Scene.random(5), Scene.random(5)
    assert first == second != Scene.random(6)
    pictures = [Painter(scene, 196, 112).frame(2.5) for scene in (first, second)]
    np.testing.assert_array_equal(*pictures)
    assert pictures[0].shape == (112, 196, 3)


@pytest.mark.parametrize("seed", range(60))
def test_an_object_moves_as_its_truth_says_and_stays_in_the_picture(seed):
    scene = Scene.random(seed)
    thing = scene.objects[0]
    (x0, y0), (x1, y1) = thing.centre(0), thing.centre(scene.duration)
    moved = {
        "left": x1 - x0 < -0.3,
        "right": x1 - x0 > 0.3,
        "up": y1 - y0 < -0.3,
        "down": y1 - y0 > 0.3,
        "still": (x0, y0) == (x1, y1),
    }
    assert moved[thing.direction]
    assert all(0 <= value <= 1 for value in (x0, y0, x1, y1))


def test_the_colour_that_is_told_is_the_colour_that_is_painted():
    for seed in range(30):
        scene = Scene.random(seed)
        thing = scene.objects[0]
        height = 360
        picture = Painter(scene, 640, height).frame(0.0).astype(int)
        x, y = thing.centre(0.0)
        reach = round(thing.height * height / 2)
        column, row = round(x * 640), round(y * height)
        box = picture[max(0, row - reach) : row + reach, max(0, column - reach) : column + reach]
        light = 0.82 if scene.time == "night" else 1.0
        near = np.abs(box - np.array(COLOURS[thing.colour]) * light).max(axis=-1) < 24
        assert near.mean() > 0.1, scene


def test_the_right_answer_earns_all_marks_and_listing_everything_none():
    for seed in range(40):
        scene = Scene.random(seed)
        for kind in ("default", "dense"):
            assert all(language.marks(language.answer(kind, scene), scene).values())
    everything = "left right up down red blue boat car bird balloon sea road field city day night"
    assert not any(language.marks(everything, scene).values())
    # A camera that stays still says nothing of the object.
    text = "A red boat moves left over the sea by day. The camera stays still."
    moving = next(s for s in map(Scene.random, range(99)) if s.objects[0].direction == "left")
    assert language.marks(text, moving)["direction"]


def test_every_library_prompt_is_taught():
    taught = {text for texts in language.QUESTIONS.values() for text in texts}
    assert set(PROMPTS.values()) <= taught


def test_sample_videos_and_their_truth_belong_together():
    assert 4 <= len(SAMPLES) <= 6
    assert sum(path.stat().st_size for path in SAMPLES) < 8 * 2**20
    scenes = sample_scenes()
    with DecodePool(1) as pool:
        for path in SAMPLES:
            truth = json.loads(path.with_suffix(".json").read_text())
            assert truth == film_truth(scenes[path.stem])
            metadata = pool.probe(path)
            assert metadata.num_frames == truth["frames"] == len(truth["scenes"]) * FRAMES_A_SCENE
            assert (metadata.width, metadata.height, metadata.codec) == (640, 360, "h264")
            assert 20 <= metadata.duration <= 60
            for entry, scene in zip(truth["scenes"], scenes[path.stem], strict=True):
                middle = entry["start_frame"] + 100
                shown = pool.read(path, [middle], (640, 360)).pixels[0].transpose(1, 2, 0)
                painted = Painter(scene, 640, 360).frame(100 / FPS)
                assert np.abs(shown.astype(int) - painted.astype(int)).mean() < 6


def test_the_models_weights_are_small_safetensors_with_their_history():
    folder = DATA / "demo-model"
    assert sum(path.stat().st_size for path in folder.glob("*.safetensors")) < 16 * 2**20
    assert not list(folder.glob("*.bin")) + list(folder.glob("*.pt"))
    made = json.loads((folder / "training.json").read_text())
    assert made["command"].startswith("python -m captionkit.demo.train")
    assert re.fullmatch(r"[0-9a-f]{40}", made["commit"])


def test_training_positions_follow_vllms_rule():
    pytest.importorskip("vllm")
    import subprocess
    import sys

    # In a process of its own: it imports vLLM.
    code = """
from captionkit.demo.train import architecture, position_ids
import torch
from types import SimpleNamespace
from vllm.model_executor.models.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration as Served
feature = SimpleNamespace(
    modality="video",
    mm_position=SimpleNamespace(offset=4),
    data={
        "video_grid_thw": SimpleNamespace(data=torch.tensor([8, 8, 14])),
        "second_per_grid_ts": SimpleNamespace(data=torch.tensor(1.0667)),
    },
)
vision = SimpleNamespace(spatial_merge_size=2, tokens_per_second=architecture.TOKENS_PER_SECOND)
model = SimpleNamespace(config=SimpleNamespace(vision_config=vision))
model.iter_mm_grid_thw = lambda features: Served.iter_mm_grid_thw(model, features)
length = 4 + 8 * 4 * 7 + 20
served, _ = Served.get_mrope_input_positions(model, [0] * length, [feature])
assert torch.equal(served, position_ids(length, 4, (8, 4, 7), 1.0667)), "they differ"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


engine = pytest.mark.engine


@engine
def test_sample_videos_are_captioned_truly(model):
    for name, scenes in sample_scenes().items():
        right = shares(caption_film(DATA / f"{name}.mp4", Recipe(temperature=0)), scenes)
        assert min(right.values()) >= 0.75, (name, right)


@engine
def test_each_kind_of_prompt_gets_its_kind_of_answer(model):
    (scene,) = held_out_scenes(1, 700_001)
    kinds = ("default", "short", "objects", "actions", "camera", "dense", "json")
    said = caption_scenes([scene], [Recipe(prompt=kind, temperature=0) for kind in kinds])
    assert [each[0] for each in said] == [language.answer(kind, scene) for kind in kinds]
    assert json.loads(said[-1][0])["background"] == scene.background


@engine
def test_a_second_stage_adds_what_a_short_caption_lacks(model):
    scenes = held_out_scenes(16, 700_000)
    short = Recipe(prompt="short", temperature=0)
    added = Recipe(prompt="short", stage2_prompt="Add what is missing: {caption}", temperature=0)
    first, second = (shares(each, scenes) for each in caption_scenes(scenes, [short, added]))
    assert first["background"] == first["time"] == 0
    assert second["background"] > 0.9
    assert second["time"] > 0.9
    assert second["kind"] >= 0.8


@engine
def test_held_out_scenes_pass_the_bars_and_a_missed_bar_is_exit_status_1(model, monkeypatch, capsys):
    assert main(["--scenes", "20"]) == 0
    assert "direction" in capsys.readouterr().out
    monkeypatch.setitem(BARS, "kind", 1.01)
    assert main(["--scenes", "4"]) == 1
    assert "missed: kind" in capsys.readouterr().out


@engine
def test_the_readmes_python_runs_as_printed(model, capsys, monkeypatch):
    text = (ROOT / "README.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(ROOT)
    exec(compile(block, "README.md", "exec"), {})
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 4
    assert all("->" in line for line in said)


@engine
def test_the_readmes_first_command_captions_the_sample(model, monkeypatch, capsys):
    import shlex

    from captionkit.cli import main as command

    text = (ROOT / "README.md").read_text()
    first = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)[0].strip()
    words = shlex.split(first.split("&&")[-1])
    assert Path(words[0]).name == "captionkit"
    monkeypatch.chdir(ROOT)
    assert command(words[1:]) == 0
    assert "4 of 4 windows captioned" in capsys.readouterr().err
