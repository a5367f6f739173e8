"""Which models there are: a name, where its weights come from, and the most pixels of a frame."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from captionkit.models.families import CONFIG, Family, find_family, read_family
from captionkit.system.hints import hint

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*")
# Folder of downloaded models where nobody names another.
DEFAULT_FOLDER = Path("models/qwen")
# Folders of repositories that this process has met; see `remember`.
_FOLDERS: dict[str, Path] = {}


@dataclass(frozen=True)
class Variant:
    """A model that can caption video.

    Parameters
    ----------
    name
        Name in recipes.
    repository, revision
        Source of the weights, or None for weights on disk. Only a repository with a revision is
        downloaded by a recipe; any is by ``captionkit download``.
    folder
        Folder of the weights, for a variant without a repository.
    max_pixels
        Most pixels of a frame, unless a recipe sets a budget; None takes the family's.
    model_type
        As in the model's ``config.json``, so that frames have their size before a download. None asks
        the model's files.
    """

    name: str
    repository: str | None = None
    revision: str | None = None
    folder: Path | None = None
    max_pixels: int | None = None
    model_type: str | None = None

    @property
    def family(self) -> Family:
        """How vLLM shows frames to this model, by its own ``config.json``.

        Raises
        ------
        ValueError
            If the model is not on this machine and has no ``model_type``, or cannot be used; names the
            command, or the reason and the known families.
        """
        folder = self.folder or _FOLDERS.get(
            str(self.repository), DEFAULT_FOLDER / str(self.repository)
        )
        if self.repository is None or (folder / CONFIG).exists():
            return read_family(folder)
        if self.model_type is not None:
            return find_family({"model_type": self.model_type, "vision_config": {}})
        raise ValueError(
            f"{self.name} is not on this machine, and its files say what kind of model it is. Run "
            f"captionkit download {self.name}"
        )

    @property
    def budget(self) -> int:
        """Most pixels of a frame, unless a recipe sets a budget."""
        return self.max_pixels or self.family.default_pixels

    @property
    def min_pixels(self) -> int:
        """Least pixels of a frame; smaller frames are enlarged."""
        return self.family.min_pixels

    @property
    def grid_factor(self) -> int:
        """Width and height of a frame are multiples of so many pixels."""
        return self.family.grid

    def frame_size(self, width: int, height: int, budget: int | None = None) -> tuple[int, int]:
        """Compute the (width, height) at which the model sees a frame, in pixels.

        Parameters
        ----------
        width, height
            Size of the picture in pixels.
        budget
            Most pixels of a frame; by default `budget`.

        Raises
        ------
        ValueError
            If one side is more than 200 times the other, the budget is below `min_pixels`, or as
            `family`.
        """
        family, most = self.family, budget or self.budget
        family.check_picture(width, height, most)
        return family.frame_size(width, height, most)

    def tokens(self, width: int, height: int, frames: int, budget: int | None = None) -> int:
        """Return the video tokens of a window, before it is captioned.

        Parameters
        ----------
        width, height
            Size of the picture in pixels.
        frames
            Frames that the model sees.
        budget
            Most pixels of a frame; by default `budget`.

        Raises
        ------
        ValueError
            As `frame_size`.
        """
        return self.family.tokens(*self.frame_size(width, height, budget), frames)


def _demo_folder() -> Path:
    """Folder of the demo model: in ``data/`` of the checkout, or of the package in a wheel."""
    package = Path(__file__).parent.parent
    installed = package / "data" / "demo-model"
    return installed if installed.exists() else package.parent / "data" / "demo-model"


_VARIANTS: dict[str, Variant] = {}
_ALIASES = {"qwen2.5": "qwen", "qwen2.5-7b": "qwen", "qwen3-8b": "qwen3"}


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
for _name, _repository, _revision, _type in (
    ("qwen", "Qwen/Qwen2.5-VL-7B-Instruct", "cc59489", "qwen2_5_vl"),
    ("qwen2-2b", "Qwen/Qwen2-VL-2B-Instruct", None, "qwen2_vl"),
    ("qwen2-7b", "Qwen/Qwen2-VL-7B-Instruct", None, "qwen2_vl"),
    ("qwen2.5-3b", "Qwen/Qwen2.5-VL-3B-Instruct", None, "qwen2_5_vl"),
    ("qwen2.5-32b", "Qwen/Qwen2.5-VL-32B-Instruct", None, "qwen2_5_vl"),
    ("qwen2.5-72b", "Qwen/Qwen2.5-VL-72B-Instruct", None, "qwen2_5_vl"),
    ("qwen3", "Qwen/Qwen3-VL-8B-Instruct", "0c351dd", "qwen3_vl"),
    ("qwen3-2b", "Qwen/Qwen3-VL-2B-Instruct", None, "qwen3_vl"),
    ("qwen3-4b", "Qwen/Qwen3-VL-4B-Instruct", None, "qwen3_vl"),
    ("qwen3-32b", "Qwen/Qwen3-VL-32B-Instruct", None, "qwen3_vl"),
    ("qwen3-30b-a3b", "Qwen/Qwen3-VL-30B-A3B-Instruct", None, "qwen3_vl_moe"),
    ("internvl3.5-8b", "OpenGVLab/InternVL3_5-8B-HF", None, "internvl"),
):
    register(Variant(_name, _repository, _revision, model_type=_type))


def known_variants() -> list[str]:
    """List all names that `get_variant` knows, aliases included."""
    return sorted([*_VARIANTS, *_ALIASES])


def get_variant(name: str) -> Variant:
    """Find a variant by its name, by a local folder, or by a repository id.

    Raises
    ------
    ValueError
        If there is nothing of the kind, or the folder's model cannot be used; the message lists the
        known names or families.
    """
    name = _ALIASES.get(name, name)
    if name in _VARIANTS:
        return _VARIANTS[name]
    folder = Path(name).expanduser()
    if folder.is_dir():
        read_family(folder)
        return Variant(name, folder=folder)
    if _REPOSITORY.fullmatch(name):
        # A registered repository keeps its revision under its own name.
        named = (each for each in _VARIANTS.values() if each.repository == name)
        return replace(next(named, Variant(name, name)), name=name)
    if name.startswith("nemotron"):
        raise ValueError(
            f"{name} is a model of NVIDIA NeMo Curator that runs code of its repository, which "
            "captionkit never does; use NeMo Curator's own stage, or another model, such as qwen3"
        )
    raise ValueError(
        f"Unsupported model variant: {name}{hint(name, known_variants())}; known: "
        f"{', '.join(known_variants())}, a folder with weights, or a repository id such as "
        "Qwen/Qwen2.5-VL-3B-Instruct"
    )


def remember(repository: str, folder: Path) -> None:
    """Read a repository's files from this folder from now on, if they are there.

    A recipe names a repository, and only those who load it know the folder of downloaded models; the
    size of its frames follows from its files all the same.
    """
    if (folder / CONFIG).exists():
        _FOLDERS[repository] = folder
