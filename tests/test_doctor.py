"""`captionkit doctor` on machines with GPUs, by what nvidia-smi says; each finding with what to do."""

from __future__ import annotations

import shutil

import pytest

from captionkit.cli import device, main
from captionkit.cli.device import examine_device, examine_model
from captionkit.cli.doctor import examine
from captionkit.engine import Engine
from captionkit.models.variants import get_variant
from captionkit.system import hardware

# index, uuid, name, capability, MiB, MiB free, driver, MIG: as these cards' own nvidia-smi prints them.
CARDS = {
    "L4": "0, GPU-1a, NVIDIA L4, 8.9, 23034, 22560, 570.86.15, [N/A]",
    "A10": "0, GPU-1b, NVIDIA A10, 8.6, 23028, 22500, 570.86.15, [N/A]",
    "3090": "0, GPU-1c, NVIDIA GeForce RTX 3090, 8.6, 24576, 24100, 570.86.15, [N/A]",
    "4090": "0, GPU-1d, NVIDIA GeForce RTX 4090, 8.9, 24564, 23900, 570.86.15, [N/A]",
    "A100-40": "0, GPU-1e, NVIDIA A100-SXM4-40GB, 8.0, 40960, 40300, 570.86.15, Disabled",
    "A100-80": "0, GPU-1f, NVIDIA A100 80GB PCIe, 8.0, 81920, 81000, 570.86.15, Disabled",
    "H100": "0, GPU-2a, NVIDIA H100 80GB HBM3, 9.0, 81559, 81000, 570.86.15, Disabled",
    "T4": "0, GPU-2b, Tesla T4, 7.5, 15360, 14900, 570.86.15, [N/A]",
    "V100": "0, GPU-2c, Tesla V100-SXM2-16GB, 7.0, 16160, 15900, 570.86.15, [N/A]",
    "GB10": "0, GPU-2d, NVIDIA GB10, 12.1, [N/A], [N/A], 580.95.05, [N/A]",
}
HEAD = "| NVIDIA-SMI 570.86.15    Driver Version: 570.86.15    CUDA Version: 12.8 |"


@pytest.fixture(autouse=True)
def _gpu_build(monkeypatch):
    """A machine with vLLM's CUDA build, and 256 GiB of memory."""
    monkeypatch.setattr(device, "runs_on_cpu", lambda: False)
    monkeypatch.setattr(hardware, "torch_cuda", lambda: (12, 8))
    monkeypatch.setattr(hardware, "memory", lambda: (2**38, 2**37))


def found(topic, findings=None):
    """The finding of a topic."""
    (only,) = [each for each in findings or examine_device() if each.topic == topic]
    return only


@pytest.mark.parametrize("card", ["L4", "A10", "3090", "4090", "A100-40", "A100-80", "H100"])
def test_each_card_is_named_with_its_free_memory_and_what_a_7b_model_takes_of_it(smi, card, tmp_path):
    smi(CARDS[card], head=HEAD)
    _, _, name, capability, total, free, *_ = CARDS[card].split(", ")
    said = found("GPU 0").found
    for part in (name, f"capability {capability}", f"{int(total):,} MiB", f"{int(free):,} free"):
        assert part in said
    assert found("GPU 0").advice == ""
    assert "CUDA up to 12.8" in found("driver").found
    assert found("driver").advice == ""
    for model in ("qwen", "qwen3"):
        plan, cache = examine_model(get_variant(model), tmp_path)
        assert plan.topic == f"{model} on {name}"
        assert "vLLM is asked for max_model_len" in plan.found
        assert "gpu_memory_utilization" in plan.found
        assert not plan.blocks
        assert "windows of 20 frames" in cache.found
    fp8 = found("fp8")
    if float(capability) >= 8.9:
        assert fp8.found.startswith("yes")
    else:
        assert fp8.found.startswith("weights only")
        assert "saves memory, not time" in fp8.advice
        eight, _ = examine_model(get_variant("qwen"), tmp_path, fp8=True)
        assert "fp8 weights only" in eight.found


def test_a_model_that_does_not_fit_blocks_with_the_numbers_and_what_to_lower(smi, tmp_path):
    smi(CARDS["L4"].replace("22560", "9000"), head=HEAD)
    assert "nvidia-smi shows it" in found("GPU 0").advice
    (plan,) = examine_model(get_variant("qwen"), tmp_path)
    assert plan.blocks
    assert "the engine needs" in plan.found
    assert "8.8 GiB are free" in plan.found
    assert "end what else uses NVIDIA L4" in plan.advice
    (plan,) = examine_model(get_variant("qwen3"), tmp_path, max_model_len=32_768)
    assert "end what else uses NVIDIA L4 (nvidia-smi shows it) and lower max_model_len" in plan.advice


def test_every_gpu_is_held_against_the_model_and_only_the_one_in_use_blocks(smi, tmp_path):
    smi(CARDS["T4"], CARDS["H100"].replace("0, GPU", "1, GPU", 1), head=HEAD)
    small, large = examine_model(get_variant("qwen"), tmp_path)
    assert (small.topic, small.blocks) == ("qwen on Tesla T4", True)
    assert (large.topic, large.blocks) == ("qwen on NVIDIA H100 80GB HBM3", False)
    assert found("GPU 0").found.endswith("in use")
    assert "float16" in found("GPU 0").advice
    # fp8 is asked of the GPU in use, and the other one is named.
    assert found("fp8").found == "no (Tesla T4, capability 7.5)"
    assert "CUDA_VISIBLE_DEVICES=1 takes NVIDIA H100" in found("fp8").advice
    small, large = examine_model(get_variant("qwen2.5-3b"), tmp_path, fp8=True)
    assert "found: Tesla T4 (7.5)" in small.advice
    assert "vLLM is asked for" in large.found


def test_a_card_too_old_for_vllm_blocks(smi):
    smi(CARDS["V100"], head=HEAD)
    assert found("GPU 0").blocks
    assert "capability 7.5 or more" in found("GPU 0").advice


def test_memory_that_is_not_told_is_the_machines(smi, tmp_path):
    smi(CARDS["GB10"], head=HEAD)
    assert "memory not told: shares the machine's, 262,144 MiB" in found("GPU 0").found
    assert "memory_share" in found("GPU 0").advice
    plan, _ = examine_model(get_variant("qwen"), tmp_path)
    assert "max_model_len 32768" in plan.found


def test_a_slice_of_a_gpu_is_what_a_model_gets(smi, tmp_path, monkeypatch):
    parts = (
        "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-2a)\n"
        "  MIG 1g.10gb     Device  0: (UUID: MIG-1)\n"
        "  MIG 3g.40gb     Device  1: (UUID: MIG-2)\n"
    )
    smi(CARDS["H100"].replace("Disabled", "Enabled"), parts=parts, head=HEAD)
    (small,) = examine_model(get_variant("qwen"), tmp_path)
    assert small.topic == "qwen on NVIDIA H100 80GB HBM3 MIG 1g.10gb"
    assert small.blocks
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-2")
    assert not examine_model(get_variant("qwen"), tmp_path)[0].blocks
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    smi(CARDS["H100"].replace("Disabled", "Enabled"), head=HEAD)
    assert "has no MIG device" in found("MIG").found
    assert "nvidia-smi mig -cgi" in found("MIG").advice


@pytest.mark.parametrize(
    ("visible", "said", "todo", "blocks"),
    [
        ("1", "'1' of 0 (NVIDIA L4), 1 (NVIDIA H100 80GB HBM3)", "", False),
        ("GPU-2a", "'GPU-2a' of", "", False),
        ("", "'' hides all GPUs", "unset it", True),
        ("-1", "'-1' hides all GPUs: 0 (NVIDIA L4)", "unset it", True),
        ("GPU-nonesuch", "hides all GPUs", "nvidia-smi -L", True),
        ("1,7,0", "CUDA finds no GPU '7' and stops there", "take that entry out", False),
    ],
)
def test_what_cuda_visible_devices_hides_is_said(smi, monkeypatch, visible, said, todo, blocks):
    smi(CARDS["L4"], CARDS["H100"].replace("0, GPU", "1, GPU", 1), head=HEAD)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    finding = found("CUDA_VISIBLE_DEVICES")
    assert said in finding.found
    assert todo in finding.advice
    assert bool(finding.advice) is bool(todo)
    assert finding.blocks is blocks
    if not blocks:
        assert "H100" in found("GPU 1").found


@pytest.mark.parametrize(
    ("runs", "built", "todo", "blocks"),
    [
        ("12.8", (12, 8), "", False),
        ("13.0", (12, 9), "", False),
        ("12.4", (12, 9), "if a kernel is missing", False),
        ("12.4", (13, 0), "for CUDA 13.0 or newer, or on a data-center GPU install cuda-compat", True),
        ("N/A", (12, 9), "does not tell its CUDA version", False),
        ("12.4", None, "", False),
    ],
)
def test_a_driver_older_than_the_cuda_build_is_told(smi, monkeypatch, runs, built, todo, blocks):
    smi(CARDS["L4"], head=HEAD.replace("12.8", runs))
    monkeypatch.setattr(hardware, "torch_cuda", lambda: built)
    finding = found("driver")
    assert "570.86.15" in finding.found
    assert todo in finding.advice
    assert bool(finding.advice) is bool(todo)
    assert finding.blocks is blocks


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("__version__ = '2.13.0+cu130'\ncuda: Optional[str] = '13.0'\n", (13, 0)),
        ("cuda = '12.9'\n", (12, 9)),
        ("__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\n", None),
    ],
)
def test_the_cuda_that_torch_is_built_for_is_read_without_an_import(
    tmp_path, monkeypatch, text, version
):
    monkeypatch.undo()
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise AssertionError")
    (tmp_path / "torch" / "version.py").write_text(text)
    spec = hardware.importlib.util.spec_from_file_location("torch", tmp_path / "torch" / "__init__.py")
    monkeypatch.setattr(hardware.importlib.util, "find_spec", lambda name: spec)
    assert hardware.torch_cuda() == version


def test_no_compiler_and_no_headers_block_with_the_packages_to_install(smi, monkeypatch, tmp_path):
    smi(CARDS["L4"], head=HEAD)
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(device.sysconfig, "get_path", lambda name: str(tmp_path))
    assert not found("Python headers").advice
    monkeypatch.setenv("CC", "cat")
    assert found("C compiler").found == shutil.which("cat")
    (tmp_path / "Python.h").unlink()
    monkeypatch.setattr(device.shutil, "which", lambda name: None)
    compiler, headers = found("C compiler"), found("Python headers")
    assert compiler.blocks
    assert "unset CC, or install gcc" in compiler.advice
    assert headers.blocks
    assert "-dev" in headers.advice
    monkeypatch.delenv("CC")
    assert found("C compiler").advice.startswith("install gcc")


def test_a_driver_that_fails_is_said_with_its_own_words(smi):
    smi(parts="NVIDIA-SMI has failed because it couldn't communicate with the driver", code=9)
    finding = found("GPU")
    assert "couldn't communicate" in finding.found
    assert finding.advice
    assert finding.blocks
    smi('Field "mig.mode.current" is not a valid field to query.', parts="GPU 0: Tesla K80 (UUID: x)")
    assert "too old to describe GPU 0: Tesla K80" in found("GPU").found
    assert "install a new NVIDIA driver" in found("GPU").advice


def test_a_processor_without_bfloat16_is_said_where_it_is_used(monkeypatch):
    slow = hardware.Processor("Core i7-8550U", 16_000, 9000, bf16=False)
    monkeypatch.setattr(hardware, "find_processor", lambda: slow)
    assert found("processor").advice == ""
    monkeypatch.setattr(device, "runs_on_cpu", lambda: True)
    assert "float32: the processor has no bfloat16" in found("processor").found
    assert "float32 by themselves" in found("processor").advice


def test_a_model_of_unknown_size_is_known_after_its_download(smi, tmp_path):
    smi(CARDS["L4"])
    (finding,) = examine_model(get_variant("someone/Some-VL-7B"), tmp_path)
    assert "captionkit download someone/Some-VL-7B" in finding.advice


def test_the_command_prints_the_plan_of_the_model_that_is_asked_for(smi, tmp_path, monkeypatch, capsys):
    smi(CARDS["L4"], head=HEAD)
    monkeypatch.setenv("COLUMNS", "300")
    words = ["doctor", "--model", "qwen", "--model-dir", str(tmp_path)]
    main(words)
    printed = capsys.readouterr().out
    for word in ("qwen on NVIDIA L4", "max_num_seqs", "gpu_memory_utilization", "window cache"):
        assert word in printed
    assert main([*words, "--max-model-len", "32768", "--memory-share", "0.7"]) == 1
    assert "are missing" in capsys.readouterr().out.replace("\n", " ")
    main([*words, "--tensor-parallel", "3"])
    assert "tensor_parallel" in capsys.readouterr().out
    assert main([*words, "--memory-share", "7"]) == 2
    assert main(["doctor", "--model", "nonesuch"]) == 2
    assert "known: demo" in capsys.readouterr().err


def test_vllms_cuda_build_without_a_visible_gpu_says_that_gpus_are_hidden(smi, monkeypatch, tmp_path):
    smi(CARDS["L4"], head=HEAD)
    versions = {"vllm": "0.32.0", "torch": "2.13.0", "av": "18.1.0"}
    monkeypatch.setattr("captionkit.cli.doctor._version", versions.get)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    finding = found("vLLM", examine(tmp_path, get_variant("qwen")))
    assert "none is visible" in finding.advice


def test_how_vllms_core_runs_and_how_to_choose_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr("captionkit.engine.process.runs_on_cpu", lambda: True)
    monkeypatch.delenv("VLLM_ENABLE_V1_MULTIPROCESSING", raising=False)

    def said():
        return found("vLLM's core", examine(tmp_path, get_variant("demo"))).found

    assert "VLLM_ENABLE_V1_MULTIPROCESSING=1 gives it its own" in said()
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    monkeypatch.setenv("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    assert said() == "a process of its own (spawn; VLLM_WORKER_MULTIPROC_METHOD)"
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" in Engine.__doc__
