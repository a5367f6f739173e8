# ruff: noqa: B018, T201
# %%
from fakes import FakeBackend

import captionkit as ck

HOSTILE = (
    '"><img src=x onerror="window.hacked=1"></script><script>window.hacked=2</script> $$x$$ \x1b[31m'
)
wb = ck.workbench("data/*.mp4", backend=FakeBackend(say=lambda prompt, start, stage: HOSTILE))
wb
# %%
wb.board.caption(range(3), wb.tuner.recipe, batch_size=16)
print(wb.board.idle())
# %%
wb.run
