"""Claim all jobs of a run in the store and keep them: ``claim STORE RUN``."""

import sys
import time

from captionkit.store import Store

jobs = Store(sys.argv[1]).begin_work(int(sys.argv[2])).claim(1000)
print("claimed", len(jobs), flush=True)
time.sleep(600)
