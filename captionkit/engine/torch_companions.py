"""Repairs for CPU torch beside torchvision, torchaudio and torchcodec that were built for CUDA.

PyPI's only builds of the three link against CUDA. Beside a CPU build of torch, ``import torchaudio``
and ``import torchcodec`` raise OSError (a missing CUDA library), and ``import torchvision`` raises
RuntimeError (its operators ``nms`` and ``qnms`` were never registered). transformers imports all three
if their metadata is present, so vLLM could not be imported at all.

`reconcile` acts only if an import really fails: torchaudio and torchcodec then count as not installed;
torchvision gets the schemas of the two operators, which is all that its Python transforms need. If the
builds match, it changes nothing. Nothing on disk is touched.

Call it before vLLM is imported, at the top of a module, so that vLLM's own children, which import that
module again, are repaired too. transformers may be imported already: it looks once for each package,
and is made to look again.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

_OPTIONAL = ("torchaudio", "torchcodec")
_NMS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

# A torch.library.Library takes its operators back when it is collected.
_keep_alive: list[Any] = []


def reconcile() -> list[str]:
    """Repair packages that cannot be imported beside this torch.

    Returns
    -------
    list of str
        The repaired packages, empty if all builds match.
    """
    repaired = []
    for name in _OPTIONAL:
        if sys.modules.get(name, False) is None:
            continue
        if importlib.util.find_spec(name) is not None and not _imports(name):
            _forget(name)
            # None in sys.modules makes every import of the name raise ImportError.
            sys.modules[name] = None  # type: ignore[assignment]
            _look_again(name)
            repaired.append(name)
    if importlib.util.find_spec("torchvision") is not None and not _imports("torchvision"):
        _forget("torchvision")
        from torch.library import Library

        library = Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(operator + _NMS)
        _keep_alive.append(library)
        importlib.import_module("torchvision")
        repaired.append("torchvision")
    return repaired


def _imports(name: str) -> bool:
    try:
        importlib.import_module(name)
    except (ImportError, OSError, RuntimeError):
        return False
    return True


def _look_again(name: str) -> None:
    """Make transformers, if it is imported, forget that it found a package."""
    looked = sys.modules.get("transformers.utils.import_utils")
    found = getattr(looked, f"is_{name}_available", None)
    if found is not None:
        found.cache_clear()


def _forget(name: str) -> None:
    for module in [key for key in sys.modules if key == name or key.startswith(name + ".")]:
        del sys.modules[module]
