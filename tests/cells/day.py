# ruff: noqa: B018
# %%
from fakes import FakeBackend

import captionkit as ck

bench = ck.workbench("data/*.mp4", store="day.sqlite", backend=FakeBackend())
bench
