"""Find the videos of a path, a pattern, a folder or an address, in the same way for every driver."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from captionkit.video.errors import shown_path

#: Suffixes of films that a folder lists; all are known to ffmpeg's demuxers, or are other names of
#: their formats. Pictures, sound and subtitles that the demuxers read as well are not films.
VIDEO_SUFFIXES = frozenset(
    [
        ".264",
        ".265",
        ".266",
        ".3g2",
        ".3gp",
        ".amv",
        ".asf",
        ".avi",
        ".avs2",
        ".avs3",
        ".bik",
        ".dif",
        ".divx",
        ".dv",
        ".evc",
        ".f4v",
        ".flc",
        ".fli",
        ".flv",
        ".gif",
        ".gxf",
        ".h261",
        ".h264",
        ".h265",
        ".h266",
        ".hevc",
        ".insv",
        ".ismv",
        ".ivf",
        ".lrv",
        ".m1v",
        ".m2t",
        ".m2ts",
        ".m2v",
        ".m4v",
        ".mj2",
        ".mjpeg",
        ".mjpg",
        ".mk3d",
        ".mkv",
        ".mod",
        ".mov",
        ".mp4",
        ".mpe",
        ".mpeg",
        ".mpg",
        ".mpv",
        ".mts",
        ".mxf",
        ".nsv",
        ".nut",
        ".nuv",
        ".obu",
        ".ogm",
        ".ogv",
        ".pva",
        ".qt",
        ".rm",
        ".rmvb",
        ".roq",
        ".smk",
        ".tod",
        ".trp",
        ".ts",
        ".usm",
        ".vc1",
        ".viv",
        ".vob",
        ".vro",
        ".webm",
        ".wm",
        ".wmv",
        ".wtv",
        ".xmv",
        ".y4m",
    ]
)
# Films by their names that the decoder does not read.
_UNREADABLE = frozenset([".ari", ".braw", ".crm", ".mlv", ".r3d", ".swf", ".webp"])


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
            if "://" not in path and _is_unreadable(path):
                problems[path] = (
                    f"{path}: {Path(path).suffix} is a kind of film that the decoder does not know; "
                    "convert it, say to .mp4"
                )
            elif (shown := shown_path(path)) == path:
                found[path] = None
            else:
                problems[shown] = f"{shown}: the name is not valid UTF-8; rename the file"
    return list(found), problems


def _paths(source: str) -> list[str]:
    """Return the files of a path, a pattern or a folder, sorted."""
    path = Path(source).expanduser()
    # Not the methods of `Path`: they raise for a name that is longer than a file system's.
    if os.path.isfile(path):
        return [str(path)]
    if os.path.isdir(path):
        found = [each for each in _files(path) if _looks_like_a_film(each)]
        if not found:
            known = " ".join(sorted(VIDEO_SUFFIXES))
            raise FileNotFoundError(f"the folder {source} holds no video ({known})")
        return sorted(found, key=lambda each: each.split(os.sep))
    if not glob.has_magic(source):
        raise FileNotFoundError(f"no such file: {source} (in {Path.cwd()})")
    for pattern in (str(path), str(path.parent / "**" / path.name)):
        matched = [each for each in glob.glob(pattern, recursive=True) if Path(each).is_file()]
        if matched:
            return sorted(matched)
    raise FileNotFoundError(f"nothing matches {source} (in {Path.cwd()}), nor in the folders below")


def _files(folder: Path) -> Iterator[str]:
    for place, _, names in os.walk(folder, followlinks=False):
        for name in names:
            yield os.path.join(place, name)


def _looks_like_a_film(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in VIDEO_SUFFIXES or _is_unreadable(path)


def _is_unreadable(path: str) -> bool:
    """Return whether a file is a film by its name, but of no known format."""
    return os.path.splitext(path)[1].lower() in _UNREADABLE


def _addresses(source: str) -> list[str]:
    """Return the files of an fsspec address: a file, a pattern, or a folder with a slash at its end."""
    is_folder = source.endswith("/")
    if "*" not in source and not is_folder:
        return [source]
    import fsspec

    files, there = fsspec.core.url_to_fs(source)
    paths = filter(_looks_like_a_film, files.find(there)) if is_folder else files.glob(there)
    found = [str(files.unstrip_protocol(each)) for each in paths]
    if not found:
        raise FileNotFoundError(
            f"{source} holds no video" if is_folder else f"nothing matches {source}"
        )
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
