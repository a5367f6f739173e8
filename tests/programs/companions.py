"""Repair this torch's companions, and import a processor of transformers that needs them."""

import contextlib
import importlib

from captionkit.engine.torch_companions import reconcile

reconcile()
assert reconcile() == []

torch = importlib.import_module("torch")
if torch.version.cuda is None:
    for name in ("torchaudio", "torchcodec"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
importlib.import_module("torchvision.transforms.v2")
processor = importlib.import_module("transformers").Qwen2VLVideoProcessor
print(processor.__name__)
