"""Backend of a recipe: captionkit's own engine, or a server."""

from __future__ import annotations

from pathlib import Path

from captionkit.engine import Backend, Engine, EngineKey, ServerBackend
from captionkit.models.variants import Variant, get_variant
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
    """Return the start settings of a recipe's engine; recipes with equal keys share an engine.

    Parameters
    ----------
    recipe
        Only ``model``, ``fp8`` and ``pixel_budget`` matter.
    model_dir
        Folder of downloaded weights.
    disable_mmcache, model_resizes
        Fields of `stages.CaptionGenerationStage` (the second is ``model_does_preprocess``).
    """
    variant = get_variant(recipe.model)
    pixels = None
    if model_resizes:
        pixels = (variant.min_pixels, recipe.pixel_budget or variant.budget)
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
    """Start the engine of a recipe, or take the running one; check the server of an endpoint.

    Loading takes seconds to minutes.

    Raises
    ------
    ValueError
        If the model is unknown, the GPU lacks fp8, a setting belongs to the server, or captions are
        longer than the model's context.
    WeightsError
        If the weights are not available.
    EngineError
        If vLLM is missing or does not start, or the server does not answer.
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
        backend = ServerBackend.get(endpoint, names, images=_takes_images(variant))
    else:
        if recipe.fp8:
            hardware.require_fp8()
        ensure_weights(variant, model_dir)
        backend = Engine.get(
            engine_key(recipe, model_dir, disable_mmcache=disable_mmcache, model_resizes=model_resizes)
        )
    check_length(recipe, backend)
    return backend


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
