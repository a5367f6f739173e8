"""Backend of a recipe: captionkit's own engine, or a server."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, Unpack

from captionkit.engine import Backend, Engine, EngineKey, ServerBackend
from captionkit.engine.arguments import check_memory
from captionkit.engine.memory import check_limits, longer_than_usual
from captionkit.engine.process import find_card, require_vllm
from captionkit.models.variants import Variant, get_variant
from captionkit.models.weights import ensure_weights, weights_folder
from captionkit.recipe import SETTINGS, Recipe
from captionkit.system import hardware
from captionkit.system.hints import hint


class EngineOptions(TypedDict, total=False):
    """Options of an engine that change no caption.

    Parameters
    ----------
    max_model_len
        Most tokens of a window with its prompt and caption; None takes what the card has room for, see
        ``captionkit doctor --model``.
    memory_share
        Share of the card's memory that the engine may take, 0.1 to 1; None takes 0.95.
    engines
        Engines on this machine, which share its memory.
    """

    max_model_len: int | None
    memory_share: float | None
    engines: int


# What sessions take beside these options, for hints.
_OF_A_SESSION = (
    "source", "model", "spans", "cut", "recipe", "batch_size", "store", "model_dir", "reader",
    "endpoint", "backend",
)  # fmt: skip


def check_options(options: EngineOptions) -> None:
    """Refuse options that are unknown or fit no model.

    Raises
    ------
    TypeError
        If an option is unknown; the message lists the known ones.
    ValueError
        As `engine.memory.check_limits`.
    """
    unknown = options.keys() - EngineOptions.__annotations__
    if unknown:
        known = ", ".join(EngineOptions.__annotations__)
        first = sorted(unknown)[0]
        near = hint(first, [*EngineOptions.__annotations__, *_OF_A_SESSION])
        if first in SETTINGS:
            near = f" (a setting of the recipe: give recipe=Recipe({first}=…), or {first}= to caption)"
        raise TypeError(f"unknown argument {', '.join(sorted(unknown))}{near}; there are also: {known}")
    check_limits(options.get("max_model_len"), options.get("memory_share"))


def engine_key(
    recipe: Recipe,
    model_dir: str | Path,
    *,
    disable_mmcache: bool = False,
    model_resizes: bool = False,
    **options: Unpack[EngineOptions],
) -> EngineKey:
    """Return the start settings of a recipe's engine; recipes with equal keys share an engine.

    Parameters
    ----------
    recipe
        Only ``model`` and ``fp8`` matter, and settings that make a window longer than 32,768 tokens.
    model_dir
        Folder of downloaded weights.
    disable_mmcache, model_resizes
        Fields of `stages.CaptionGenerationStage` (the second is ``model_does_preprocess``).
    options
        Further options of the engine.
    """
    variant = get_variant(recipe.model)
    pixels = None
    if model_resizes:
        pixels = (variant.min_pixels, recipe.pixel_budget or variant.budget)
    folder = weights_folder(variant, model_dir).resolve()
    wanted: EngineOptions = {**options}
    wanted["max_model_len"] = options.get("max_model_len") or _longer(recipe, variant)
    return EngineKey(str(folder), recipe.fp8, disable_mmcache, pixels, **wanted)


def open_backend(
    recipe: Recipe,
    *,
    model_dir: str | Path,
    endpoint: str | None = None,
    disable_mmcache: bool = False,
    model_resizes: bool = False,
    stop: threading.Event | None = None,
    **options: Unpack[EngineOptions],
) -> Backend:
    """Start the engine of a recipe, or take the running one; check the server of an endpoint.

    Loading takes seconds to minutes; the event ``stop`` ends it, also from another thread.

    Raises
    ------
    ValueError
        If the model is unknown, the GPU lacks fp8, a setting belongs to the server or does not fit the
        model, or captions are longer than the model's context.
    WeightsError
        If the weights are not available.
    EngineError
        If vLLM is missing or does not start, the model does not fit into the memory here, or the server
        does not answer. `EngineGoneError` if the start was stopped.
    """
    variant = get_variant(recipe.model)
    backend: Backend
    if endpoint:
        for name, wanted in (
            ("fp8", recipe.fp8),
            ("model_does_preprocess", model_resizes),
            *((name, value) for name, value in options.items() if name != "engines"),
        ):
            if wanted:
                raise ValueError(
                    f"{name} is the server's to choose: leave it off here, and start {endpoint} with it"
                )
        names = (variant.name, *([variant.repository] if variant.repository else []))
        backend = ServerBackend.get(endpoint, names, images=_takes_images(variant))
    else:
        if recipe.fp8:
            hardware.require_fp8()
        ensure_weights(variant, model_dir)
        key = engine_key(
            recipe,
            model_dir,
            disable_mmcache=disable_mmcache,
            model_resizes=model_resizes,
            **options,
        )
        _check_memory(key, recipe)
        backend = Engine.get(key, stop)
    check_length(recipe, backend)
    return backend


def _longer(recipe: Recipe, variant: Variant) -> int | None:
    """Return the longest sequence of a recipe that needs more than an engine usually has."""
    try:
        return longer_than_usual(recipe, variant.family)
    except ValueError:
        # The model is not here yet.
        return None


def _check_memory(key: EngineKey, recipe: Recipe) -> None:
    """Refuse an engine that cannot start here; a running one has its memory already."""
    live = Engine.live()
    if live is not None and live.key == key:
        return
    require_vllm()
    card = find_card()
    if live is not None:
        # The running engine ends first; the new one's process sees how much that leaves.
        card = replace(card, free_mib=card.memory_mib)
    check_memory(key, recipe, card)


def _takes_images(variant: Variant) -> bool:
    """Return whether a server's model takes frames as images; a model that is not here takes videos."""
    try:
        return variant.family.images
    except ValueError:
        return False


def check_length(recipe: Recipe, backend: Backend) -> None:
    """Refuse captions that are longer than the model's context.

    Raises
    ------
    ValueError
        If the caption is too long; the message has both numbers.
    """
    longest = backend.info["max_model_len"]
    if recipe.max_tokens >= longest:
        raise ValueError(
            f"max_tokens is {recipe.max_tokens}, but {recipe.model} holds {longest} tokens, prompt and "
            "video included; give less"
        )
