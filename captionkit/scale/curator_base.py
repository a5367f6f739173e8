"""What captionkit's stages for NeMo Curator have in common, by the installed version."""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from nemo_curator.stages.base import ProcessingStage
from nemo_curator.tasks.video import VideoTask

from captionkit.models.variants import get_variant
from captionkit.pipeline.backends import EngineOptions, check_options
from captionkit.prompts import check_template, placeholders
from captionkit.stages.base import Portable

VERSION = tuple(int(part) for part in importlib.metadata.version("nemo-curator").split(".")[:2])
#: Names of models in the installed version, the first by default; and in all versions.
NAMES = ("qwen2.5", "qwen3") if VERSION >= (1, 3) else ("qwen",)
ALL_NAMES = ("qwen2.5", "qwen", "qwen3")
# vLLM's options that captionkit's engine has too, by its own names.
_ENGINE_OPTIONS = {
    "max_model_len": "max_model_len",
    "gpu_memory_utilization": "memory_share",
    "tensor_parallel_size": "tensor_parallel",
}
# In version 1.0, name and resources are properties of attributes with an underscore.
_HIDDEN = isinstance(inspect.getattr_static(ProcessingStage, "name"), property)
_Class = TypeVar("_Class", bound="type[Stage]")


def in_order(*order: str) -> Callable[[_Class], _Class]:
    """Let a stage take positional arguments in this order, and its name as any version spells it."""

    def decorate(cls: _Class) -> _Class:
        made = cls.__init__

        @functools.wraps(made)
        def init(self: Any, *given: Any, **keywords: Any) -> None:
            if len(given) > len(order):
                raise TypeError(
                    f"{cls.__name__} takes {len(order)} positional arguments; {len(given)} given"
                )
            values = dict(zip(order, given, strict=False))
            if both := values.keys() & keywords.keys():
                raise TypeError(f"{cls.__name__} got {sorted(both)[0]} twice, by position and by name")
            values |= keywords
            if "_name" in values:
                values["name"] = values.pop("_name")
            made(self, **values)

        cls.__init__ = init  # type: ignore[method-assign]
        # A subclass that is a dataclass takes the same positional arguments, then its own.
        known = cls.__dataclass_fields__
        for name in order:
            known[name].kw_only = False
        cls.__dataclass_fields__ = {name: known[name] for name in dict.fromkeys((*order, *known))}
        if _HIDDEN:
            # The default of the field stands where the base class has its property.
            cls.name = property(
                lambda self: self._name, lambda self, name: setattr(self, "_name", name)
            )
        return cls

    return decorate


class Stage(Portable, ProcessingStage[VideoTask, VideoTask]):
    """Inputs, outputs and resources of all stages."""

    def inputs(self) -> tuple[list[str], list[str]]:
        """Attributes that the stage reads."""
        return ["data"], ["clips"]

    def outputs(self) -> tuple[list[str], list[str]]:
        """Attributes that the stage writes."""
        return ["data"], ["clips"]

    def set_resources(self, resources: Any) -> None:
        """Set what a worker needs."""
        setattr(self, "_resources" if _HIDDEN else "resources", resources)


def names(variant: str) -> list[str]:
    """Return the variant's name, and names of the same model in any version of NeMo Curator."""
    repository = get_variant(variant).repository
    same = [each for each in ALL_NAMES if repository and get_variant(each).repository == repository]
    return list(dict.fromkeys([variant, *same]))


def as_text(text: str | None, known: tuple[str, ...]) -> str | None:
    """Return a prompt in which unknown placeholders are plain text, as all braces in NeMo Curator."""
    for name in placeholders(text or ""):
        try:
            check_template(f"{{{name}}}", known)
        except ValueError as error:
            warnings.warn(f"taken as plain text: {error}", stacklevel=5)
            text = (text or "").replace(f"{{{name}}}", f"{{{{{name}}}}}")
    return text


def warn_of_unused(vllm_kwargs: dict[str, Any]) -> None:
    """Warn of options of vLLM that are not handed on, from a stage's ``__post_init__``."""
    if unused := sorted(vllm_kwargs.keys() - _ENGINE_OPTIONS.keys()):
        warnings.warn(
            f"vllm_kwargs: {', '.join(unused)} not handed on, since captionkit plans the engine's "
            f"memory and batches itself; handed on are {', '.join(_ENGINE_OPTIONS)}",
            stacklevel=5,
        )


def engine_options(vllm_kwargs: dict[str, Any]) -> EngineOptions:
    """Return the engine's options among options of vLLM.

    Raises
    ------
    ValueError
        If one is no number, or does not fit, as in `check_options`.
    """
    options = {}
    for theirs, ours in _ENGINE_OPTIONS.items():
        value = vllm_kwargs.get(theirs)
        if value is None or (theirs == "max_model_len" and value in ("auto", -1)):
            continue
        kinds = (int, float) if theirs == "gpu_memory_utilization" else int
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise ValueError(f"vllm_kwargs: {theirs} is {value!r}; give a number")
        options[ours] = value
    check_options(EngineOptions(**options))  # type: ignore[typeddict-item]
    return EngineOptions(**options)  # type: ignore[typeddict-item]


def gpus_of(vllm_kwargs: dict[str, Any], *, needed: bool) -> float:
    """Return the GPUs of a stage whose model needs them or not."""
    return float(engine_options(vllm_kwargs).get("tensor_parallel", 1) if needed else 0)
