"""Caption a video anew with the fake, without output: ``fresh_run VIDEO STORE``."""

import sys

from fakes import FakeBackend

import captionkit as ck

session = ck.Session(sys.argv[1], store=sys.argv[2], backend=FakeBackend())
session.caption("Say it.", fresh=True)
