"""Backend of a recipe: captionkit's own engine, or a server."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, Unpack

from captionkit.engine import Backend, Engine, EngineError, EngineKey, ServerBackend
from captionkit.engine.arguments import check_memory
from captionkit.engine.memory import check_limits, longer_than_usual, plan_memory
from captionkit.engine.process import find_card, require_vllm, runs_on_cpu
from captionkit.engine.several import (
    Engines,
    Gpus,
    check_gpus,
    device_groups,
    device_id,
    fullest,
)
from captionkit.engine.shapes import check_divides, read_shape
from captionkit.models.variants import Variant, get_variant
from captionkit.models.weights import ensure_weights, find_config, weights_folder
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
    gpus
        GPUs to use, each with an engine of its own, over which the windows of a session are spread: a
        number, a list of indexes among the visible GPUs, or ``"all"``. None takes one engine on the
        first visible GPU. A batch size counts for each engine.
    tensor_parallel
        GPUs that share the model in each engine, for a model that is too large for one; by default 1.
        It must divide the model's heads; ``captionkit doctor`` says if a model needs it.
    """

    max_model_len: int | None
    memory_share: float | None
    engines: int
    gpus: Gpus | None
    tensor_parallel: int


# Captions at once where nothing else is known, and the most by default.
_BATCH_SIZE, _MOST_AT_ONCE = 16, 64

# What sessions take beside these options, for hints.
_OF_A_SESSION = (
    "source", "model", "spans", "meta", "cut", "recipe", "batch_size", "store", "model_dir", "reader",
    "endpoint", "backend", "decoders",
)  # fmt: skip


def check_options(options: EngineOptions) -> None:
    """Refuse options that are unknown or fit no model.

    Raises
    ------
    TypeError
        If an option is unknown; the message lists the known ones.
    ValueError
        As `engine.memory.check_limits` and `engine.several.check_gpus`.
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
    check_gpus(options.get("gpus"), options.get("tensor_parallel", 1))


def engine_key(
    recipe: Recipe,
    model_dir: str | Path,
    *,
    disable_mmcache: bool = False,
    model_resizes: bool = False,
    **options: Unpack[EngineOptions],
) -> EngineKey:
    """Return the start settings of a recipe's engines; recipes with equal keys share engines.

    ``gpus`` is left out: it is about where engines run, and `open_backend` asks the machine for them.

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
    wanted.pop("gpus", None)
    wanted["max_model_len"] = options.get("max_model_len") or _longer(recipe, variant)
    return EngineKey(str(folder), recipe.fp8, disable_mmcache, pixels, **wanted)  # type: ignore[misc]


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
            if wanted and (name, wanted) != ("tensor_parallel", 1):
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
        groups = _groups(**options)
        keys = [
            replace(key, devices=tuple(map(device_id, group)), engines=max(key.engines, len(groups)))
            for group in groups
        ]
        for each, group in zip(keys, groups, strict=True):
            _check_memory(each, group, recipe)
        engines = Engine.get_all(keys, stop)
        backend = Engines(engines) if len(engines) > 1 else engines[0]
    check_length(recipe, backend)
    return backend


def check_parallel(recipe: Recipe, model_dir: str | Path, size: int) -> None:
    """Refuse a number of GPUs that cannot share the recipe's model; a model that is not here may do.

    Raises
    ------
    ValueError
        If the model is unknown, or its heads are not divisible; the message has the numbers that fit.
    """
    config, _ = find_config(get_variant(recipe.model), model_dir)
    if config is not None and size > 1:
        check_divides(read_shape(config), size)


def default_batch_size(recipe: Recipe, model_dir: str | Path, **options: Unpack[EngineOptions]) -> int:
    """Return the captions to run at once if nobody says: 16, or more on a GPU with room for them.

    On a GPU it is the largest power of two up to 64 whose windows of the recipe fit at once, by
    `plan_memory` with all memory of the card; with less room, vLLM lets captions wait. This is
    computed, not measured: a sweep (`Session.sweep`) measures. A model that is not here yet, or does
    not fit, gets 16.
    """
    if runs_on_cpu():
        return _BATCH_SIZE
    size = options.get("tensor_parallel", 1)
    config, stored = find_config(get_variant(recipe.model), model_dir)
    gpus = hardware.find_gpus()[:size]
    if config is None or not gpus:
        return _BATCH_SIZE
    card = fullest(gpus)
    try:
        plan = plan_memory(
            config,
            stored,
            replace(card, free_mib=card.memory_mib),
            recipe,
            max_model_len=options.get("max_model_len"),
            memory_share=options.get("memory_share"),
            tensor_parallel=size,
            host_bytes=hardware.memory()[0],
        )
    except (EngineError, ValueError):
        # The start says what is wrong.
        return _BATCH_SIZE
    fitting = 1 << min(_MOST_AT_ONCE, plan.windows_at_once).bit_length() - 1
    return max(_BATCH_SIZE, fitting)


def _groups(**options: Unpack[EngineOptions]) -> list[list[hardware.Gpu]]:
    """Return the GPUs of each engine; one empty group for an engine where the environment puts it.

    Raises
    ------
    ValueError
        As `device_groups`, or if vLLM's build here uses no GPU.
    """
    gpus, size = options.get("gpus"), options.get("tensor_parallel", 1)
    if gpus is None and size == 1:
        return [[]]
    groups = device_groups(gpus, size)
    if runs_on_cpu():
        name = "tensor_parallel" if gpus is None else "gpus"
        raise ValueError(
            f"{name} is set, but vLLM's build here is for processors: captionkit[gpu] uses GPUs"
        )
    return groups


def _longer(recipe: Recipe, variant: Variant) -> int | None:
    """Return the longest sequence of a recipe that needs more than an engine usually has."""
    try:
        return longer_than_usual(recipe, variant.family)
    except ValueError:
        # The model is not here yet.
        return None


def _check_memory(key: EngineKey, group: Sequence[hardware.Gpu], recipe: Recipe) -> None:
    """Refuse an engine that cannot start here; a running one has its memory already."""
    live = Engine.live()
    if live is not None and live.key.anywhere == key.anywhere:
        return
    require_vllm()
    card = find_card(group)
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
