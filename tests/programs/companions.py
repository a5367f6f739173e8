"""Repair this torch's companions, and import a processor of transformers that needs them."""

import contextlib
import importlib
import sys

from captionkit.engine.torch_companions import reconcile

if "transformers-first" in sys.argv:
    looked = importlib.import_module("transformers.utils.import_utils")
    for name in ("torchaudio", "torchcodec", "torchvision"):
        assert getattr(looked, f"is_{name}_available")() in (True, False)
reconcile()
assert reconcile() == []

torch = importlib.import_module("torch")
if torch.version.cuda is None:
    for name in ("torchaudio", "torchcodec"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
importlib.import_module("torchvision.transforms.v2")
importlib.import_module("transformers.audio_utils")
processor = importlib.import_module("transformers").Qwen2VLVideoProcessor
print(processor.__name__)
