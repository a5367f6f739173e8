"""Fixtures that tests share: one real engine for all that need it, and a fake for the rest."""

from __future__ import annotations

import importlib.util

import pytest
from common import VIDEOS
from fakes import FakeBackend

import captionkit as ck
from captionkit.stages import CaptionPreparationStage, QwenVL


def pytest_collection_modifyitems(items):
    """Fast tests first: what needs the engine comes last."""
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
    """The demo model on the engine that all tests share (`Engine.get` returns the live one)."""
    model = QwenVL(model_variant="demo", max_output_tokens=64)
    model.setup()
    return model


@pytest.fixture
def fake() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def session(fake, tmp_path):
    """Four windows of one film, captioned by the fake."""
    session = ck.Session(VIDEOS / "harbour.mp4", store=tmp_path / "runs.sqlite", backend=fake)
    yield session
    session.close()


@pytest.fixture
def preparation():
    stage = CaptionPreparationStage(model_variant="demo")
    stage.setup()
    yield stage
    stage.teardown()
