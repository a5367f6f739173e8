"""What this machine has: GPUs by nvidia-smi, processor by its flags, memory by the container."""

from __future__ import annotations

from pathlib import Path

import pytest

from captionkit.system import hardware

GIB = 2**30
A10 = "0, GPU-aaaa1111-0000, NVIDIA A10, 8.6, 23028, 22500, 550.54.15, [N/A]"
H100 = "1, GPU-bbbb2222-0000, NVIDIA H100 80GB HBM3, 9.0, 81559, 12000, 550.54.15, Disabled"
L4 = "2, GPU-cccc3333-0000, NVIDIA L4, 8.9, 23034, [N/A], 550.54.15, [N/A]"
LIST = """\
GPU 0: NVIDIA A10 (UUID: GPU-aaaa1111-0000)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-bbbb2222-0000)
  MIG 3g.40gb     Device  0: (UUID: MIG-1234-5678)
  MIG 1g.10gb+me  Device  1: (UUID: MIG-9999-0000)
"""


@pytest.fixture(autouse=True)
def _three(smi):
    smi(A10, H100, L4, parts=LIST)


def test_gpus_have_their_free_memory_and_one_that_does_not_say_counts_as_free(smi):
    a10, h100, l4 = hardware.find_gpus()
    assert (a10.name, a10.capability, a10.memory_mib, a10.free_mib) == ("NVIDIA A10", 8.6, 23028, 22500)
    assert (h100.free_mib, h100.driver, h100.index) == (12000, "550.54.15", 1)
    assert l4.free_mib == l4.memory_mib == 23034


def test_a_gpu_that_does_not_say_its_memory_shares_the_machines(smi):
    smi("0, GPU-d, NVIDIA GB10, 12.1, [N/A], [N/A], 580.95.05, [N/A]")
    (gpu,) = hardware.find_gpus()
    assert gpu.shared
    assert gpu.memory_mib == hardware.find_processor().memory_mib
    assert 0 < gpu.free_mib <= gpu.memory_mib


@pytest.mark.parametrize("mig", [", [N/A]", ", [Not Supported]", ", N/A", ", Disabled", ""])
def test_a_gpu_without_mig_is_read_whatever_the_driver_says_about_it(smi, mig):
    smi(f"0, GPU-aaaa1111-0000, NVIDIA RTX A4000, Laptop, 8.6, 16376, 15000, 535.1{mig}")
    (gpu,) = hardware.find_gpus()
    assert (gpu.name, gpu.memory_mib, gpu.free_mib, gpu.driver, gpu.mig) == (
        "NVIDIA RTX A4000, Laptop", 16376, 15000, "535.1", False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "table",
    [
        "",
        "No devices were found",
        "NVIDIA-SMI has failed because it couldn't communicate",
        "a, b",
    ],
)
def test_a_message_in_place_of_the_table_is_no_gpu(smi, table):
    smi(table)
    assert hardware.find_gpus() == []


def test_a_failing_or_missing_driver_is_no_gpu(smi, monkeypatch):
    smi(A10, code=9)
    assert hardware.find_gpus() == []
    assert hardware.driver_cuda() is None
    monkeypatch.setenv("PATH", "/nowhere")
    assert hardware.find_gpus() == []


@pytest.mark.parametrize(
    ("visible", "indexes"),
    [
        ("0", [0]),
        ("2,0", [2, 0]),
        (" 1 , 2 ", [1, 2]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("GPU-bbbb", [1]),
        ("GPU-cccc3333-0000,0", [2, 0]),
        # CUDA stops at the first number that is not there.
        ("0,7,1", [0]),
    ],
)
def test_only_gpus_that_cuda_may_use_are_found(smi, monkeypatch, visible, indexes):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu.index for gpu in hardware.find_gpus()] == indexes
    assert len(hardware.find_gpus(hidden=True)) == 3


def test_a_slice_of_a_gpu_has_the_memory_of_its_profile(smi, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1234-5678")
    (part,) = hardware.find_gpus()
    assert part.name == "NVIDIA H100 80GB HBM3 MIG 3g.40gb"
    assert 38_000 <= part.memory_mib <= 40_000
    assert part.capability == 9.0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-9999-0000")
    assert hardware.find_gpus()[0].name.endswith("1g.10gb+me")


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        (None, ["NVIDIA A10", "NVIDIA H100 80GB HBM3 MIG 3g.40gb", "NVIDIA L4"]),
        ("1", ["NVIDIA H100 80GB HBM3 MIG 3g.40gb"]),
        ("GPU-bbbb,0", ["NVIDIA H100 80GB HBM3 MIG 3g.40gb", "NVIDIA A10"]),
        ("MIG-9999-0000", ["NVIDIA H100 80GB HBM3 MIG 1g.10gb+me"]),
    ],
)
def test_a_gpu_that_is_divided_counts_as_its_first_slice(smi, monkeypatch, visible, names):
    smi(A10, H100.replace("Disabled", "Enabled"), L4, parts=LIST)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu.name for gpu in hardware.find_gpus()] == names
    assert [gpu.name for gpu in hardware.find_gpus(hidden=True)][1] == "NVIDIA H100 80GB HBM3"
    # Without a slice, CUDA does not use it.
    smi(A10, H100.replace("Disabled", "Enabled"), L4)
    assert all("H100" not in gpu.name for gpu in hardware.find_gpus())


@pytest.mark.parametrize(
    ("head", "version"),
    [
        ("| NVIDIA-SMI 550.54.15    Driver Version: 550.54.15    CUDA Version: 12.4     |\n", (12, 4)),
        ("Driver Version: 590.1 | CUDA UMD Version: 13.1 |", (13, 1)),
        ("CUDA Version: N/A", None),
    ],
)
def test_the_newest_cuda_of_the_driver(smi, head, version):
    smi(head=head)
    assert hardware.driver_cuda() == version


def test_fp8_is_asked_of_the_gpu_in_use(smi, monkeypatch):
    smi("0, GPU-a, Tesla T4, 7.5, 15360, 15000, 550, [N/A]", H100)
    with pytest.raises(ValueError, match=r"found: Tesla T4 \(7\.5\)"):
        hardware.require_fp8()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    hardware.require_fp8()
    # Ampere keeps weights alone in fp8.
    smi(A10)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    hardware.require_fp8()


@pytest.mark.parametrize(
    ("cpuinfo", "able"),
    [
        ("flags\t\t: fpu sse avx2 avx512f avx512_bf16 avx512_vnni\n", True),
        ("flags\t\t: fpu avx2 amx_bf16 amx_tile\n", True),
        ("flags\t\t: fpu sse sse2 avx avx2 fma\n", False),
        ("flags\t\t: fpu avx2 avx512f avx512bw avx512_vnni\n", False),
        ("Features\t: fp asimd evtstrm aes bf16 i8mm\n", True),
        ("Features\t: fp asimd evtstrm aes crc32\n", False),
        ("model name\t: something bf16 in its name\nflags\t\t: fpu avx2\n", False),
        ("", True),
        ("processor\t: 0\nfeatures\t: esan3 zarch\n", True),
    ],
)
def test_a_processor_computes_in_bfloat16_if_its_flags_say_so(cpuinfo, able):
    assert hardware.has_bf16(cpuinfo) is able


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content + "\n")


def membership(root: Path, *lines: str) -> None:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("\n".join(lines) + "\n")


def test_the_limit_of_a_container_counts_with_cgroup_2(tmp_path):
    membership(tmp_path, "0::/a/b")
    top = tmp_path / "sys/fs/cgroup"
    group(
        top / "a",
        memory__max=str(2 * GIB),
        memory__current=str(GIB),
        memory__stat=f"anon 5\ninactive_file {GIB // 2}",
    )
    group(top / "a/b", memory__max="max", memory__current="5")
    assert hardware.memory(tmp_path) == (2 * GIB, 3 * GIB // 2)


def test_the_limit_of_a_container_counts_with_cgroup_1(tmp_path):
    membership(tmp_path, "12:cpu,cpuacct:/docker/x", "9:memory:/docker/x")
    # In a container the path of the host is not there, and the top is the group itself.
    group(
        tmp_path / "sys/fs/cgroup/memory",
        memory__limit_in_bytes=str(GIB),
        memory__usage_in_bytes=str(GIB // 4),
        memory__stat="total_inactive_file 0",
    )
    assert hardware.memory(tmp_path) == (GIB, 3 * GIB // 4)


def test_without_a_limit_the_machines_memory_counts(tmp_path):
    total, free = hardware.memory(tmp_path)
    assert 0 < free <= total
    membership(tmp_path, "0::/")
    group(tmp_path / "sys/fs/cgroup", memory__max="max")
    assert hardware.memory(tmp_path)[0] == total
