"""Weights: found, downloaded from a stand-in of the hub, resumed, verified; and variants."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import programs
import pytest
from common import ROOT
from hub import REPOSITORY, REVISION, Hub, environment

from captionkit.models.variants import Variant, get_variant, register
from captionkit.models.weights import WeightsError, ensure_weights, find_problem


def safetensors(name: str, values: int = 8) -> bytes:
    header = {name: {"dtype": "F32", "shape": [values], "data_offsets": [0, 4 * values]}}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(4 * values)


FILES = {
    "config.json": json.dumps(
        {"model_type": "qwen2_5_vl", "vision_config": {"patch_size": 14, "spatial_merge_size": 2}}
    ).encode(),
    "model.safetensors.index.json": json.dumps(
        {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    ).encode(),
    "model-1.safetensors": safetensors("a"),
    "model-2.safetensors": safetensors("b", 100_000),
    "original.bin": b"not wanted",
}


@pytest.fixture
def hub():
    hub = Hub(FILES)
    yield hub
    hub.server.shutdown()
    hub.server.server_close()


def start_download(
    address: str, model_dir: Path, revision: str = REVISION, *asked: str
) -> subprocess.Popen[str]:
    return programs.start(
        "download",
        REPOSITORY,
        revision,
        model_dir,
        *asked,
        env=environment(address, model_dir),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_model_that_cannot_be_used_is_refused_before_its_weights_are_downloaded(hub, tmp_path):
    hub.files["config.json"] = json.dumps({"model_type": "llama", "vision_config": {}}).encode()
    process = start_download(hub.address, tmp_path)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert hub.asked == ["config.json"]
    for part in ("model_type 'llama'", "Qwen3-VL", "InternVL", "config.json"):
        assert part in err


def test_a_repository_without_a_revision_is_downloaded_only_when_a_person_asks(hub, tmp_path):
    refused = start_download(hub.address, tmp_path, "")
    _, err = refused.communicate(timeout=120)
    assert refused.returncode == 1
    assert hub.asked == []
    assert "captionkit download tiny" in err
    asked = start_download(hub.address, tmp_path, "", "asked")
    _, err = asked.communicate(timeout=120)
    assert asked.returncode == 0, err
    assert find_problem(tmp_path / REPOSITORY) is None
    # Once it is there, recipes may use it.
    assert start_download("http://127.0.0.1:9", tmp_path, "").communicate(timeout=120)[0].strip()


def test_the_download_command_takes_any_repository(hub, tmp_path):
    command = [sys.executable, "-m", "captionkit", "download", REPOSITORY, "--model-dir", str(tmp_path)]
    told = {**os.environ, **environment(hub.address, tmp_path)}
    done = subprocess.run(command, env=told, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert find_problem(tmp_path / REPOSITORY) is None


def test_weights_are_downloaded_at_the_pinned_revision_and_only_what_is_needed(hub, tmp_path):
    process = start_download(hub.address, tmp_path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    folder = tmp_path / REPOSITORY
    assert out.strip() == str(folder)
    assert find_problem(folder) is None
    assert (folder / "model-2.safetensors").read_bytes() == FILES["model-2.safetensors"]
    assert not (folder / "original.bin").exists()
    # What is there is not asked for again.
    hub.asked.clear()
    again = start_download("http://127.0.0.1:9", tmp_path)
    assert again.communicate(timeout=120)[0].strip() == str(folder)
    assert hub.asked == []


def test_several_processes_download_once(hub, tmp_path):
    processes = [start_download(hub.address, tmp_path) for _ in range(3)]
    for process in processes:
        assert process.communicate(timeout=180)[0].strip() == str(tmp_path / REPOSITORY)
    assert hub.asked.count("model-2.safetensors") == 1


def test_a_download_that_broke_off_is_completed_by_the_next(hub, tmp_path):
    hub.cut_after = 300_000
    first = start_download(hub.address, tmp_path)
    _, err = first.communicate(timeout=300)
    assert first.returncode == 1
    assert "captionkit download tiny" in err
    hub.cut_after = None
    hub.asked.clear()
    second = start_download(hub.address, tmp_path)
    _, err = second.communicate(timeout=120)
    assert second.returncode == 0, err
    assert "model-1.safetensors" not in hub.asked


def test_an_unknown_revision_names_repository_folder_and_command(hub, tmp_path):
    process = start_download(hub.address, tmp_path, "fffffff")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    for part in (REPOSITORY, "fffffff", str(tmp_path / REPOSITORY), "captionkit download tiny"):
        assert part in err


def test_offline_names_repository_folder_and_command(tmp_path):
    process = start_download("http://127.0.0.1:9", tmp_path)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    for part in (REPOSITORY, str(tmp_path / REPOSITORY), "captionkit download tiny"):
        assert part in err
    assert "Traceback" not in err


def write_model(folder: Path, **changes: bytes | None) -> Path:
    folder.mkdir()
    for name, content in {**FILES, **changes}.items():
        if content is not None:
            (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"config.json": None}, "config.json is missing"),
        ({"model-2.safetensors": None}, "model-2.safetensors is missing"),
        ({"model-2.safetensors": FILES["model-2.safetensors"][:-1]}, "cut off"),
        ({"model-1.safetensors": b"junk"}, "not a safetensors file"),
        ({"model.safetensors.index.json": b"{"}, "broken"),
    ],
)
def test_unfit_weights_are_refused_with_the_file_at_fault(changes, problem, tmp_path):
    folder = write_model(tmp_path / "model", **changes)
    assert problem in (find_problem(folder) or "")
    with pytest.raises(WeightsError, match="model"):
        ensure_weights(Variant("mine", folder=folder), tmp_path)


def test_variants_are_pinned_as_agreed():
    qwen, qwen3 = get_variant("qwen"), get_variant("qwen3")
    assert (qwen.repository, qwen.revision) == ("Qwen/Qwen2.5-VL-7B-Instruct", "cc59489")
    assert (qwen3.repository, qwen3.revision) == ("Qwen/Qwen3-VL-8B-Instruct", "0c351dd")
    assert get_variant("qwen2.5") == get_variant("qwen2.5-7b") == qwen
    assert get_variant("qwen3-8b") == qwen3
    assert get_variant("qwen2.5-3b").repository == "Qwen/Qwen2.5-VL-3B-Instruct"
    assert get_variant("qwen3-32b").grid_factor == 32
    # A repository named in full keeps the revision that is pinned for it.
    assert get_variant("Qwen/Qwen3-VL-8B-Instruct").revision == "0c351dd"
    assert get_variant("demo").folder.name == "demo-model"


def test_a_folder_or_a_repository_id_is_a_variant(tmp_path):
    folder = write_model(tmp_path / "mine")
    assert get_variant(str(folder)).grid_factor == 28
    assert get_variant("someone/some-model").repository == "someone/some-model"


def test_a_folder_without_a_config_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"config\.json"):
        get_variant(str(tmp_path))


def test_an_unknown_variant_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"Unsupported model variant: nonesuch; known: demo, .*qwen3"):
        get_variant("nonesuch")


@pytest.mark.parametrize("name", ["a/..", "../a", "a/.hidden", "a/b/c", "/a", "a//b"])
def test_a_name_that_could_lead_out_of_the_folder_of_models_is_no_repository(name):
    with pytest.raises(ValueError, match="Unsupported model variant"):
        get_variant(name)


def test_users_register_their_own(tmp_path):
    register(Variant("mine-test", folder=tmp_path))
    assert get_variant("mine-test").folder == tmp_path
    with pytest.raises(ValueError, match="repository or a folder"):
        register(Variant("nothing"))


@pytest.mark.parametrize(
    ("width", "height", "budget", "size"),
    [
        (1280, 720, 144 * 784, (448, 252)),
        (640, 360, 32 * 784, (196, 112)),
        (100, 100, 100_000, (112, 112)),
        (20, 20, 100_000, (56, 56)),
    ],
)
def test_frames_get_the_size_of_the_models_own_rule(width, height, budget, size):
    assert get_variant("qwen").frame_size(width, height, budget) == size


def test_pictures_no_model_takes_are_refused():
    with pytest.raises(ValueError, match="200 times"):
        get_variant("qwen").frame_size(30_000, 100)
    with pytest.raises(ValueError, match="pixel budget"):
        get_variant("qwen").frame_size(640, 360, 100)
