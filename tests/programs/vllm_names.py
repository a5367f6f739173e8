"""Import names of vLLM (``MODULE:NAME``), look the engine's methods up, and build its configuration."""

import importlib
import sys

from captionkit.engine.torch_companions import reconcile

reconcile()

from common import DATA  # noqa: E402

from captionkit.engine.arguments import engine_arguments, tune  # noqa: E402
from captionkit.engine.protocol import EngineKey  # noqa: E402

for word in sys.argv[1:]:
    module, name = word.split(":")
    getattr(importlib.import_module(module), name)
vllm = importlib.import_module("vllm")
public = "from_vllm_config generate collective_rpc is_sleeping errored get_tokenizer shutdown"
for name in public.split():
    assert hasattr(vllm.AsyncLLMEngine, name), name
renderers = importlib.import_module("vllm.renderers")
assert hasattr(renderers.BaseRenderer, "render_cmpl_async")
arguments, caches = engine_arguments(EngineKey(str(DATA / "demo-model")))
config = vllm.AsyncEngineArgs(**arguments).create_engine_config()
tune(config, caches)
assert config.scheduler_config.encoder_cache_size == caches.encoder_tokens
print("configured")
