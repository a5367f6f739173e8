"""Parts of the engine on a CPU that can be left out, one at a time, in every process.

``WITHOUT=NAME`` leaves out a patch of vLLM or a rule of the scheduler, ``ONLY_AVX2=1`` makes a
processor with more one for AVX2. Both apply to modules when they are imported.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

_FOLDER = "captionkit.engine.cpu."


def _not_registered(*names: str) -> Any:
    def edit(module: ModuleType) -> None:
        for name in names:
            getattr(module, name)
            setattr(module, name, SimpleNamespace(register_oot=lambda *_, **__: None))

    return edit


def _sets(name: str, value: object) -> Any:
    def edit(module: ModuleType) -> None:
        # Fail if the part has another name by now.
        getattr(module, name)
        setattr(module, name, value)

    return edit


def _one_ahead(module: ModuleType) -> None:
    # The room for encoded videos stays at one, whatever the batch size.
    class One(module.EncodeAhead):
        room = property(lambda self: 1, lambda self, value: None)

    module.EncodeAhead = One


#: Each part by its name: its module, and what leaves it out.
PARTS: dict[str, tuple[str, Any]] = {
    "norms": ("kernels", lambda module: module.PRIORITY.clear()),
    "rotary embedding": ("kernels", _not_registered("ApplyRotaryEmb", "MRotaryEmbedding")),
    "attention of the tower": ("kernels", _not_registered("MMEncoderAttention")),
    "repetition penalties": ("kernels", _sets("sampler", SimpleNamespace())),
    "known videos first": ("scheduler", _sets("_KNOWN_FIRST", 0.0)),
    "several videos ahead": ("install", _one_ahead),
    "tokens of four steps at once": ("inproc_core", _sets("_HELD_STEPS", 1)),
}


class _Editor(importlib.abc.MetaPathFinder):
    def __init__(self, module: str, edit: Any) -> None:
        self._module, self._edit = module, edit

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != self._module:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def load_and_edit(module: ModuleType) -> None:
            load(module)
            self._edit(module)

        spec.loader.exec_module = load_and_edit  # type: ignore[method-assign]
        return spec


def _only_avx2(torch_cpu: ModuleType) -> None:
    # vLLM picks its kernels by this.
    torch_cpu._is_avx512_supported = lambda: False  # type: ignore[attr-defined]


def apply() -> None:
    """Leave out what the environment names, in modules that are imported from now on."""
    if part := os.environ.get("WITHOUT"):
        module, edit = PARTS[part]
        sys.meta_path.insert(0, _Editor(_FOLDER + module, edit))
    if os.environ.get("ONLY_AVX2"):
        no_bf16 = _sets("has_bf16", lambda cpuinfo: False)
        sys.meta_path.insert(0, _Editor("captionkit.system.hardware", no_bf16))
        sys.meta_path.insert(0, _Editor("torch.cpu", _only_avx2))
