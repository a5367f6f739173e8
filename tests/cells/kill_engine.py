# %%
import os
import signal

from captionkit.engine import Engine

os.kill(Engine.live().pid, signal.SIGKILL)
