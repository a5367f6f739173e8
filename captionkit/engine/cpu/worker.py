"""The process that holds vLLM on a CPU: ``python -m captionkit.engine.cpu.worker FD``.

As `engine.worker`, with vLLM patched before it loads a model.
"""

from __future__ import annotations

# First of all: the imports below import vLLM.
from captionkit.engine.torch_companions import reconcile

reconcile()

# ruff: noqa: E402
import sys

# vLLM imports Ray if Ray is installed, for executors that are not used here. None makes that import
# raise the ImportError that vLLM expects. Measured: a start takes 11 s of processor time, not 14 s.
sys.modules["ray"] = None  # type: ignore[assignment]

from captionkit.engine import worker
from captionkit.engine.cpu.install import install

if __name__ == "__main__":
    worker.main(install)
