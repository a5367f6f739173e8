"""Families of models: which there are, and the family of a model by its own files.

A new family is one file here and its class in `FAMILIES`.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from captionkit.models.families.base import Family
from captionkit.models.families.gemma3 import Gemma3
from captionkit.models.families.gemma4 import Gemma4
from captionkit.models.families.glm4v import Glm4V
from captionkit.models.families.internvl import InternVL
from captionkit.models.families.llava_onevision import LlavaOnevision
from captionkit.models.families.minicpm_v import MiniCpmV
from captionkit.models.families.qwen3_vl import Qwen3VL
from captionkit.models.families.qwen_vl import QwenVL
from captionkit.models.families.smolvlm import SmolVlm

__all__ = ["CONFIG", "FAMILIES", "PROCESSOR_FILES", "Family", "find_family", "read_family"]

CONFIG = "config.json"
# The first has all settings of a processor; older models have one file for images and one for videos.
PROCESSOR_FILES = (
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
)

FAMILIES: tuple[type[Family], ...] = (
    QwenVL, Qwen3VL, InternVL, LlavaOnevision, Glm4V, Gemma4, MiniCpmV, SmolVlm, Gemma3,
)  # fmt: skip

_WRITES = re.compile("For(ConditionalGeneration|CausalLM)$")
_OWN_CODE = "it runs code of its repository, which captionkit never does"
# Models that people will try, by model_type or architecture in lower case, and why they cannot be used.
_REFUSED = {
    "internvl_chat": f"{_OWN_CODE}; the same model is published with -hf at the end of its name",
    "minicpmv": f"{_OWN_CODE}; MiniCPM-V 4.6 and later do not need any",
    "minicpmo": f"{_OWN_CODE}; MiniCPM-V 4.6 and later do not need any",
    "keyevl1_5": _OWN_CODE,
    "keye": _OWN_CODE,
    "molmo2": _OWN_CODE,
    "nemotronh_nano_vl_v2": _OWN_CODE,
    "tarsierforconditionalgeneration": "vLLM no longer runs it",
    "tarsier2forconditionalgeneration": "vLLM no longer runs it",
}


def find_family(config: Mapping[str, Any], processor: Mapping[str, Any] | None = None) -> Family:
    """Return the family of a model, with the model's facts.

    Parameters
    ----------
    config, processor
        As for `Family`.

    Raises
    ------
    ValueError
        If no family knows the model, or a value in its files is not usable; lists the known families.
    """
    kind = config.get("model_type")
    try:
        for family in FAMILIES:
            if kind in family.model_types:
                if mute := [a for a in config.get("architectures") or () if not _WRITES.search(a)]:
                    raise ValueError(f"its architecture {mute[0]} writes no text")
                if not isinstance(config.get("vision_config"), Mapping):
                    raise ValueError("its config.json has no vision_config, so it sees no video")
                found = family(config, processor or {})
                # Compute what the files must tell, so that a broken value is reported here.
                found.tokens(*found.frame_size(1280, 720, found.default_pixels), 4)
                return found
        raise ValueError(_reason(config))
    except (ValueError, TypeError, ZeroDivisionError, AttributeError, LookupError) as error:
        named = f"model_type {kind!r}" if kind else "a config.json without model_type"
        raise ValueError(f"a model with {named} cannot be used: {error}. {_known()}") from error


def _reason(config: Mapping[str, Any]) -> str:
    """Return why no family knows a model."""
    for name in (config.get("model_type"), *(config.get("architectures") or ())):
        if reason := _REFUSED.get(str(name).lower()):
            return reason
    return _OWN_CODE if config.get("auto_map") else "its family is not known"


def read_family(folder: Path) -> Family:
    """Return the family of a model by the files in its folder.

    Raises
    ------
    ValueError
        If ``config.json`` is missing or broken, or as `find_family`.
    """
    path = folder / CONFIG
    if not path.exists():
        raise ValueError(
            f"{folder} holds no {CONFIG}: give the folder with a model's {CONFIG}, tokenizer and "
            "*.safetensors"
        )
    changed = tuple(
        (folder / name).stat().st_mtime_ns if (folder / name).exists() else 0
        for name in (CONFIG, *PROCESSOR_FILES)
    )
    return _read(folder, changed)


@functools.lru_cache(maxsize=16)
def _read(folder: Path, changed: tuple[int, ...]) -> Family:
    """Read a folder's files again if one of them has changed."""
    whole, images, videos = (_content(folder / name) for name in PROCESSOR_FILES)
    parts = {
        "image_processor": {**images, **(whole.get("image_processor") or {})},
        "video_processor": {**images, **videos, **(whole.get("video_processor") or {})},
    }
    try:
        return find_family(_content(folder / CONFIG), {**images, **whole, **parts})
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG}: {error}") from error


def _content(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a JSON object")
    return content


def _known() -> str:
    return "Known families: " + ", ".join(family.name for family in FAMILIES)
