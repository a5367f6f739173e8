"""CPU torch with companions that were built for CUDA."""

from __future__ import annotations

import sys

import programs
import pytest

from captionkit.engine import torch_companions


def test_if_everything_imports_nothing_is_changed(monkeypatch):
    monkeypatch.setattr(torch_companions, "_imports", lambda name: True)
    monkeypatch.setattr(torch_companions.importlib.util, "find_spec", lambda name: object())
    before = dict(sys.modules)
    assert torch_companions.reconcile() == []
    assert sys.modules == before


def test_packages_that_are_not_installed_are_left_alone(monkeypatch):
    monkeypatch.setattr(torch_companions.importlib.util, "find_spec", lambda name: None)
    before = dict(sys.modules)
    assert torch_companions.reconcile() == []
    assert sys.modules == before


@pytest.mark.engine
@pytest.mark.parametrize("first", [[], ["transformers-first"]])
def test_transformers_video_processors_import_afterwards_with_any_builds(first):
    assert programs.run("companions", *first).split()[-1] == "Qwen2VLVideoProcessor"
