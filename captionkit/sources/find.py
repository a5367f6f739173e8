"""Find the videos of a path, a pattern, a folder or an address, in the same way for every driver."""

from __future__ import annotations

import glob
import os
from collections import Counter
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
    """Find videos, each once and in order, and report sources without a video.

    Parameters
    ----------
    source
        A file, a folder, a pattern (``"data/*.mp4"``; if nothing matches, the folders below are
        searched), an fsspec address (``s3://…``), or several of these.

    Returns
    -------
    tuple
        Absolute paths or addresses; and problems: a source → the reason that it has no video.

    Raises
    ------
    ValueError
        If ``source`` is empty.
    FileNotFoundError
        If no source has a video; the message names all sources.
    """
    given = [source] if isinstance(source, (str, Path)) else list(source)
    if not given:
        raise ValueError("there is no video; give a path, a pattern, a folder or a list of these")
    found, problems = search_videos(given)
    if not found:
        raise FileNotFoundError("; ".join(problems.values()))
    return found, problems


def search_videos(sources: Iterable[str | Path]) -> tuple[list[str], dict[str, str]]:
    """Return videos and problems as `find_videos`, also if no source has a video."""
    found: dict[str, None] = {}
    problems: dict[str, str] = {}
    for each in map(str, sources):
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
    return list(found), problems


def _paths(source: str) -> list[str]:
    """Return the files of a path, a pattern or a folder, sorted."""
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
    """Return the files of an fsspec address."""
    if "*" not in source:
        return [source]
    import fsspec

    files, there = fsspec.core.url_to_fs(source)
    found = [str(files.unstrip_protocol(each)) for each in files.glob(there)]
    if not found:
        raise FileNotFoundError(f"nothing matches {source}")
    return sorted(found)


def short_names(paths: list[str]) -> list[str]:
    """Return a different short name for each path: its stem, or the shortest unique end of the path.

    A path that is listed again gets a number: ``harbour``, ``harbour#2``.
    """
    ends = _unique_ends(dict.fromkeys(paths))
    used = set(ends.values())
    times: Counter[str] = Counter()
    names = []
    for path in paths:
        name = end = ends[path]
        times[end] += 1
        while times[end] > 1 and (name := f"{end}#{times[end]}") in used:
            times[end] += 1
        used.add(name)
        names.append(name)
    return names


def _unique_ends(paths: Iterable[str]) -> dict[str, str]:
    """Return the stem of each path, or the fewest last parts that no other path has."""
    parts = {path: Path(path).parts for path in paths}
    ends = {path: Path(path).stem for path in parts}
    for depth in range(2, max(map(len, parts.values()), default=0) + 1):
        counts = Counter(ends.values())
        if len(counts) == len(ends):
            break
        for path, end in ends.items():
            if counts[end] > 1:
                ends[path] = str(Path(*parts[path][-depth:]))
    return ends
