"""Start processes of ours, print a line when they are up, and go on: ``family engine|plain``."""

import sys
import tempfile
from pathlib import Path

from common import noise_inputs

from captionkit.bench.sides import Plain
from captionkit.stages import QwenVL

if sys.argv[1] == "plain":
    plain = Plain(Path(tempfile.mkdtemp()) / "log")
    plain.wait()
    print("up", flush=True)
else:
    model = QwenVL(model_variant="demo", max_output_tokens=2000)
    model.setup()
    print("up", flush=True)
    model.generate([noise_inputs(number) for number in range(400)])
