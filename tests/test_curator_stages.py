"""The contract of NeMo Curator's caption stages, on Curator's tasks, with a fake model."""

from __future__ import annotations

import dataclasses
import pickle

import pytest
from common import VIDEOS, curator_inputs
from common import curator_task as task_of

pytest.importorskip("nemo_curator", reason='needs NeMo Curator: pip install -e ".[cpu,test]"')

# Ignore warnings of Curator's own imports.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def curator():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from captionkit.scale import nemo_curator

    return nemo_curator


def film():
    return (VIDEOS / "winter.mp4").read_bytes()


def test_stages_have_names_and_take_other_resources(curator):
    from nemo_curator.stages.resources import Resources

    stage = curator.CaptionGenerationStage(model_variant="qwen")
    assert stage.name == "caption_generation"
    assert stage.resources.gpus == 1
    assert stage.with_(resources=Resources(cpus=2.0)).resources.cpus == 2.0
    assert curator.CaptionPreparationStage().name == "caption_preparation"
    assert curator.CaptionGenerationStage(model_variant="demo").resources.gpus == 0


def test_stages_can_be_pickled_for_workers(curator):
    for stage in (curator.CaptionPreparationStage(), curator.CaptionGenerationStage()):
        assert pickle.loads(pickle.dumps(stage)).name == stage.name


def test_a_task_comes_back_captioned_with_its_inputs_released(curator, fake):
    from captionkit import Recipe

    recipe = Recipe(prompt="Say what it is.", stage2="More: {caption}")
    task = task_of(film())
    prepared = curator.CaptionPreparationStage.from_recipe(recipe).process(task)
    assert prepared is task
    windows = task.data.clips[0].windows
    assert len(windows) == 3
    inputs = [curator_inputs(window, "demo") for window in windows]
    videos = [each["multi_modal_data"]["video"] for each in inputs]
    assert all((video[0] if isinstance(video, tuple) else video).ndim == 4 for video in videos)
    assert curator.CaptionGenerationStage(recipe=recipe, backend=fake).process(task) is task
    assert [window.caption["demo"] for window in windows] == [
        f"Say what it is. at {start}. More of it." for start in ("0.00", "8.53", "17.07")
    ]
    assert not any(curator_inputs(window, "demo") for window in windows)


def test_one_bad_clip_and_one_bad_window_leave_their_neighbours_captioned(curator, fake):
    fake.fail = {"8.53"}
    task = task_of(b"no video", film(), None)
    curator.CaptionPreparationStage(model_variant="demo", prompt_text="Say it.").process(task)
    curator.CaptionGenerationStage(model_variant="demo", backend=fake).process(task)
    bad, good, empty = task.data.clips
    assert "video" in bad.errors
    assert bad.errors["windows"] == "empty"
    assert empty.errors["buffer"] == "empty"
    assert "broken" in good.errors["window-1"]
    assert [bool(window.caption) for window in good.windows] == [True, False, True]


def test_a_window_without_inputs_is_an_error_and_is_skipped(curator, fake):
    from nemo_curator.tasks.video import _Window

    task = task_of(film())
    task.data.clips[0].windows.append(_Window(0, 255))
    curator.CaptionGenerationStage(model_variant="demo", backend=fake).process(task)
    assert "window-0" in task.data.clips[0].errors
    assert fake.calls == []


def test_tasks_of_versions_up_to_1_2_keep_their_inputs_in_the_old_attribute(curator, fake, monkeypatch):
    monkeypatch.setattr(curator, "_HAS_LLM_INPUTS", False)
    task = task_of(film())
    curator.CaptionPreparationStage(model_variant="demo", prompt_text="Say it.").process(task)
    windows = task.data.clips[0].windows
    assert all(window.qwen_llm_input["prompt"] == "Say it." for window in windows)
    curator.CaptionGenerationStage(model_variant="demo", backend=fake).process(task)
    assert all(window.qwen_llm_input is None and window.caption for window in windows)


def test_fields_set_after_construction_count(curator, fake):
    task = task_of(film())
    stage = curator.CaptionPreparationStage(model_variant="demo")
    stage.prompt_text = "Say it."
    dataclasses.replace(stage, window_size=100, remainder_threshold=50).process(task)
    assert len(task.data.clips[0].windows) > 3
    captions = curator.CaptionGenerationStage(model_variant="demo", backend=fake)
    captions = dataclasses.replace(captions, max_output_tokens=64)
    captions.generate_stage2_caption = True
    captions.process(task)
    assert {request.sampling.max_tokens for request in fake.requests} == {64}
    assert {stage for _, stage in fake.calls} == {1, 2}
