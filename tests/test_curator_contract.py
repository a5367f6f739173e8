"""What pipelines of NeMo Curator 1.0 to 1.4 rely on, beside the installed version's own stages.

Passes with 1.4 in CI; with other versions in an environment that has one of them.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import importlib.metadata
import json
import math
import pickle
import warnings

import numpy as np
import pytest
from common import DATA, VIDEOS, curator_inputs
from common import curator_task as task_of

from captionkit.recipe import Recipe

pytest.importorskip("nemo_curator", reason='needs NeMo Curator: pip install -e ".[cpu,test]"')

# Ignore warnings of Curator's own imports.
pytestmark = pytest.mark.filterwarnings("ignore")

VERSION = tuple(map(int, importlib.metadata.version("nemo-curator").split(".")[:2]))
OWN_NAME = "qwen2.5" if VERSION >= (1, 3) else "qwen"
FROM_1_3 = pytest.mark.skipif(VERSION < (1, 3), reason="needs NeMo Curator 1.3 or later")
KINDS = ("CaptionPreparationStage", "CaptionGenerationStage", "CaptionEnhancementStage")
OF_ENHANCEMENT = {
    "model_dir": "films/models",
    "model_variant": "demo",
    "captioning_model_variant": "qwen3",
    "prompt_variant": "av-surveillance",
    "prompt_text": "Longer: {caption}",
    "model_batch_size": 7,
    "fp8": True,
    "vllm_kwargs": {"max_model_len": 4096},
    "max_output_tokens": 64,
    "verbose": True,
}
QUESTION = "Say it <|im_end|> twice."
# All parameters of any version, each with a value that is not its default.
OF_PREPARATION = {
    "model_variant": "demo",
    "prompt_variant": "av",
    "prompt_text": "Say what it is.",
    "verbose": True,
    "sampling_fps": 1.0,
    "window_size": 128,
    "remainder_threshold": 64,
    "model_does_preprocess": True,
    "preprocess_dtype": "float16",
    "generate_previews": False,
}
OF_GENERATION = {
    "model_dir": "films/models",
    "model_variant": "demo",
    "caption_batch_size": 4,
    "fp8": True,
    "max_output_tokens": 64,
    "model_does_preprocess": True,
    "disable_mmcache": True,
    "vllm_kwargs": {"max_model_len": 4096},
    "verbose": True,
    "generate_stage2_caption": True,
    "stage2_prompt_text": "More: {caption}",
}


@pytest.fixture(scope="module")
def ours():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from captionkit.scale import nemo_curator
    return nemo_curator


@pytest.fixture(scope="module")
def theirs():
    """Import the installed version's own stages, whose processor is the demo model's."""
    from captionkit.engine.torch_companions import reconcile

    reconcile()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nemo_curator.models import prompt_formatter
        from nemo_curator.stages.video.caption import (
            caption_enhancement,
            caption_generation,
            caption_preparation,
        )
        from nemo_curator.stages.video.io import clip_writer
        from nemo_curator.stages.video.preview import preview

    class Stages:
        CaptionPreparationStage = caption_preparation.CaptionPreparationStage
        CaptionGenerationStage = caption_generation.CaptionGenerationStage
        CaptionEnhancementStage = caption_enhancement.CaptionEnhancementStage
        ClipWriterStage = clip_writer.ClipWriterStage
        PreviewStage = preview.PreviewStage
        prompts = caption_preparation._PROMPTS

    prompt_formatter.VARIANT_MAPPING[OWN_NAME] = str(DATA / "demo-model")
    return Stages


def film():
    return (VIDEOS / "winter.mp4").read_bytes()


def set_inputs(window, name, inputs):
    if hasattr(window, "llm_inputs"):
        window.llm_inputs[name] = inputs
    else:
        window.qwen_llm_input = inputs


def pictures(count=4, size=(56, 84)):
    return np.random.default_rng(1).integers(0, 255, (count, *size, 3), dtype=np.uint8)


def captioned(ours, fake, *inputs, variant="demo", **keywords):
    """Caption windows with these inputs; return the clip."""
    from nemo_curator.tasks.video import _Window

    task = task_of(film())
    clip = task.data.clips[0]
    for number, each in enumerate(inputs):
        clip.windows.append(_Window(256 * number, 256 * number + 255))
        set_inputs(clip.windows[-1], variant, each)
    ours.CaptionGenerationStage(model_variant=variant, backend=fake, **keywords).process(task)
    return clip


# Constructors.


@pytest.mark.parametrize("name", OF_PREPARATION)
def test_preparation_takes_each_parameter_of_any_version(ours, name):
    stage = ours.CaptionPreparationStage(**{name: OF_PREPARATION[name]})
    assert getattr(stage, name) == OF_PREPARATION[name]
    again = dataclasses.replace(stage, window_size=99)
    assert (getattr(again, name), again.window_size) == (
        99 if name == "window_size" else OF_PREPARATION[name],
        99,
    )


@pytest.mark.parametrize("name", OF_GENERATION)
def test_generation_takes_each_parameter_of_any_version(ours, name):
    stage = ours.CaptionGenerationStage(**{name: OF_GENERATION[name]})
    assert getattr(stage, name) == OF_GENERATION[name]
    assert dataclasses.replace(stage, caption_batch_size=9).caption_batch_size == 9


@pytest.mark.parametrize("name", OF_ENHANCEMENT)
def test_enhancement_takes_each_parameter_of_any_version(ours, name):
    stage = ours.CaptionEnhancementStage(**{name: OF_ENHANCEMENT[name]})
    assert getattr(stage, name) == OF_ENHANCEMENT[name]
    assert dataclasses.replace(stage, model_batch_size=9).model_batch_size == 9


def test_a_name_is_taken_as_any_version_spells_it(ours):
    assert ours.CaptionGenerationStage(name="mine").name == "mine"
    assert ours.CaptionPreparationStage(_name="mine").name == "mine"
    for kind in map(ours.__dict__.get, KINDS):
        renamed = kind(name="mine").with_(name="other")
        assert dataclasses.replace(renamed, verbose=True).name == "other"
        assert dataclasses.replace(kind(name="mine"), name="other").name == "other"


@pytest.mark.parametrize("kind", KINDS)
def test_defaults_and_the_order_of_arguments_are_the_installed_versions(ours, theirs, kind):
    fields = [each for each in dataclasses.fields(getattr(theirs, kind)) if each.init]
    made = getattr(ours, kind)()
    for each in fields:
        if each.default is not dataclasses.MISSING:
            assert getattr(made, each.name.lstrip("_")) == each.default
    values = OF_PREPARATION | {"name": "mine"} | OF_GENERATION | {"model_does_preprocess": False}
    if kind == "CaptionEnhancementStage":
        values |= OF_ENHANCEMENT
    given = [values[each.name.lstrip("_")] for each in fields]
    stage = getattr(ours, kind)(*given)
    assert [getattr(stage, each.name.lstrip("_")) for each in fields] == given
    with pytest.raises(TypeError, match="twice, by position and by name"):
        getattr(ours, kind)("demo", **{fields[0].name: "demo"})


def test_what_has_no_meaning_here_is_a_warning_that_says_why(ours):
    with pytest.warns(UserWarning, match="preprocess_dtype='float16' has no effect: .* as uint8"):
        ours.CaptionPreparationStage(preprocess_dtype="float16")
    with pytest.warns(UserWarning, match="vllm_kwargs: seed not handed on, since"):
        ours.CaptionGenerationStage(vllm_kwargs={"seed": 1, "max_model_len": 4096})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours.CaptionPreparationStage(preprocess_dtype="float32")
        ours.CaptionGenerationStage(vllm_kwargs={"max_model_len": 4096})


def test_options_of_vllm_that_the_engine_has_reach_it(ours):
    stage = ours.CaptionGenerationStage(
        model_variant="demo", vllm_kwargs={"max_model_len": 4096, "gpu_memory_utilization": 0.5}
    )
    assert stage._ours().engine_options == {"max_model_len": 4096, "memory_share": 0.5}
    stage = ours.CaptionGenerationStage(
        model_variant="qwen2.5", vllm_kwargs={"max_model_len": "auto", "tensor_parallel_size": 2}
    )
    assert stage._ours().engine_options == {"tensor_parallel": 2}
    assert stage.resources.gpus == 2
    assert ours.CaptionGenerationStage(vllm_kwargs=None)._ours().engine_options == {}
    with pytest.raises(ValueError, match="gpu_memory_utilization is 'most'; give a number"):
        ours.CaptionGenerationStage(vllm_kwargs={"gpu_memory_utilization": "most"})


def test_an_enhancement_takes_from_a_recipe_what_its_keywords_leave_open(ours):
    recipe = Recipe(
        model="demo", max_tokens=77, temperature=0, stage2="Again: {caption}", text_only=True
    )
    made = ours.CaptionEnhancementStage(recipe=recipe, captioning_model_variant="demo")
    own = made._ours()._made()
    assert (own.model, own.max_tokens, own.temperature, own.stage2) == ("demo", 77, 0, recipe.stage2)
    assert (
        ours.CaptionEnhancementStage(recipe=recipe, max_output_tokens=9)._ours()._made().max_tokens == 9
    )


@pytest.mark.parametrize("name", ["nemotron", "nemotron-fp8", "nemotron-3-nano-omni"])
@pytest.mark.parametrize("kind", KINDS)
def test_nemotron_is_refused_by_name(ours, kind, name):
    with pytest.raises(ValueError, match=f"{name} is a model .* runs code of its repository"):
        getattr(ours, kind)(model_variant=name)


def test_prompts_have_the_roles_of_the_installed_versions(ours, theirs):
    for name in theirs.prompts:
        assert ours.CaptionPreparationStage(prompt_variant=name).prompt_variant == name
    with pytest.raises(ValueError, match="no prompt is named 'none'"):
        ours.CaptionPreparationStage(prompt_variant="none")


# Names of models and captions.


@pytest.mark.parametrize("prepared", ["qwen", "qwen2.5"])
@pytest.mark.parametrize("generated", ["qwen", "qwen2.5"])
def test_names_of_one_model_find_each_others_inputs_and_captions(ours, fake, prepared, generated):
    task = task_of(film())
    ours.CaptionPreparationStage(
        model_variant=prepared, prompt_text="Say it.", generate_previews=False
    ).process(task)
    windows = task.data.clips[0].windows
    assert all(curator_inputs(window, OWN_NAME) for window in windows)
    ours.CaptionGenerationStage(
        model_variant=generated, backend=fake, generate_stage2_caption=True
    ).process(task)
    assert task.data.clips[0].errors == {}
    for window in windows:
        assert window.caption["qwen"] == window.caption["qwen2.5"]
        assert window.caption["qwen"].endswith("More of it.")
        assert window.caption["qwen_stage1"].startswith("Say it. at")
        assert not curator_inputs(window, OWN_NAME)


def test_its_enhancement_finds_our_captions_with_default_arguments(ours, theirs, fake):
    task = task_of(film())
    ours.CaptionPreparationStage(generate_previews=False).process(task)
    ours.CaptionGenerationStage(backend=fake).process(task)
    enhancement = theirs.CaptionEnhancementStage()
    mapping, inputs = enhancement._prepare_caption_inputs(task.data)
    assert list(mapping.values()) == [(0, 0), (0, 1), (0, 2)]
    assert [each[1]["content"] for each in inputs] == [
        window.caption[OWN_NAME] for window in task.data.clips[0].windows
    ]


def test_our_enhancement_rewrites_captions_under_any_name_and_where_the_writer_looks(ours, fake):
    task = task_of(b"no video", film())
    ours.CaptionPreparationStage(prompt_text="Say it.", generate_previews=False).process(task)
    ours.CaptionGenerationStage(backend=fake).process(task)
    bad, good = task.data.clips
    captions = [window.caption[OWN_NAME] for window in good.windows]
    del good.windows[0].caption[OWN_NAME]
    for name in tuple(good.windows[1].caption):
        del good.windows[1].caption[name]
    stage = ours.CaptionEnhancementStage(prompt_text="Longer: {caption}", backend=fake)
    assert stage.process(task) is task
    made = [window.enhanced_caption for window in good.windows]
    assert made[1] == {}
    assert all(each["qwen_lm"] == each[OWN_NAME] for each in (made[0], made[2]))
    assert [request.prompt for request in fake.requests[3:]] == [
        f"Longer: {captions[number]}" for number in (0, 2)
    ]
    assert f"no caption of {OWN_NAME}" in good.errors["enhancement-1"]
    assert bad.errors["windows"] == "empty"
    assert [request.video for request in fake.requests[3:]] == [None, None]
    with pytest.raises(ValueError, match="prompt_variant is 'none'"):
        ours.CaptionEnhancementStage(prompt_variant="none")


def test_braces_that_are_no_placeholder_are_plain_text_with_a_warning(ours, fake):
    task = task_of(film())
    with pytest.warns(UserWarning, match=r"plain text: .*unknown placeholder \{json\}"):
        preparation = ours.CaptionPreparationStage(prompt_text="As {json}, from {start}.")
    preparation = dataclasses.replace(preparation, verbose=True)
    preparation.process(task)
    with pytest.warns(UserWarning, match=r"plain text: .*unknown placeholder \{this\}"):
        generation = ours.CaptionGenerationStage(
            generate_stage2_caption=True, stage2_prompt_text="{this}: {caption}", backend=fake
        )
    generation.process(task)
    with pytest.warns(UserWarning, match=r"plain text: .*unknown placeholder \{start\}"):
        enhancement = ours.CaptionEnhancementStage(prompt_text="From {start}: {caption}", backend=fake)
    enhancement.process(task)
    said = [request.prompt for request in fake.requests]
    assert any("As {json}, from 0.00." in each for each in said)
    assert any("{this}: As {json}, from 0.00." in each for each in said)
    assert sum(each.startswith("From {start}: ") for each in said) == 3
    assert not task.data.clips[0].errors


def test_an_empty_text_of_the_second_stage_stands_for_the_default(ours):
    stage = ours.CaptionGenerationStage(generate_stage2_caption=True, stage2_prompt_text="")
    assert stage.stage2_prompt_text is None


def test_a_window_whose_captions_are_none_costs_no_neighbour(ours, fake):
    task = task_of(film())
    ours.CaptionPreparationStage(generate_previews=False).process(task)
    windows = task.data.clips[0].windows
    windows[0].caption = None
    ours.CaptionGenerationStage(backend=fake).process(task)
    assert all(window.caption[OWN_NAME] for window in windows)
    windows[0].caption = None
    ours.CaptionEnhancementStage(backend=fake).process(task)
    assert "no caption of" in task.data.clips[0].errors["enhancement-0"]
    assert all(window.enhanced_caption["qwen_lm"] for window in windows[1:])


def test_fields_count_from_the_next_task_also_after_a_setup(ours, fake):
    other = type(fake)()
    stage = ours.CaptionGenerationStage(backend=other, caption_batch_size=2)
    stage.setup()
    stage.backend, stage.caption_batch_size = fake, 1
    task = task_of(film())
    ours.CaptionPreparationStage(generate_previews=False).process(task)
    stage.process(task)
    assert [request.batch_size for request in fake.requests] == [1, 1, 1]
    assert not other.requests


def test_stages_are_copied_and_sent_after_their_first_task(ours, fake):
    task = task_of(film())
    preparation = ours.CaptionPreparationStage(generate_previews=False)
    preparation.process(task)
    generation = ours.CaptionGenerationStage(backend=fake)
    generation.setup()
    again = task_of(film())
    copy.deepcopy(preparation).process(task_of(film()))
    pickle.loads(pickle.dumps(preparation)).process(again)
    generation.with_(name="x").process(again)
    assert all(window.caption[OWN_NAME] for window in again.data.clips[0].windows)
    preparation.teardown()


@pytest.mark.parametrize("kind", KINDS)
def test_a_dataclass_of_a_users_own_takes_the_same_arguments_in_the_same_order(ours, theirs, kind):
    mine = dataclasses.make_dataclass("Mine", [("language", str, "en")], bases=(getattr(ours, kind),))
    own = {each.name: each for each in dataclasses.fields(getattr(theirs, kind)) if each.init}
    given = ["demo" if name == "model_variant" else own[name].default for name in list(own)[:2]]
    stage = mine(*given, language="de")
    assert [*(getattr(stage, name) for name in list(own)[:2]), stage.language] == [*given, "de"]


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_and_outputs_are_named_as_by_its_own_stages(ours, theirs, kind):
    mine, own = getattr(ours, kind)(), getattr(theirs, kind)()
    assert (mine.inputs(), mine.outputs()) == (own.inputs(), own.outputs())


def test_previews_and_metas_of_both_stages_are_written_and_a_corrupt_clip_costs_itself(
    ours, theirs, fake, tmp_path
):
    from captionkit import Recipe

    recipe = Recipe(prompt="Say it.", stage2="More: {caption}")
    task = task_of(b"no video", film())
    ours.CaptionPreparationStage.from_recipe(recipe).process(task)
    windows = task.data.clips[1].windows
    assert all(window.mp4_bytes for window in windows)
    windows[1].mp4_bytes = b""
    theirs.PreviewStage(num_cpus_per_worker=1.0, compression_level=0).process(task)
    assert [bool(window.webp_bytes) for window in windows] == [True, False, True]
    ours.CaptionGenerationStage(recipe=recipe, backend=fake).process(task)
    writer = theirs.ClipWriterStage(
        output_path=str(tmp_path),
        input_path="films",
        upload_clips=False,
        dry_run=False,
        generate_embeddings=False,
        generate_previews=True,
        generate_captions=True,
        caption_models=["demo", "demo_stage1"],
        enhanced_caption_models=[],
    )
    writer.setup()
    writer.process(task)
    bad, good = (
        json.loads((tmp_path / "metas" / "v0" / f"{clip.uuid}.json").read_text())
        for clip in task.data.clips
    )
    assert (bad["windows"], bad["errors"], bad["valid"]) == ([], ["video", "buffer", "windows"], False)
    assert [window["demo_stage1_caption"] for window in good["windows"]] == [
        f"Say it. at {start}." for start in ("0.00", "8.53", "17.07")
    ]
    assert all(window["demo_caption"].endswith("More of it.") for window in good["windows"])
    assert len(list((tmp_path / "previews").rglob("*.webp"))) == 2


def test_the_one_window_of_a_clip_has_the_clips_bytes_as_its_preview(ours):
    task = task_of(film())
    stage = ours.CaptionPreparationStage(model_variant="demo", window_size=900)
    stage.process(task)
    assert [window.mp4_bytes == film() for window in task.data.clips[0].windows] == [True]


# Inputs of its own stages.


@FROM_1_3
def test_our_inputs_have_the_format_of_its_own_preparation(ours, theirs):
    own, made = task_of(film()), task_of(film())
    stage = theirs.CaptionPreparationStage(prompt_text="Say it.", generate_previews=False)
    stage.setup()
    stage.process(own)
    ours.CaptionPreparationStage(prompt_text="Say it.", generate_previews=False).process(made)
    for theirs_, ours_ in zip(own.data.clips[0].windows, made.data.clips[0].windows, strict=True):
        expected, found = curator_inputs(theirs_, OWN_NAME), curator_inputs(ours_, OWN_NAME)
        # The demo model's template leaves Qwen2.5-VL's system message out.
        system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        assert found["prompt"] == system + expected["prompt"]
        frames, told = found["multi_modal_data"]["video"]
        assert frames.dtype == np.uint8 and frames.shape[-1] == 3
        assert len(frames) == len(told["frames_indices"])
        assert expected["multi_modal_data"]["video"][1].keys() <= told.keys()


def test_inputs_of_its_own_preparation_are_captioned(ours, theirs, fake):
    task = task_of(film())
    stage = theirs.CaptionPreparationStage(prompt_text="Say it.", generate_previews=False)
    stage.setup()
    stage.process(task)
    assert len(task.data.clips[0].windows) == 3
    stage = ours.CaptionGenerationStage(
        backend=fake, generate_stage2_caption=True, stage2_prompt_text="From {start} s: {caption}"
    )
    told = contextlib.nullcontext() if VERSION >= (1, 3) else pytest.warns(UserWarning, match="times")
    with told:
        stage.process(task)
    clip = task.data.clips[0]
    count = 3 if VERSION >= (1, 3) else 2
    texts = [window.caption[OWN_NAME] for window in clip.windows[:count]]
    assert texts == [f"Say it. at {s}. More of it." for s in ("0.00", "8.53", "17.07")[:count]]
    if count == 2:
        assert "third and later windows of a clip" in clip.errors["window-2"]
    frames = fake.requests[0].video.frames
    # Versions up to 1.2 shrink frames once before.
    assert frames.dtype == np.uint8 and frames.shape[1:] == (3, 252, 448 if count == 3 else 420)
    assert frames.std() > 20


def test_odd_foreign_frames_are_filled_up_and_keep_their_order_of_colours(ours, fake):
    frames = pictures(5)
    told = {"fps": 2.0, "frames_indices": [0, 1, 2, 3, 4], "total_num_frames": 5}
    clip = captioned(ours, fake, {"prompt": "Say it.", "multi_modal_data": {"video": (frames, told)}})
    assert clip.errors == {}
    video = fake.requests[0].video
    assert video.metadata["frames_indices"] == [0, 1, 2, 3, 4, 4]
    assert np.array_equal(video.frames[:5].transpose(0, 2, 3, 1), frames)


def test_normalised_frames_of_versions_up_to_1_2_are_read_back_to_the_same_colours(ours, fake):
    frames = pictures().transpose(0, 3, 1, 2)
    mean = np.array([0.48145466, 0.4578275, 0.40821073]).reshape(3, 1, 1)
    deviation = np.array([0.26862954, 0.26130258, 0.27577711]).reshape(3, 1, 1)
    normalised = ((frames / 255 - mean) / deviation).astype(np.float32)
    plain = frames.astype(np.float32)
    texts = [{"prompt": "Say it.", "multi_modal_data": {"video": v}} for v in (normalised, plain)]
    with pytest.warns(UserWarning, match="without times.*2 frames a second"):
        assert captioned(ours, fake, *texts).errors == {}
    assert all(np.array_equal(request.video.frames, frames) for request in fake.requests)


def test_foreign_videos_may_be_a_list_of_one_and_lack_indices(ours, fake):
    told = {"fps": 2.0, "frames_indices": None, "total_num_frames": None}
    inputs = {"prompt": "Say it.", "multi_modal_data": {"video": [(pictures(), told)]}}
    assert captioned(ours, fake, inputs).errors == {}
    assert fake.requests[0].video.metadata["frames_indices"] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({"multi_modal_data": {}}, "lack 'prompt'"),
        ({"prompt": "Say it.", "multi_modal_data": {"video": None}}, "give|makes"),
        ("Say it.", "are a str; give a dict"),
        ({"prompt": "<video>\nSay it.", "multi_modal_data": {"video": pictures()}}, "chat format"),
        (
            {"prompt": "Say it.", "multi_modal_data": {"video": pictures()[0]}},
            "frames are uint8 of the",
        ),
        (
            {"prompt": "Say it.", "multi_modal_data": {"video": pictures().astype(float) * 9}},
            "values from",
        ),
        (
            {"prompt": "Say it.", "multi_modal_data": {"video": np.full((4, 3, 56, 56), np.nan)}},
            "NaN",
        ),
        (
            {"prompt": "Say it.", "multi_modal_data": {"video": np.ones((4, 3, 56, 56), np.uint8)}},
            "cut to whole numbers",
        ),
        (
            {"prompt": "Say it.", "multi_modal_data": {"video": (pictures(), {"frames_indices": [1]})}},
            "4 frames, 1 frames_indices",
        ),
        *[
            ({"prompt": "Say it.", "multi_modal_data": {"video": (pictures(), told)}}, "cannot be read")
            for told in ([2.0], {"fps": "fast"}, {"fps": 2.0, "frames_indices": 4})
        ],
        (
            {"prompt": "Say it.", "multi_modal_data": {"video": (pictures(), {"fps": math.nan})}},
            "nan frames a second",
        ),
        ({"prompt": "Say it.", "multi_modal_data": {"video": (pictures(), {}, 1)}}, "cannot be read"),
        ({"prompt": "Say it.", "multi_modal_data": {"video": [[1, 2], [3]]}}, "cannot be read"),
        ({"prompt": "Say it.", "multi_modal_data": None}, "cannot be read"),
        ({"captionkit": {}, "prompt": "Say it."}, "lack 'multi_modal_data'"),
    ],
)
def test_inputs_that_cannot_be_read_are_an_error_of_their_window_alone(ours, fake, inputs, reason):
    import re

    good = {"prompt": "Say it.", "multi_modal_data": {"video": (pictures(), {"fps": 2.0})}}
    clip = captioned(ours, fake, inputs, good)
    assert re.search(reason, clip.errors["window-0"])
    assert [bool(window.caption) for window in clip.windows] == [False, True]
    assert list(clip.errors) == ["window-0"]


@FROM_1_3
def test_marks_of_a_chat_format_in_our_prompt_cannot_end_the_users_turn(ours, fake):
    task = task_of(film())
    ours.CaptionPreparationStage(prompt_text=QUESTION, generate_previews=False).process(task)
    window = task.data.clips[0].windows[0]
    assert curator_inputs(window, OWN_NAME)["prompt"].count("<|im_end|>") == 2
    ours.CaptionGenerationStage(backend=fake).process(task)
    assert window.caption[OWN_NAME].startswith("Say it < |im_end|> twice.")
