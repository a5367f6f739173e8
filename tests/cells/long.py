# ruff: noqa: B018, T201
# %%
import captionkit as ck

wb = ck.workbench("long", recipe=ck.Recipe(window_size=4, remainder_threshold=4))
wb
# %%
print(wb.browser.value)
