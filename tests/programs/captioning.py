"""Start an engine, print its process id, and caption until interrupted, or ``wait`` to be killed."""

import sys
import time

from common import noise_inputs

from captionkit.stages import QwenVL

model = QwenVL(model_variant="demo", max_output_tokens=2000)
model.setup()
if sys.argv[1] == "wait":
    print(model.backend.pid, flush=True)
    time.sleep(600)
try:
    print(model.backend.pid, flush=True)
    model.generate([noise_inputs(n) for n in range(200)])
except KeyboardInterrupt:
    print("interrupted", flush=True)
short = QwenVL(model_variant="demo", max_output_tokens=8)
print(len(short.generate([noise_inputs(n) for n in range(4)])), flush=True)
print(short.backend.pid, flush=True)
