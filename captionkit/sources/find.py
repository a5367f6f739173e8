"""Which videos a path, a pattern, a folder or an address means: one answer for every driver."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

VIDEO_SUFFIXES = frozenset(
    [
        ".mp4",
        ".mov",
        ".m4v",
        ".mkv",
        ".webm",
        ".avi",
        ".ts",
        ".mts",
        ".mpg",
        ".mpeg",
        ".flv",
        ".wmv",
        ".ogv",
        ".3gp",
    ]
)


def find_videos(
    source: str | Path | Iterable[str | Path],
) -> tuple[list[str], dict[str, str]]:
    """Videos, each once and in order, and what was given but leads to none.

    Parameters
    ----------
    source
        A file, a folder, a pattern (``"data/*.mp4"``; where nothing matches, the folders below are
        searched), an fsspec address (``s3://…``), or several of these.

    Returns
    -------
    tuple
        Absolute paths, or addresses; and problems: what was given → why it leads to no video.

    Raises
    ------
    ValueError
        Nothing was given.
    FileNotFoundError
        Nothing that was given leads to a video; names all of it.
    """
    given = [source] if isinstance(source, (str, Path)) else list(source)
    if not given:
        raise ValueError("there is no video; give a path, a pattern, a folder or a list of these")
    found: dict[str, None] = {}
    problems: dict[str, str] = {}
    for each in map(str, given):
        try:
            paths = _addresses(each) if "://" in each else map(os.path.abspath, _paths(each))
        except FileNotFoundError as error:
            problems[each] = str(error)
            continue
        for path in paths:
            if path.isascii() or path.encode(errors="replace").decode() == path:
                found[path] = None
            else:
                shown = os.fsencode(path).decode(errors="replace")
                problems[shown] = f"{shown}: the name is not valid UTF-8; rename the file"
    if not found:
        raise FileNotFoundError("; ".join(problems.values()))
    return list(found), problems


def _paths(source: str) -> list[str]:
    """The files that a path, a pattern or a folder means, sorted."""
    path = Path(source).expanduser()
    if path.is_file():
        return [str(path)]
    if path.is_dir():
        found = [each for each in path.rglob("*") if each.suffix.lower() in VIDEO_SUFFIXES]
        if not found:
            known = " ".join(sorted(VIDEO_SUFFIXES))
            raise FileNotFoundError(f"the folder {source} holds no video ({known})")
        return sorted(map(str, found))
    if not glob.has_magic(source):
        raise FileNotFoundError(f"no such file: {source} (in {Path.cwd()})")
    for pattern in (str(path), str(path.parent / "**" / path.name)):
        matched = [each for each in glob.glob(pattern, recursive=True) if Path(each).is_file()]
        if matched:
            return sorted(matched)
    raise FileNotFoundError(f"nothing matches {source} (in {Path.cwd()}), nor in the folders below")


def _addresses(source: str) -> list[str]:
    """The files that an fsspec address means."""
    if "*" not in source:
        return [source]
    import fsspec

    files, there = fsspec.core.url_to_fs(source)
    found = [str(files.unstrip_protocol(each)) for each in files.glob(there)]
    if not found:
        raise FileNotFoundError(f"nothing matches {source}")
    return sorted(found)


def short_names(paths: list[str]) -> list[str]:
    """A short name for each path: its stem, or as much of the path as makes it unique."""
    names = [Path(path).stem for path in paths]
    for depth in range(1, 20):
        counts: dict[str, int] = {}
        for name in names:
            counts[name] = counts.get(name, 0) + 1
        if len(counts) == len(names):
            return names
        names = [
            "/".join(Path(path).parts[-depth - 1 :]) if counts[name] > 1 else name
            for name, path in zip(names, paths, strict=True)
        ]
    return [f"{name}#{index}" for index, name in enumerate(names)]
