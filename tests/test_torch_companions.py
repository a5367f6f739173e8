"""CPU torch beside companions that were built for CUDA."""

from __future__ import annotations

import subprocess
import sys

import pytest

from captionkit.engine import torch_companions


def test_where_everything_imports_nothing_is_changed(monkeypatch):
    monkeypatch.setattr(torch_companions, "_imports", lambda name: True)
    monkeypatch.setattr(torch_companions.importlib.util, "find_spec", lambda name: object())
    before = dict(sys.modules)
    assert torch_companions.reconcile() == []
    assert sys.modules == before


def test_what_is_not_installed_is_left_alone(monkeypatch):
    monkeypatch.setattr(torch_companions.importlib.util, "find_spec", lambda name: None)
    before = dict(sys.modules)
    assert torch_companions.reconcile() == []
    assert sys.modules == before


@pytest.mark.engine
def test_transformers_video_processors_import_afterwards_whatever_the_builds():
    code = """
from captionkit.engine.torch_companions import reconcile
repaired = reconcile()
assert reconcile() == []
import torch
if torch.version.cuda is None:
    for name in ("torchaudio", "torchcodec"):
        try:
            __import__(name)
        except ImportError:
            pass
from transformers import Qwen2VLVideoProcessor
import torchvision.transforms.v2
print(sorted(repaired))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
