"""Start a run on the real engine, print the engine's process id, then ``sleep`` or ``wait``.

``engine_run VIDEO STORE sleep|wait``
"""

import sys
import time

import captionkit as ck
from captionkit.engine import Engine

if __name__ == "__main__":
    session = ck.Session(sys.argv[1], store=sys.argv[2])
    task = session.start("dense", stage2=True, batch_size=1)
    while task.progress.done < 1:
        time.sleep(0.01)
    engine = Engine.live()
    assert engine is not None
    print(engine.pid, flush=True)
    if sys.argv[3] == "sleep":
        time.sleep(600)
    task.wait()
