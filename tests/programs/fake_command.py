"""Caption with the command line and a slow fake: ``fake_command ARGUMENTS``."""

import sys
import time

from fakes import FakeBackend

from captionkit.cli import main
from captionkit.session import Session


def say(prompt: str, start: str, stage: int) -> str:
    time.sleep(0.05)
    return f"{prompt} at {start}."


fake = FakeBackend(say)
Session.open_backend = lambda *_: fake
sys.exit(main(sys.argv[1:]))
