"""Where weights live, how they get there, and whether they are complete."""

from __future__ import annotations

import importlib.metadata
import json
import os
import struct
from pathlib import Path
from typing import Any

from captionkit.models.families import CONFIG, PROCESSOR_FILES, read_family
from captionkit.models.variants import Variant, get_variant, remember

# Files that vLLM and transformers read, without the same weights in other formats.
_PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.jinja", "*.model"]
_MARK = ".captionkit-revision"
# The sizes in config.json of models that have a name here, by repository.
_KNOWN_CONFIGS = Path(__file__).parent / "known_configs.json"
# Bytes of weights of a model that is worth running on a CPU.
_MOST_ON_A_CPU = 4 << 30


class WeightsError(RuntimeError):
    """Raised when weights are missing or broken; says where they should be and what to run."""


def weights_folder(variant: Variant, model_dir: str | Path) -> Path:
    """Folder of a variant's weights, downloaded or not."""
    if variant.repository is None:
        assert variant.folder is not None
        return variant.folder
    folder = Path(model_dir) / variant.repository
    remember(variant.repository, folder)
    return folder


def locate(name: str, model_dir: str | Path) -> Path:
    """Return the folder of a model's weights, downloaded or not.

    From then on, frames of a repository's model have the size that its files there ask for.

    Raises
    ------
    ValueError
        As `get_variant`.
    """
    return weights_folder(get_variant(name), model_dir)


def ensure_weights(variant: Variant, model_dir: str | Path, *, asked: bool = False) -> Path:
    """Return the folder of a variant's weights, downloaded first if they are missing.

    A download that broke off is resumed. If several processes ask at once, one downloads. The files
    that say what kind of model it is come first; weights of a model that cannot be used never come.

    Parameters
    ----------
    variant
        The model.
    model_dir
        Folder under which repositories are kept, as ``model_dir/owner/name``.
    asked
        Whether a person asked for this download. If not, a repository without a revision is not
        downloaded: a recipe may come from a stranger, and the repository's content may change.

    Raises
    ------
    WeightsError
        If the weights cannot or must not be downloaded, are not complete, or belong to a model that
        cannot be used.
    """
    folder = weights_folder(variant, model_dir)
    if variant.repository is None:
        problem = find_problem(folder)
        if problem:
            raise WeightsError(f"the weights of {variant.name} in {folder} are unfit: {problem}")
    elif not _is_ready(variant, folder):
        if not asked and variant.revision is None:
            raise WeightsError(
                f"the weights of {variant.name} are not in {folder} ({find_problem(folder)}), and no "
                "revision of the repository is pinned, so only a person downloads it: captionkit "
                f"download {variant.name} --model-dir {model_dir}"
            )
        from filelock import FileLock

        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".captionkit-download.lock"):
            # Look again: another process may have downloaded them meanwhile.
            if not _is_ready(variant, folder):
                _download(variant, folder, model_dir)
    _check(variant, folder)
    return folder


def _check(variant: Variant, folder: Path) -> None:
    """Refuse a model that cannot be used, by its files."""
    try:
        read_family(folder)
    except ValueError as error:
        raise WeightsError(f"{variant.name} is unfit: {error}") from error


def _is_ready(variant: Variant, folder: Path) -> bool:
    mark = folder / _MARK
    if find_problem(folder):
        return False
    # Accept weights without a mark as they are: somebody put them there by hand.
    return not mark.exists() or mark.read_text() == (variant.revision or "main")


def _download(variant: Variant, folder: Path, model_dir: str | Path) -> None:
    from huggingface_hub import snapshot_download

    repository, revision = str(variant.repository), variant.revision or "main"
    (folder / _MARK).unlink(missing_ok=True)
    try:
        for wanted in ([CONFIG], [*PROCESSOR_FILES], _PATTERNS):
            snapshot_download(repository, revision=revision, local_dir=folder, allow_patterns=wanted)
            if not (folder / CONFIG).exists():
                # The hub's client returns a folder that is there if it cannot reach the hub.
                raise FileNotFoundError(f"the hub sent no {CONFIG}")
            _check(variant, folder)
        remember(repository, folder)
    except WeightsError:
        raise
    except Exception as error:
        # huggingface_hub, its HTTP client and the file system raise errors of their own.
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise WeightsError(
            f"the weights of {variant.name} ({variant.repository} at {revision}) are not in "
            f"{folder} and cannot be downloaded: {reason[0]}\n"
            f"On a machine with a network run: captionkit download {variant.name} "
            f"--model-dir {model_dir}"
        ) from error
    problem = find_problem(folder)
    if problem:
        raise WeightsError(
            f"the download of {variant.repository} at {revision} to {folder} is incomplete: "
            f"{problem}. Run captionkit download {variant.name} --model-dir {model_dir} again; it "
            "goes on where it stopped"
        )
    (folder / _MARK).write_text(revision)


def find_problem(folder: Path) -> str | None:
    """Describe what is missing or broken in a folder of weights; None if nothing is."""
    if not folder.is_dir():
        return "there is no such folder"
    if not (folder / CONFIG).exists():
        return f"{CONFIG} is missing"
    index = folder / "model.safetensors.index.json"
    if index.exists():
        try:
            shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError, AttributeError):
            return f"{index.name} is broken"
    else:
        shards = sorted(path.name for path in folder.glob("*.safetensors"))
        if not shards:
            return "there is no *.safetensors file"
    for shard in shards:
        problem = _shard_problem(folder / shard)
        if problem:
            return problem
    return None


def find_config(variant: Variant, model_dir: str | Path) -> tuple[dict[str, Any] | None, int | None]:
    """Return a model's configuration and the bytes of its weights.

    A model that is not downloaded has its published configuration, if captionkit knows it, and None for
    the bytes; both are None if not.
    """
    folder = weights_folder(variant, model_dir)
    if (folder / CONFIG).exists():
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        whole = find_problem(folder) is None
        return config, sum(
            file.stat().st_size for file in folder.glob("*.safetensors")
        ) if whole else None
    known = json.loads(_KNOWN_CONFIGS.read_text(encoding="utf-8"))
    return known.get(variant.repository), None


def needs_gpu(variant: Variant, model_dir: str | Path) -> bool:
    """Whether an engine of this model needs a GPU on this machine.

    vLLM's CUDA build runs on a GPU alone. Its CPU build runs any model that fits into memory, but a
    model of more than 4 GiB, or one that has not been downloaded, counts as one for a GPU.
    """
    try:
        importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:
        folder = weights_folder(variant, model_dir)
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        return not 0 < size < _MOST_ON_A_CPU
    return True


def _shard_problem(path: Path) -> str | None:
    if not path.exists():
        return f"{path.name} is missing"
    size = os.path.getsize(path)
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size:
                return f"{path.name} is cut off"
            header = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except (struct.error, ValueError, KeyError, TypeError):
        return f"{path.name} is not a safetensors file"
    whole = 8 + length + max(ends, default=0)
    return None if whole == size else f"{path.name} is cut off: {size:,} of {whole:,} bytes"
