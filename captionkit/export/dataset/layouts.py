"""The forms of a training set: where clips and texts lie, and the files that list them.

A new layout is one line in `LAYOUTS`, with a function for its lists if it has some.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from captionkit.export.formats.tables import json_lines

if TYPE_CHECKING:
    from captionkit.export.dataset.choose import Sample
    from captionkit.video.encoding import Excerpt

#: Folder of clips that a layout packs into other files.
UNPACKED = ".clips"


@dataclass(frozen=True)
class Clip:
    """A sample as it was written.

    Parameters
    ----------
    sample
        The window and its text.
    file
        Path of the clip within the folder; empty if the layout has none.
    made
        Facts of the clip; None if the layout has none.
    film_s
        Length of its film in seconds.
    """

    sample: Sample
    file: str
    made: Excerpt | None
    film_s: float

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of the clip, as plain values; ``film`` is the name of the film's file.

        A rating of 0 means none. No value is missing: the type of a column must not depend on the part.
        """
        row, made = self.sample.row, self.made
        own: dict[str, Any] = {}
        if made is not None:
            names = ("width", "height", "fps", "copied", "sha256")
            own = {name: getattr(made, name) for name in names}
        return {
            "film": Path(row["path"] or row["video"]).name,
            "window": row["window"],
            "start_s": row["start_s"],
            "end_s": row["end_s"],
            "frames": made.frames if made else row["frames"],
            **own,
            "key": row["key"] or "none",
            "rating": row["rating"] or 0,
            "tags": row["tags"] or "none",
            "faults": ", ".join(self.sample.faults) or "none",
        }


@dataclass(frozen=True)
class Setting:
    """What lists depend on: the folder, and the format of videofolder's table."""

    folder: Path
    metadata: str


Lists = Callable[[Sequence[Clip], Setting], dict[str, bytes]]


@dataclass(frozen=True)
class Layout:
    """A form of a training set.

    Parameters
    ----------
    description
        For people.
    clip, text
        Paths of a clip and of its text, with ``{split}`` (empty, or a part's name and a slash) and
        ``{name}``; None if there are no such files. Such a text is one line.
    lists
        Returns the files that list the clips, by their paths.
    packed
        Whether clips go into tar files; see `shards`.
    """

    description: str
    clip: str | None = "videos/{name}.mp4"
    text: str | None = None
    lists: Lists = lambda clips, setting: {}
    packed: bool = False

    def path(self, pattern: str, sample: Sample) -> str:
        """Return the path of a sample's clip or text."""
        return pattern.format(split=sample.split and f"{sample.split}/", name=sample.name)


def one_line(text: str) -> str:
    """Return a text as one line: each run of blanks, tabs and line breaks as one space."""
    return " ".join(text.split())


def _parts(clips: Sequence[Clip]) -> dict[str, list[Clip]]:
    """Return the clips of each part, by its name."""
    parts: dict[str, list[Clip]] = {}
    for each in clips:
        parts.setdefault(each.sample.split, []).append(each)
    return parts


def _videofolder(clips: Sequence[Clip], setting: Setting) -> dict[str, bytes]:
    """Return a table beside the clips of each part, as ``datasets`` reads it."""
    files = {}
    for part, some in _parts(clips).items():
        rows = [
            {"file_name": Path(each.file).name, "caption": each.sample.text, **each.facts}
            for each in some
        ]
        name = f"{part}/metadata" if part else "metadata"
        files[f"{name}.{setting.metadata}"] = _TABLES[setting.metadata](rows)
    return files


def _csv(rows: list[dict[str, Any]]) -> bytes:
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\r\n").encode()


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    packed = io.BytesIO()
    pd.DataFrame(rows).convert_dtypes().to_parquet(packed, index=False)
    return packed.getvalue()


_TABLES: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "jsonl": json_lines,
    "csv": _csv,
    "parquet": _parquet,
}


def _musubi(clips: Sequence[Clip], setting: Setting) -> dict[str, bytes]:
    """Return JSON lines with whole paths: the trainer takes paths as they are."""
    return {
        f"{part or 'dataset'}.jsonl": json_lines(
            {"video_path": str(setting.folder / each.file), "caption": each.sample.text}
            for each in some
        )
        for part, some in _parts(clips).items()
    }


def _ltx(clips: Sequence[Clip], setting: Setting) -> dict[str, bytes]:
    """Return ``dataset.json``, and another file for validation, with paths relative to the file."""
    return {
        f"{'validation' if part == 'validation' else 'dataset'}.json": _json(
            [{"caption": each.sample.text, "media_path": each.file} for each in some]
        )
        for part, some in _parts(clips).items()
    }


def _events(clips: Sequence[Clip], setting: Setting) -> dict[str, bytes]:
    """Return times and sentences of each film, as in ActivityNet Captions."""
    files = {}
    for part, some in _parts(clips).items():
        films: dict[str, dict[str, Any]] = {}
        for each in some:
            row = each.sample.row
            film = films.setdefault(
                each.sample.film_name,
                {"duration": each.film_s, "timestamps": [], "sentences": [], "path": row["path"]},
            )
            for start_s, end_s, text in each.sample.timed:
                film["timestamps"].append([start_s, end_s])
                film["sentences"].append(one_line(text))
        for film in films.values():
            # By their start: an event may have no valid times, and then has those of its window.
            starts = [start for start, _ in film["timestamps"]]
            order = sorted(range(len(starts)), key=starts.__getitem__)
            for name in ("timestamps", "sentences"):
                film[name] = [film[name][at] for at in order]
        files[f"{part or 'events'}.json"] = _json(films)
    return files


def _coco(clips: Sequence[Clip], setting: Setting) -> dict[str, bytes]:
    """Return captions in COCO's form; its images are the clips."""
    files = {}
    for part, some in _parts(clips).items():
        images, annotations = [], []
        for number, each in enumerate(some, 1):
            assert each.made is not None
            size = {"width": each.made.width, "height": each.made.height}
            images.append({"id": number, "file_name": each.file, **size})
            annotations.append({"id": number, "image_id": number, "caption": each.sample.text})
        content = {"info": {}, "licenses": [], "images": images, "annotations": annotations}
        files[f"captions_{part}.json" if part else "captions.json"] = _json(content)
    return files


def _json(content: Any) -> bytes:
    return (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "replace")


LAYOUTS: dict[str, Layout] = {
    "sidecar": Layout(
        "a text file beside each clip (diffusion-pipe, musubi-tuner, ai-toolkit)",
        "{split}{name}.mp4",
        "{split}{name}.txt",
    ),
    "videofolder": Layout(
        "clips and a table, for datasets.load_dataset", "{split}{name}.mp4", lists=_videofolder
    ),
    "musubi": Layout("JSON lines of video_path and caption, for musubi-tuner", lists=_musubi),
    "ltx": Layout("dataset.json of caption and media_path, for LTX trainers", lists=_ltx),
    "cosmos": Layout(
        "folders videos and metas, for Cosmos", "{split}videos/{name}.mp4", "{split}metas/{name}.txt"
    ),
    "webdataset": Layout(
        "tar files of .mp4, .txt and .json, for webdataset", UNPACKED + "/{name}.mp4", packed=True
    ),
    "events": Layout(
        "times and sentences of each film, without clips, as ActivityNet", None, lists=_events
    ),
    "coco": Layout("captions in COCO's form", lists=_coco),
}
