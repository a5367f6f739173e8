"""Caption two windows, and interrupt the run in the middle of the rest: ``stopped_run VIDEO STORE``."""

import asyncio
import os
import signal
import sys
import threading

from fakes import FakeBackend

import captionkit as ck

fake = FakeBackend()
session = ck.Session(sys.argv[1], store=sys.argv[2], backend=fake)
session.caption("Say what.", windows=session.windows.head(2))
fake.gate = asyncio.Event()
threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    session.caption("Say what.")
    print("not stopped")
except KeyboardInterrupt:
    run = session.open(2)
    print(run.status, run.progress.done)
fake.gate = None
run = session.caption("Say what.")
print(run.status, list(run.captions["text"]))
