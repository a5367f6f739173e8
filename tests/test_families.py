"""Families of models: found by their own files, and tiny ones of each captioned by vLLM."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import programs
import pytest
from common import VIDEOS
from fakes import FakeBackend

import captionkit as ck
from captionkit import prompts
from captionkit.engine import Engine, EngineKey, Request, VideoInput
from captionkit.engine.chat import Chat
from captionkit.models.families import FAMILIES, find_family, read_family
from captionkit.models.variants import get_variant
from captionkit.pipeline.backends import engine_key
from captionkit.pipeline.events import TextGrew
from captionkit.pipeline.flow import caption
from captionkit.review import check
from captionkit.system import loop

TINY = [
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen3_vl",
    "qwen3_vl_moe",
    "qwen3_5",
    "qwen3_5_moe",
    "internvl",
    "llava_onevision",
    "glm4v",
    "glm4v_moe",
    "glm4v_moe-4.6",
    "gemma4",
    "gemma4_unified",
    "minicpmv4_6",
    "minicpmv4_7",
    "smolvlm",
    "gemma3",
]
# What stands before the second frame, or before the pair of frames that holds it, at this second.
TIMES = {
    "qwen3_vl": "<{:.1f} seconds>",
    "qwen3_vl_moe": "<{:.1f} seconds>",
    "qwen3_5": "<{:.1f} seconds>",
    "qwen3_5_moe": "<{:.1f} seconds>",
    "gemma4": "00:{:02.0f} <|image>",
    "gemma4_unified": "00:{:02.0f} <|image>",
    "glm4v": "<|end_of_image|>{:.0f}",
    "glm4v_moe": "<|end_of_image|>{:.0f}",
    "glm4v_moe-4.6": "<|end_of_image|>{:.1f} seconds",
    "smolvlm": "{:.1f} s: ",
    "gemma3": "{:.1f} s: ",
}


def folder_of(path: Path, config: dict[str, Any], **files: Any) -> Path:
    path.mkdir(exist_ok=True)
    for name, content in {"config": config, **files}.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return path


def vision(**values: Any) -> dict[str, Any]:
    return {"vision_config": values}


def test_a_family_is_found_by_the_models_own_configuration_and_not_by_its_name(tmp_path):
    misnamed = folder_of(
        tmp_path / "qwen3-vl-8b", {"model_type": "qwen2_5_vl", **vision(patch_size=14)}
    )
    assert get_variant(str(misnamed)).grid_factor == 28
    other = folder_of(tmp_path / "my-model", {"model_type": "qwen3_vl_moe", **vision(patch_size=16)})
    assert get_variant(str(other)).grid_factor == 32


def test_every_model_type_belongs_to_one_family():
    types = [each for family in FAMILIES for each in family.model_types]
    assert sorted(types) == sorted(set(types))
    assert {name.partition("-")[0] for name in TINY} == set(types)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "llama"}, "model_type 'llama' .* is not known"),
        ({"model_type": "internvl_chat", "auto_map": {}}, "code of its repository.* -hf"),
        ({"model_type": "keyevl1_5"}, "code of its repository, which captionkit never does"),
        ({"model_type": "new_one", "auto_map": {"AutoConfig": "x.Y"}}, "code of its repository"),
        (
            {"model_type": "llava", "architectures": ["TarsierForConditionalGeneration"]},
            "vLLM no longer runs it",
        ),
        ({"model_type": "qwen2_5_vl"}, "no vision_config"),
        (
            {"model_type": "qwen2_5_vl", "architectures": ["ColQwen2_5"], **vision()},
            "ColQwen2_5 writes no text",
        ),
        ({"architectures": ["X"]}, "without model_type"),
        ({"model_type": "qwen3_vl", **vision(patch_size="wide")}, "wide"),
        ({"model_type": "qwen3_vl", **vision(patch_size=0)}, "qwen3_vl"),
        ({"model_type": ["qwen3_vl"]}, "qwen3_vl"),
    ],
)
def test_an_unfit_model_is_refused_with_its_file_the_reason_and_the_known_families(
    config, reason, tmp_path
):
    folder = folder_of(tmp_path / "model", config)
    with pytest.raises(ValueError, match=reason) as refused:
        get_variant(str(folder))
    for part in (str(folder / "config.json"), "Known families", "Qwen3-VL", "InternVL", "Gemma 4"):
        assert part in str(refused.value)


def test_a_broken_configuration_is_refused_with_its_place(tmp_path):
    folder = folder_of(tmp_path / "model", {})
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not valid JSON"):
        get_variant(str(folder))
    (folder / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"config\.json is not a JSON object"):
        get_variant(str(folder))


def test_a_changed_configuration_counts_from_then_on(tmp_path):
    folder = folder_of(tmp_path / "model", {"model_type": "qwen2_vl", **vision()})
    assert read_family(folder).grid == 28
    folder_of(folder, {"model_type": "qwen3_vl", **vision()})
    os.utime(folder / "config.json", ns=(1, 1))
    assert read_family(folder).grid == 32


@pytest.mark.parametrize(
    ("config", "processor", "size", "tokens"),
    [
        # 20 frames of 1280 x 720 with the settings of published models.
        ({"model_type": "qwen2_5_vl", **vision(patch_size=14)}, {}, (448, 252), 1440),
        ({"model_type": "qwen3_vl", **vision(patch_size=16)}, {}, (512, 288), 1440),
        ({"model_type": "glm4v", **vision(patch_size=14)}, {}, (448, 252), 1440),
        (
            {"model_type": "internvl", **vision(image_size=[448, 448])},
            {"image_seq_length": 256},
            (448, 448),
            5120,
        ),
        (
            {"model_type": "llava_onevision", **vision(image_size=384, patch_size=14)},
            {},
            (384, 384),
            3921,
        ),
        ({"model_type": "gemma4", **vision(patch_size=16)}, {}, (528, 288), 1320),
        ({"model_type": "minicpmv4_6", **vision()}, {}, (597, 336), 1320),
        (
            {"model_type": "gemma3", "mm_tokens_per_image": 256, **vision(image_size=896)},
            {"image_processor": {"size": {"height": 896, "width": 896}}},
            (896, 896),
            5120,
        ),
    ],
)
def test_frames_and_tokens_of_published_models(config, processor, size, tokens):
    family = find_family(config, processor)
    assert family.frame_size(1280, 720, family.default_pixels) == size
    assert family.tokens(*size, 20) == tokens


def test_a_family_of_one_frame_size_refuses_a_smaller_pixel_budget(tmp_path):
    folder = folder_of(tmp_path / "model", {"model_type": "internvl", **vision(image_size=[448, 448])})
    variant = get_variant(str(folder))
    assert variant.frame_size(1280, 720, 1_000_000) == (448, 448)
    with pytest.raises(ValueError, match=r"too small for InternVL.* 200704 pixels"):
        variant.frame_size(1280, 720, 100_000)


def test_a_repository_that_is_not_here_asks_for_a_download(tmp_path):
    with pytest.raises(ValueError, match="captionkit download someone/unknown-model"):
        get_variant("someone/unknown-model").frame_size(640, 360)
    # Once its files are in the folder of models, they decide.
    (tmp_path / "someone").mkdir()
    folder_of(tmp_path / "someone" / "here", {"model_type": "qwen3_vl", **vision(patch_size=16)})
    engine_key(ck.Recipe(model="someone/here"), tmp_path)
    assert get_variant("someone/here").grid_factor == 32


class Words:
    """A tokenizer that shows what it is told."""

    def get_added_vocab(self) -> dict[str, int]:
        return {"<image>": 1, "<video>": 2, "\n\n": 3}

    def apply_chat_template(self, messages, *, chat_template, enable_thinking, **_) -> str:
        assert enable_thinking is False
        parts = [part.get("text") or f"[{part['type']}]" for part in messages[0]["content"]]
        return f"{chat_template}: {''.join(parts)}{self.ends}"

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return [0] * add_special_tokens + list(text.encode())

    ends = ""


def window(frames: int, *, known: bool = False) -> VideoInput:
    metadata = {"fps": 10.0, "frames_indices": [4 * number for number in range(frames)]}
    pixels = np.zeros((frames, 3, 28, 56), np.uint8)
    return VideoInput("uid", metadata, None if known else pixels)


def chat_of(folder: Path, config: dict[str, Any], **settings: Any) -> Chat:
    folder_of(folder, config, chat_template={"chat_template": "old"}, tokenizer_config={})
    return Chat(EngineKey(str(folder), **settings))


def test_the_template_is_the_processors_and_thinking_is_off(tmp_path):
    chat = chat_of(tmp_path / "model", {"model_type": "qwen2_vl", **vision()})
    prompt = chat.prompt(Words(), Request("Look at <video> and <b>.", window(2)))
    assert prompt["prompt"] == "old: [video]Look at < video> and <b>."
    # The template has written the marks of the text's beginning already.
    assert bytes(prompt["prompt_token_ids"]).decode() == prompt["prompt"]
    opened = Words()
    opened.ends = "assistant\n<think>\n"
    prompt = chat.prompt(opened, Request("Look.", window(2)))
    assert prompt["prompt"] == "old: [video]Look.assistant\n<think>\n\n</think>\n\n"


def test_a_model_without_a_chat_template_is_refused(tmp_path):
    folder = folder_of(tmp_path / "model", {"model_type": "qwen2_vl", **vision()}, tokenizer_config={})
    with pytest.raises(ValueError, match=r"no chat template .* base model"):
        Chat(EngineKey(str(folder)))


def test_frames_as_images_keep_their_order_times_and_ids(tmp_path):
    chat = chat_of(tmp_path / "model", {"model_type": "gemma3", **vision()})
    prompt = chat.prompt(Words(), Request("Describe.", window(3)))
    assert prompt["prompt"] == "old: 0.0 s: [image]0.4 s: [image]0.8 s: [image]Describe."
    assert [each.size for each in prompt["multi_modal_data"]["image"]] == [(56, 28)] * 3
    known = chat.prompt(Words(), Request("Describe.", window(3, known=True)))
    assert known["multi_modal_data"] == {"image": [None] * 3}
    assert known["multi_modal_uuids"] == {"image": ["uid-0", "uid-1", "uid-2"]}
    assert known["multi_modal_uuids"] == prompt["multi_modal_uuids"]


def test_a_processor_that_resizes_whole_videos_is_told_the_size_of_each_window(tmp_path):
    config = {"model_type": "qwen3_vl", **vision()}
    chat = chat_of(tmp_path / "model", config, processor_pixels=(4_096, 100_000))
    told = [chat.prompt(Words(), Request("Look.", window(count))) for count in (2, 8)]
    sizes = [each["mm_processor_kwargs"]["size"] for each in told]
    assert sizes == [
        {"shortest_edge": 8_192, "longest_edge": 200_000},
        {"shortest_edge": 32_768, "longest_edge": 800_000},
    ]
    assert "mm_processor_kwargs" not in chat_of(tmp_path / "model", config).prompt(
        Words(), Request("Look.", window(2))
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<think>A boat?</think>\n\nA boat sails.", "A boat sails."),
        ("A boat?\n</think>\n\nA boat sails.", "A boat sails."),
        ("\n<think>A boat? It may be", ""),
        ("<thi", ""),
        ("<thinkin", ""),
        ("<thinking>A boat?</thinking>\nA boat sails.", "A boat sails."),
        ("<THINK>A boat?</THINK>A boat sails.", "A boat sails."),
        ("<think></think>", ""),
        ("<think>One.</think> No. <think>Two.</think>Three.", "No. Three."),
        ("A boat sails. <think>Or does it", "A boat sails."),
        ("A boat sails.", "A boat sails."),
        ("<thick> fog", "<thick> fog"),
        ("", ""),
    ],
)
def test_a_caption_has_no_thoughts(text, shown):
    assert prompts.without_thoughts(text) == shown


def test_thoughts_land_in_no_caption_no_stream_and_no_second_stage(harbour, session):
    backend = FakeBackend(lambda prompt, start, stage: f"<think>{start}?</think>It is {start}.")
    recipe = ck.Recipe(prompt="Look.", stage2="Better: {caption}")

    async def events():
        windows = session.sources.windows
        return [each async for each in caption(windows, recipe, backend, session.sources.pool)]

    found = loop.run(events())
    texts = [each.text for each in found if isinstance(each, TextGrew)]
    texts += [each.caption.text for each in found if hasattr(each, "caption")]
    assert texts
    assert not any("<" in text or "?" in text for text in texts)
    assert not any("think" in request.prompt for request in backend.requests)


def test_a_check_finds_thoughts_in_captions_from_elsewhere():
    assert check("<think>Hm.</think> A boat.")["thinks"]
    assert check("Hm.</think> A boat.")["thinks"]
    assert not check("A boat, I think.")["thinks"]


@pytest.fixture(scope="module")
def rules() -> dict[str, str]:
    return programs.outcomes("family_rules", "")


@pytest.mark.engine
@pytest.mark.parametrize(
    "check",
    [
        "qwens_first_models_see_frames_as_their_processor_would_size_them",
        "a_budget_a_video_is_as_many_times_the_budget_a_frame",
        "gemma_4_sees_frames_as_its_processor_would_size_them",
        "minicpm_v_gets_frames_in_one_piece_and_makes_so_many_tokens",
        "a_window_of_pairs_has_the_tokens_of_its_grid",
    ],
)
def test_sizes_and_tokens_are_those_of_the_models_own_processors(check, rules):
    assert rules[check] == ""


class Running:
    """The program that tries the families, and what it has printed."""

    def __init__(self, folder: Path) -> None:
        self.errors = (folder / "errors").open("w+")
        environment = {"OMP_NUM_THREADS": "1"}
        settings = {"stdout": subprocess.PIPE, "stderr": self.errors, "env": environment}
        self.process = programs.start("families", folder, *TINY, **settings)
        self.found: dict[str, dict[str, Any]] = {}

    def of(self, name: str) -> dict[str, Any]:
        """Return what was found out about a family, once it has been tried."""
        while name not in self.found:
            line = self.process.stdout.readline()
            assert line, f"the program ended: {Path(self.errors.name).read_text()[-3000:]}"
            if line.startswith("family "):
                found = json.loads(line.removeprefix("family "))
                self.found[found["name"]] = found
        return self.found[name]

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.errors.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    running = Running(tmp_path_factory.mktemp("families"))
    yield running
    running.close()


@pytest.mark.engine
@pytest.mark.parametrize("name", TINY)
def test_a_model_of_each_family_captions_a_film_on_vllm(running, name):
    found = running.of(name)
    assert "error" not in found, found["error"]
    assert found["made"] > 0
    assert found["tokens"] == found["counted"] > 0
    assert found.get("tokens of the processor's size", found["counted"]) == found["counted"]
    # A known window goes without frames, and comes to the same text.
    assert found["encoder runs"] > 0
    assert found["encoder runs of the known window"] == 0
    assert found["same"]
    assert found.get("encoder runs of the known window, resized", 0) == 0
    # Frames become brighter, and so does what the vision tower gets. Some have two frames in a part.
    assert found["brightness"] == sorted(found["brightness"])
    assert len(set(found["brightness"])) >= 3
    if name in TIMES:
        # Pairs of frames have the time of their middle in one family, of their first frame in others.
        seconds = found["seconds"]
        at = (seconds[0] + seconds[1]) / 2 if name.startswith("qwen3") else seconds[2]
        at = int(at) if name.startswith(("gemma4", "glm")) else at
        assert TIMES[name].format(at) in found["prompt"]
    # Thinking is off.
    assert not found["prompt"].rstrip().endswith("<think>")


@pytest.mark.engine
@pytest.mark.parametrize("name", ["qwen3_vl", "internvl", "gemma3"])
def test_a_model_of_another_family_captions_in_a_session_and_knows_its_windows(name, running, tmp_path):
    assert "error" not in running.of(name)
    folder = Path(running.errors.name).parent / name
    recipe = ck.Recipe(model=str(folder), max_tokens=6)
    session = ck.Session(VIDEOS / "harbour.mp4", recipe=recipe, store=tmp_path / "runs.sqlite")
    first = session.caption("short")
    engine = Engine.live()
    assert engine.encoder_runs() > 0
    second = session.caption("What is there?")
    assert engine.encoder_runs() == 0
    for run in (first, second):
        assert run.status == "done"
        assert (run.captions["output_tokens"] > 0).all()
    session.close()


def test_frames_of_another_size_are_refused_before_they_reach_a_model_of_one_size():
    family = SimpleNamespace(image_size=[448, 448])
    internvl = find_family({"model_type": "internvl", "vision_config": vars(family)})
    assert internvl.size_problem(448, 448) is None
    assert "takes 448 x 448" in internvl.size_problem(448, 252)
