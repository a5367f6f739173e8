"""Security: no open port, no pickle, no path from data, no token in written files."""

from __future__ import annotations

import ast
import os
import shutil
import socket
import stat

import programs
import psutil
import pytest
from common import ROOT, VIDEOS

import captionkit as ck
from captionkit.models.variants import Variant, get_variant
from captionkit.models.weights import find_problem
from captionkit.stages import Clip, Video, VideoTask

SOURCES = sorted((ROOT / "captionkit").rglob("*.py"))
DANGEROUS = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}


def test_no_module_reads_pickles_or_runs_text():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not {alias.name for alias in node.names} & DANGEROUS, path
            elif isinstance(node, ast.ImportFrom):
                assert node.module not in DANGEROUS, path
            elif isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert name not in ("eval", "exec", "os.system", "os.popen"), path
                keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert keywords.get("shell") in (None, "False"), path
                assert keywords.get("trust_remote_code") in (None, "False"), path
                if name == "torch.load":
                    assert keywords.get("weights_only") == "True", path


def test_weights_in_another_format_than_safetensors_are_refused(tmp_path):
    demo = get_variant("demo").folder
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(demo / name, tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"a pickle")
    assert "safetensors" in find_problem(tmp_path)


def test_downloads_are_pinned():
    for name in ("qwen", "qwen3"):
        variant: Variant = get_variant(name)
        assert variant.repository
        assert variant.revision
        assert set(variant.revision) <= set("0123456789abcdef")


@pytest.mark.engine
def test_no_other_process_reaches_the_engine_and_only_the_owner_reads_its_log(model):
    engine = model.backend
    family = [psutil.Process(engine.pid), *psutil.Process(engine.pid).children(recursive=True)]
    alone = leaves_network()
    for process in family:
        sockets = process.net_connections("inet")
        # torch.distributed listens on the loopback of the engine's own network namespace.
        listening = [each.laddr for each in sockets if each.status == psutil.CONN_LISTEN]
        assert {each.ip for each in listening} <= {"127.0.0.1", "::1"}
        assert not [
            each for each in sockets if each.raddr and each.raddr.ip not in ("127.0.0.1", "::1")
        ]
        if alone:
            assert os.readlink(f"/proc/{process.pid}/ns/net") != os.readlink("/proc/self/ns/net")
            for each in listening:
                with pytest.raises(OSError):
                    socket.create_connection(each, timeout=1).close()
    assert stat.S_IMODE(engine.log_path.parent.stat().st_mode) == 0o700


def leaves_network(*how: str) -> bool:
    """Return whether a new process can have its own network namespace."""
    return programs.run("leave_network", *how).strip() == "True"


def test_the_engine_runs_in_the_machines_network_if_namespaces_are_forbidden():
    assert not leaves_network("forbidden")


HOSTILE = (
    "../../outside",
    "/etc/passwd",
    "..",
    "a?b",
    "a*b",
    "x" * 300,
    "é" * 200,
    "<b>.mp4",
    ".hidden",
)


def test_no_name_from_data_leads_out_of_an_export_folder(fake, tmp_path):
    film = (VIDEOS / "winter.mp4").read_bytes()
    tasks = [
        VideoTask(Video(name, clips=[Clip(name, buffer=film + bytes([number]))]), task_id=name)
        for number, name in enumerate(HOSTILE)
    ]
    session = ck.Session(tasks, store=tmp_path / "runs.sqlite", backend=fake)
    run = session.caption("Say what it is.")
    outside = tmp_path / "outer"
    outside.mkdir()
    for name in ("vtt", "srt", "nemo"):
        run.export(outside / "in" / name, name)
    written = [
        path for path in tmp_path.rglob("*") if path.is_file() and "runs.sqlite" not in path.name
    ]
    # Each format has one file for each video, also if safe names are equal.
    assert len(written) == 3 * len(HOSTILE)
    assert all(path.is_relative_to(outside / "in") for path in written)
    session.close()


def test_exports_contain_no_token_and_no_home_folder(fake, monkeypatch, tmp_path):
    home = tmp_path / "home-of-somebody"
    (home / "films").mkdir(parents=True)
    shutil.copy(VIDEOS / "winter.mp4", home / "films")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "CAPTIONKIT_API_KEY", "VLLM_API_KEY"):
        monkeypatch.setenv(name, "hf_secretsecret")
    monkeypatch.setenv("HOME", str(home))
    session = ck.Session(str(home / "films" / "*.mp4"), store=tmp_path / "runs.sqlite", backend=fake)
    run = session.caption("Say what it is.")
    shown = run._repr_html_() + session.windows._repr_html_()
    for name in ("jsonl", "csv", "html", "vtt", "srt", "nemo", "parquet"):
        run.export(tmp_path / "out" / f"run-{name}" / f"run.{name}" if name not in ("nemo",)
                   else tmp_path / "out" / "nemo", name)  # fmt: skip
    written = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) >= 7
    for secret in (b"hf_secretsecret", os.fsencode(home)):
        assert not [each for each in written if secret in each]
        assert secret not in shown.encode()
    session.close()
