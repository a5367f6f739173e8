# ruff: noqa: B018
# %%
import captionkit as ck

wb = ck.workbench("data/*.mp4", store="fits.sqlite")
wb
