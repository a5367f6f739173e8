# ruff: noqa: B018
# %%
from fakes import FakeBackend

import captionkit as ck

TEXTS = {"0.00": "A boat lies in the sea. A car stops.", "8.53": "A boat lies there. A ship sails."}


def say(prompt, start, stage):
    """Answer that nothing is true that has a boat or a ship; else caption the window."""
    if "Statement: " in prompt:
        return "no" if {"boat", "ship"} & set(prompt.lower().split()) else "yes"
    return TEXTS.get(start, "A car stops. A dog runs.")


wb = ck.workbench("data/harbour.mp4", store="verified.sqlite", backend=FakeBackend(say))
wb
