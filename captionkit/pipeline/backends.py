"""The backend that a recipe needs: an engine of our own, or a server."""

from __future__ import annotations

from pathlib import Path

from captionkit.engine import Backend, Engine, EngineKey, ServerBackend
from captionkit.models.variants import get_variant
from captionkit.models.weights import ensure_weights, weights_folder
from captionkit.recipe import Recipe
from captionkit.system import hardware


def engine_key(
    recipe: Recipe,
    model_dir: str | Path,
    *,
    disable_mmcache: bool = False,
    model_resizes: bool = False,
) -> EngineKey:
    """What an engine for a recipe is started with; recipes with equal keys share one.

    Parameters
    ----------
    recipe
        Its model and fp8 decide.
    model_dir
        Folder under which downloaded weights are kept.
    disable_mmcache, model_resizes
        See `stages.CaptionGenerationStage` (``model_does_preprocess``).
    """
    variant = get_variant(recipe.model)
    pixels = None
    if model_resizes:
        pixels = (variant.min_pixels, recipe.pixel_budget or variant.max_pixels)
    folder = weights_folder(variant, model_dir).resolve()
    return EngineKey(str(folder), recipe.fp8, disable_mmcache, pixels)


def open_backend(
    recipe: Recipe,
    *,
    model_dir: str | Path,
    endpoint: str | None = None,
    disable_mmcache: bool = False,
    model_resizes: bool = False,
) -> Backend:
    """Start the engine of a recipe, or take the one that runs; at an endpoint, look that it is there.

    Loading takes seconds to minutes.

    Raises
    ------
    ValueError
        An unknown model, fp8 without a GPU that has it, a server asked for what it decides itself, or
        captions longer than the model.
    WeightsError
        The weights cannot be had.
    EngineError
        vLLM is missing or did not start, or the server does not answer.
    """
    variant = get_variant(recipe.model)
    backend: Backend
    if endpoint:
        for name, wanted in (("fp8", recipe.fp8), ("model_does_preprocess", model_resizes)):
            if wanted:
                raise ValueError(
                    f"{name} is the server's to choose: leave it off here, and start {endpoint} with it"
                )
        names = (variant.name, *([variant.repository] if variant.repository else []))
        backend = ServerBackend.get(endpoint, names)
    else:
        if recipe.fp8:
            hardware.require_fp8()
        ensure_weights(variant, model_dir)
        backend = Engine.get(
            engine_key(recipe, model_dir, disable_mmcache=disable_mmcache, model_resizes=model_resizes)
        )
    check_length(recipe, backend)
    return backend


def check_length(recipe: Recipe, backend: Backend) -> None:
    """Refuse captions that are longer than the model.

    Raises
    ------
    ValueError
        Gives both numbers.
    """
    longest = backend.info["max_model_len"]
    if recipe.max_tokens >= longest:
        raise ValueError(
            f"max_tokens is {recipe.max_tokens}, but {recipe.model} holds {longest} tokens, prompt and "
            "video included; give less"
        )
