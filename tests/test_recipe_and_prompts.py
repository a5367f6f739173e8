"""Recipes are values; prompts are templates that no caption can break."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captionkit import prompts
from captionkit.recipe import DEFAULTS, SETTINGS, Recipe


def test_defaults_reproduce_the_references_sampling():
    recipe = Recipe()
    assert (recipe.temperature, recipe.top_p, recipe.repetition_penalty) == (0.1, 0.001, 1.05)
    assert recipe.max_tokens == 512


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(),
        Recipe(prompt='Say "hi" \\ to {video}\n{{x}} 🎬', stage2="Better: {caption}", seed=3),
        Recipe(model="qwen", pixel_budget=50_000, fp8=True, temperature=0),
    ],
)
def test_a_saved_recipe_loads_as_the_same_value(recipe, tmp_path):
    recipe.save(tmp_path / "recipe.toml")
    loaded = Recipe.load(tmp_path / "recipe.toml")
    assert loaded == recipe
    assert loaded.key == recipe.key


def test_the_content_key_changes_with_every_field_that_decides_a_caption():
    changes = {
        "model": "qwen",
        "prompt": "short",
        "stage2": "Better: {caption}",
        "sampling_fps": 1.0,
        "window_size": 128,
        "remainder_threshold": 64,
        "pixel_budget": 9_999,
        "max_tokens": 64,
        "temperature": 0.5,
        "top_p": 0.9,
        "repetition_penalty": 1.0,
        "seed": 1,
        "fp8": True,
        "schema": "tags",
        "window_seconds": 10.0,
        "given": "0123456789abcdef",
        "text_only": True,
    }
    base = Recipe(stage2="Correct: {caption}")
    assert set(changes) == set(Recipe.__dataclass_fields__)
    keys = {replace(base, **{name: value}).key for name, value in changes.items()}
    assert len(keys | {base.key}) == len(changes) + 1


FLOATS = [name for name, setting in SETTINGS.items() if setting.kind is float]


@pytest.mark.parametrize("name", FLOATS)
def test_a_whole_number_and_its_float_are_the_same_recipe(name, tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(f"[recipe]\n{name} = 1\n")
    json_text = Recipe(**{name: 1.0}).to_json().replace(f'"{name}": 1.0', f'"{name}": 1')
    wanted = Recipe(**{name: 1.0})
    made = [Recipe(**{name: 1}), Recipe.load(path), Recipe.from_json(json_text)]
    made.append(replace(Recipe(), **{name: 1}))
    for recipe in made:
        assert type(getattr(recipe, name)) is float
        assert (recipe.key, recipe.to_toml()) == (wanted.key, wanted.to_toml())


@pytest.mark.parametrize("name", FLOATS)
def test_true_is_not_accepted_as_a_number(name):
    with pytest.raises(ValueError, match=f"{name} is True; give a number"):
        Recipe(**{name: True})


def test_content_keys_stay_those_of_captionkit_0_1():
    assert Recipe().key == "f169e4b11c2f5618"
    assert Recipe(temperature=0.0).key == "a47409fa64664dcd"
    assert Recipe(sampling_fps=1.0, top_p=1.0, repetition_penalty=1.0).key == "78c045cf2679d2a7"


def test_a_library_name_and_its_text_are_the_same_recipe_content():
    assert Recipe(prompt="short").key == Recipe(prompt=prompts.PROMPTS["short"]).key


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"sampling_fps": 0}, "sampling_fps"),
        ({"window_size": 0}, "window_size"),
        ({"window_size": -5}, "window_size"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"pixel_budget": 0}, "pixel_budget"),
        ({"prompt": "   "}, "no text"),
        ({"prompt": "nonesuch"}, "default, av"),
        ({"prompt": "What is {thing} here?"}, "{start}"),
        ({"stage2": "Better {captoin} please"}, "{caption}"),
        ({"stage2": " "}, "no text"),
    ],
)
def test_an_invalid_recipe_is_refused_with_a_remedy(settings, word):
    with pytest.raises(ValueError) as caught:
        Recipe(**settings)
    assert word in str(caught.value)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("not toml [", "not valid TOML"),
        ("[recipe]\nvariant = 'demo'", "variant is called model now"),
        ("[recipe]\nstage2_prompt = 'More: {caption}'", "stage2_prompt is called stage2 now"),
        ("[recipe]\nmax_output_tokens = 3", "max_output_tokens is called max_tokens now"),
        ("x = 1", "[recipe]"),
        ("[recipe]\nmodell = 'demo'", "modell"),
        ("[recipe]\nwindow_size = 'big'", "window_size"),
        ("[recipe]\nfp8 = 1", "fp8"),
        ("[recipe]\nwindow_size = 2", "window_size is 2"),
    ],
)
def test_a_broken_recipe_file_is_an_error_that_names_file_and_entry(text, word, tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        Recipe.load(path)
    assert str(path) in str(caught.value)
    assert word in str(caught.value)


@given(st.text())
def test_any_caption_fills_a_stage2_template_unchanged(caption):
    template = prompts.stage2_template("Add what is missing: {caption} (at {start} s)")
    assert prompts.render(template, {"caption": caption, "start": "1.0"}) == (
        f"Add what is missing: {caption} (at 1.0 s)"
    )


@pytest.mark.parametrize("caption", [r"a \g<0> \1 \n", "{caption} {start} {}", "{{x}}", "%s $1"])
def test_captions_that_look_like_templates_stay_unchanged(caption):
    assert prompts.render("<{caption}>", {"caption": caption}) == f"<{caption}>"


@given(st.text(), st.sampled_from(["im_end", "im_start", "vision_start", "video_pad", "endoftext"]))
def test_no_text_keeps_a_mark_of_the_chat_format(text, mark):
    assert f"<|{mark}|>" not in prompts.disarm(f"{text}<|{mark}|>{text}")


@given(st.text(alphabet="<|im_end>x ", max_size=40))
def test_disarming_never_makes_a_new_mark(text):
    assert "<|im_end|>" not in prompts.disarm(text)


def test_a_stage2_text_without_placeholder_gets_the_caption_at_its_end():
    template = prompts.stage2_template("Add what is missing.")
    assert prompts.render(template, {"caption": "A boat."}) == "Add what is missing.\nA boat."


def test_doubled_braces_stand_for_single_ones_and_json_braces_are_text():
    assert prompts.placeholders('Answer as {"kind": 1} with {{start}} and {end}') == ["end"]
    assert prompts.render("{{start}} {end}", {"end": "2"}) == "{start} 2"


def test_every_library_prompt_is_a_sound_recipe():
    for name in prompts.PROMPTS:
        assert Recipe(prompt=name, stage2=prompts.STAGE2_DEFAULT).prompt_text


def test_every_setting_has_its_help_and_its_kind_once():
    assert set(SETTINGS) == set(Recipe.__dataclass_fields__)
    for name, setting in SETTINGS.items():
        assert len(setting.help) > 5, name
        default = DEFAULTS[name]
        assert default is None or isinstance(default, setting.kind), name


def test_a_recipe_is_the_same_through_json_and_reads_the_names_of_captionkit_0_1():
    recipe = Recipe(prompt="short", stage2="More: {caption}", schema="tags", seed=3)
    assert Recipe.from_json(recipe.to_json()) == recipe
    old = '{"variant": "demo", "prompt": "short", "stage2_prompt": null, "max_output_tokens": 9}'
    assert Recipe.from_json(old) == Recipe(prompt="short", max_tokens=9)
    with pytest.raises(ValueError, match="unknown entry colour"):
        Recipe.from_json('{"colour": "red"}')


def test_the_frames_of_a_window_are_decided_by_these_settings_alone():
    same = [Recipe(prompt="short"), Recipe(temperature=1.0), Recipe(stage2="More: {caption}")]
    assert {each.frames_key for each in same} == {Recipe().frames_key}
    others = [
        Recipe(model="qwen"), Recipe(sampling_fps=1), Recipe(pixel_budget=9_999),
        Recipe(window_size=64), Recipe(remainder_threshold=64),
    ]  # fmt: skip
    assert len({each.frames_key for each in [Recipe(), *others]}) == 6
