"""Presets: settings that go together, by what they are for."""

from __future__ import annotations

from typing import Any

from captionkit.recipe import DEFAULTS

_SAMPLING = ("temperature", "top_p", "repetition_penalty")

#: Settings by the name of the preset; each sets only what it names.
PRESETS: dict[str, dict[str, Any]] = {
    "as the reference": {
        name: DEFAULTS[name]
        for name in (*_SAMPLING, "max_tokens", "sampling_fps", "pixel_budget", "seed")
    },
    "repeatable": {"temperature": 0.0, "top_p": 1.0, "seed": 0},
    "varied": {"temperature": 0.8, "top_p": 0.9, "repetition_penalty": 1.05},
    "quick look": {"max_tokens": 64, "sampling_fps": 1.0, "pixel_budget": 196 * 196},
    "fine detail": {"max_tokens": 1024, "sampling_fps": 4.0, "pixel_budget": 768 * 768},
}
