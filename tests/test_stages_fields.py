"""Fields of a stage that are set after its construction count, as in the reference."""

from __future__ import annotations

import inspect
import pickle
from dataclasses import replace

import pytest
from common import whole_file

import captionkit as ck
from captionkit import prompts
from captionkit.stages import CaptionGenerationStage, CaptionPreparationStage, QwenVL
from captionkit.stages.adapter import take_over

OWN = "My own text: {caption}"
STAGE_OF_BOTH_ORIGINS = [
    CaptionGenerationStage(model_variant="demo"),
    CaptionGenerationStage.from_recipe(ck.Recipe(max_tokens=128, temperature=0.7)),
]


def caption(stage, preparation, harbour, fake):
    """Caption a film of four windows; return the requests that arrived at the backend."""
    fake.requests.clear()
    task = stage.process(preparation.process(whole_file(harbour)))
    assert task.data.clips[0].errors == {}
    return list(fake.requests)


def tokens(requests) -> set[int]:
    return {request.sampling.max_tokens for request in requests}


def test_fields_set_after_construction_reach_the_model(preparation, harbour, fake):
    stage = CaptionGenerationStage(model_variant="demo", backend=fake)
    stage.max_output_tokens = 64
    stage.generate_stage2_caption = True
    stage.stage2_prompt_text = OWN
    requests = caption(stage, preparation, harbour, fake)
    assert len(requests) == 8
    assert tokens(requests) == {64}
    assert sum(request.prompt.startswith("My own text: ") for request in requests) == 4


def test_fields_set_between_two_tasks_count_for_the_second_one(preparation, harbour, fake):
    recipe = ck.Recipe(stage2=OWN, max_tokens=128, temperature=0.7)
    stage = CaptionGenerationStage(recipe=recipe, backend=fake)
    requests = caption(stage, preparation, harbour, fake)
    assert (len(requests), tokens(requests)) == (8, {128})
    stage.max_output_tokens = 32
    stage.generate_stage2_caption = False
    requests = caption(stage, preparation, harbour, fake)
    assert (len(requests), tokens(requests)) == (4, {32})
    assert {request.sampling.temperature for request in requests} == {0.7}


@pytest.mark.parametrize("stage", STAGE_OF_BOTH_ORIGINS, ids=["keywords", "recipe"])
@pytest.mark.parametrize("wanted", [64, 512])
def test_replace_changes_one_field_of_a_stage_and_keeps_the_rest(stage, wanted):
    changed = replace(stage, max_output_tokens=wanted)
    assert changed.max_output_tokens == wanted
    assert take_over(changed) == replace(take_over(stage), max_tokens=wanted)


def test_replace_can_switch_the_second_stage_of_a_recipe_off():
    stage = CaptionGenerationStage.from_recipe(ck.Recipe(stage2=OWN))
    assert take_over(replace(stage, generate_stage2_caption=False)).stage2 is None


def test_another_recipe_sets_the_keywords_again():
    stage = CaptionGenerationStage.from_recipe(ck.Recipe(max_tokens=128))
    other = ck.Recipe(max_tokens=32, stage2=OWN)
    assert replace(stage, recipe=other).max_output_tokens == 32
    stage.recipe = other
    assert take_over(stage) == other
    assert (stage.max_output_tokens, stage.stage2_prompt_text) == (32, OWN)


@pytest.mark.parametrize("made", [{"model_variant": "demo"}, {"recipe": ck.Recipe()}])
def test_fields_of_the_preparation_count_however_they_are_set(made, harbour):
    stage = replace(CaptionPreparationStage(**made), window_size=100, remainder_threshold=50)
    stage.sampling_fps = 1.5
    stage.prompt_text = "Say what it is, from {start} s."
    assert stage.window_size == 100
    windows = stage.process(whole_file(harbour)).data.clips[0].windows
    stage.teardown()
    assert len(windows) == 10
    inputs = windows[1].llm_inputs["demo"]
    assert inputs["prompt"] == "Say what it is, from 3.33 s."
    # 100 frames at 30 a second last 3.3 s: 1.5 frames a second give 4 frames, 2 would give 6.
    assert inputs["multi_modal_data"]["video"].shape[0] == 4


def test_a_library_prompt_set_after_construction_counts(harbour):
    stage = CaptionPreparationStage(model_variant="demo")
    stage.prompt_variant = "short"
    windows = stage.process(whole_file(harbour)).data.clips[0].windows
    stage.teardown()
    assert windows[0].llm_inputs["demo"]["prompt"] == prompts.PROMPTS["short"]


@pytest.mark.parametrize("kind", [CaptionGenerationStage, QwenVL])
def test_an_invalid_value_set_after_construction_is_refused_by_name(kind, fake):
    stage = kind(model_variant="demo", backend=fake)
    stage.max_output_tokens = 0
    with pytest.raises(ValueError, match="max_output_tokens is 0; give 1 or more"):
        stage.setup()


def test_a_pickled_stage_keeps_fields_that_were_set_later():
    for stage in STAGE_OF_BOTH_ORIGINS:
        changed = replace(stage)
        changed.max_output_tokens = 64
        again = pickle.loads(pickle.dumps(changed))
        assert take_over(again) == take_over(changed)
        assert again.max_output_tokens == 64


def test_positional_arguments_stay_in_the_references_order():
    positional = [
        name
        for name, each in inspect.signature(CaptionGenerationStage).parameters.items()
        if each.kind is each.POSITIONAL_OR_KEYWORD
    ]
    assert positional == [
        "model_dir", "model_variant", "caption_batch_size", "fp8", "max_output_tokens",
        "model_does_preprocess", "disable_mmcache", "verbose", "generate_stage2_caption",
        "stage2_prompt_text", "_name", "recipe", "endpoint", "backend",
    ]  # fmt: skip
    assert CaptionGenerationStage("films/models", "demo").model_dir == "films/models"
    assert CaptionPreparationStage("demo").name == "caption_preparation"
