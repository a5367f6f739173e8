# ruff: noqa: B018, T201
# %%
import captionkit as ck

wb = ck.workbench("data/*.mp4")
wb
# %%
print(6 * 7)
# %%
print(len(wb.run.final))
