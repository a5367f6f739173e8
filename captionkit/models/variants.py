"""Which models there are: variant → repository, revision, grid and pixel budget."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

_ASPECT_LIMIT = 200
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class Variant:
    """A model that can caption video.

    Parameters
    ----------
    name
        Name in recipes.
    repository, revision
        Source of the weights, or None for weights on disk.
    folder
        Folder of the weights, for a variant without a repository.
    grid_factor
        Patch size times merge size in pixels: width and height of a frame are multiples of it.
    max_pixels
        Most pixels of a frame, unless a recipe sets a budget.
    """

    name: str
    repository: str | None = None
    revision: str | None = None
    folder: Path | None = None
    grid_factor: int = 28
    # 448 x 252 pixels: 144 tokens for two frames.
    max_pixels: int = 144 * 28 * 28

    @property
    def min_pixels(self) -> int:
        """Least pixels of a frame; smaller frames are enlarged."""
        return 4 * self.grid_factor**2

    def frame_size(self, width: int, height: int, budget: int | None = None) -> tuple[int, int]:
        """Compute the (width, height) at which the model sees a frame, in pixels.

        By the rule of Qwen's own processors: both are multiples of the grid, the number of pixels
        stays within the budget, the aspect is as near as the grid allows.

        Parameters
        ----------
        width, height
            Size of the picture in pixels.
        budget
            Most pixels of a frame; by default `max_pixels`.

        Raises
        ------
        ValueError
            If one side is more than 200 times the other, or the budget is below `min_pixels`.
        """
        most = budget or self.max_pixels
        if most < self.min_pixels:
            raise ValueError(
                f"a pixel budget of {most} is too small for {self.name}; give at least "
                f"{self.min_pixels} pixels a frame"
            )
        if max(width, height) > _ASPECT_LIMIT * min(width, height):
            raise ValueError(
                f"a picture of {width} x {height} pixels is too long for {self.name}: one side may "
                f"be at most {_ASPECT_LIMIT} times the other"
            )
        grid = self.grid_factor
        wide, high = round(width / grid) * grid, round(height / grid) * grid
        if wide * high > most:
            shrink = math.sqrt(width * height / most)
            wide = max(grid, math.floor(width / shrink / grid) * grid)
            high = max(grid, math.floor(height / shrink / grid) * grid)
        elif wide * high < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (width * height))
            wide, high = (
                math.ceil(width * grow / grid) * grid,
                math.ceil(height * grow / grid) * grid,
            )
        return wide, high


def _demo_folder() -> Path:
    """Folder of the demo model: in ``data/`` of the checkout, or of the package in a wheel."""
    package = Path(__file__).parent.parent
    installed = package / "data" / "demo-model"
    return installed if installed.exists() else package.parent / "data" / "demo-model"


_VARIANTS: dict[str, Variant] = {}
_ALIASES = {"qwen2.5": "qwen"}


def register(variant: Variant) -> None:
    """Make a variant known by its name, in place of an earlier one of that name.

    Raises
    ------
    ValueError
        If the variant has neither a repository nor a folder.
    """
    if variant.repository is None and variant.folder is None:
        raise ValueError(f"the variant {variant.name!r} needs a repository or a folder")
    _VARIANTS[variant.name] = variant


register(Variant("demo", folder=_demo_folder(), max_pixels=32 * 28 * 28))
register(Variant("qwen", "Qwen/Qwen2.5-VL-7B-Instruct", "cc59489"))
register(
    Variant("qwen3", "Qwen/Qwen3-VL-8B-Instruct", "0c351dd", grid_factor=32, max_pixels=144 * 32**2)
)


def known_variants() -> list[str]:
    """List all names that `get_variant` knows, aliases included."""
    return sorted([*_VARIANTS, *_ALIASES])


def get_variant(name: str) -> Variant:
    """Find a variant by its name, by a local folder, or by a repository id.

    Raises
    ------
    ValueError
        If there is nothing of the kind; the message lists the known names.
    """
    name = _ALIASES.get(name, name)
    if name in _VARIANTS:
        return _VARIANTS[name]
    folder = Path(name).expanduser()
    if folder.is_dir():
        grid = _grid_factor(folder)
        return Variant(name, folder=folder, grid_factor=grid, max_pixels=144 * grid**2)
    if _REPOSITORY.fullmatch(name):
        grid = 32 if "qwen3" in name.lower() else 28
        return Variant(name, repository=name, grid_factor=grid, max_pixels=144 * grid**2)
    raise ValueError(
        f"Unsupported model variant: {name}; known: {', '.join(known_variants())}, a folder with "
        "weights, or a repository id such as Qwen/Qwen2.5-VL-3B-Instruct"
    )


def _grid_factor(folder: Path) -> int:
    """Read patch size times merge size from the model's configuration."""
    path = folder / "config.json"
    if not path.exists():
        raise ValueError(
            f"{folder} holds no config.json: give the folder with a model's config.json, tokenizer "
            "and *.safetensors"
        )
    try:
        vision = json.loads(path.read_text(encoding="utf-8")).get("vision_config", {})
        return int(vision["patch_size"]) * int(vision["spatial_merge_size"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} describes no video model: vision_config lacks patch_size or spatial_merge_size"
        ) from error
