"""Names of files in exports: they lead to the films, and do not show the home folder."""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from captionkit.recipe import Recipe

_LONGEST_NAME = 200
#: Columns that may name files, besides ``path``; what the model or a person wrote stays as it is.
NAMING = ("model", "recipe", "prompt", "error", "warnings")


def film_path(path: str, folder: Path) -> str:
    """Return the path of a film as an export in ``folder`` names it; `found_film` reverses this.

    Relative to the folder if both lie in the home folder, or below a common folder outside it.
    Otherwise ``~`` replaces the home folder.
    """
    if not os.path.isabs(path):
        return path
    common = os.path.commonpath([path, os.path.abspath(folder)])
    if common == os.sep or any(home.startswith(common + os.sep) for home in _homes()):
        return without_home(path)
    return os.path.relpath(path, folder)


def named(row: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a row of captions as an export in ``folder`` has it: no name shows the home folder."""
    changed = {name: without_home(row[name]) for name in NAMING if isinstance(row[name], str)}
    path = row["path"]
    return {**row, **changed, "path": path if path is None else film_path(path, folder)}


def found_film(path: str, folder: Path) -> str:
    """Return the path of a film that an export in ``folder`` names."""
    if path.startswith("~" + os.sep):
        return with_home(path)
    film = os.path.normpath(os.path.join(os.path.abspath(folder), path))
    return film if os.path.isfile(film) else path


def file_name(name: object) -> str:
    """Return a name as a safe file name, short enough for a suffix on every file system."""
    safe = "".join(c if c.isalnum() or c in " ._-" else "_" for c in str(name)).lstrip(".")
    return safe.encode()[:_LONGEST_NAME].decode(errors="ignore") or "video"


def without_home(text: str) -> str:
    """Replace the home folder, which names its user, by ``~`` wherever a text has it."""
    for home in _homes():
        if home in text:
            text = _pattern(home).sub("~", text)
    return text


def with_home(path: str) -> str:
    """Replace a leading ``~`` by this user's home folder."""
    return str(Path.home()) + path[1:] if path.startswith("~" + os.sep) else path


def recipe_without_home(recipe: Recipe) -> Recipe:
    """Return a recipe whose texts do not show the home folder."""
    return Recipe.from_json(without_home(recipe.to_json()))


def recipe_with_home(text: str) -> str:
    """Return a recipe's JSON with the folder of its weights as this user has it."""
    if '"~' not in text:
        return text
    try:
        recipe = json.loads(text)
        return json.dumps({**recipe, "model": with_home(recipe["model"])}, ensure_ascii=False)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return text


def _homes() -> list[str]:
    """Return the home folder as it is named, and without links; none if it is the root."""
    home = str(Path.home())
    return [each for each in dict.fromkeys([home, os.path.realpath(home)]) if each != os.sep]


@functools.cache
def _pattern(home: str) -> re.Pattern[str]:
    # The name must begin and end there: /rootkit and /data/root are other folders.
    return re.compile(rf"(?:(?<=file://)|(?<![\w/.~-])){re.escape(home)}(?![\w-]|\.\w)")
