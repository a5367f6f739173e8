"""Caption videos in two stages with a slow fake: ``fake_run VIDEOS STORE``.

Prints the run's status and the number of captions of this process.
"""

import sys
import time

from fakes import FakeBackend

import captionkit as ck


def say(prompt: str, start: str, stage: int) -> str:
    time.sleep(0.01)
    return f"{prompt} at {start}."


fake = FakeBackend(say)
session = ck.Session(sys.argv[1], store=sys.argv[2], backend=fake)
run = session.caption("Say what it is.", stage2="More: {caption}", batch_size=2)
print(run.status, len(fake.calls))
