"""Tar files of a training set for webdataset: a clip, its text and its facts in a row."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence

from captionkit.export.dataset.folder import DatasetFolder
from captionkit.export.dataset.layouts import Clip, one_line

# Bytes of a tar file beside its members: a header and padding for each of the three, at most.
_BESIDE = 3 * 1024


def pack(folder: DatasetFolder, clips: Sequence[Clip], most_bytes: int) -> None:
    """Write clips into tar files of at most ``most_bytes``, each part's in files of its own.

    A clip that is larger has a file of its own.
    """
    for name, some in _shards(clips, most_bytes):
        part = folder.part(name)
        with tarfile.open(part, "w") as tar:
            for clip in some:
                sample = clip.sample
                facts = {**clip.facts, "caption": sample.text}
                tar.add(folder.path / clip.file, f"{sample.name}.mp4", filter=_plain)
                for suffix, text in (
                    ("txt", one_line(sample.text)),
                    ("json", json.dumps(facts, ensure_ascii=False)),
                ):
                    data = text.encode("utf-8", "replace")
                    member = tarfile.TarInfo(f"{sample.name}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        folder.add_packed(name)


def _shards(clips: Sequence[Clip], most_bytes: int) -> Iterator[tuple[str, list[Clip]]]:
    for part in dict.fromkeys(clip.sample.split for clip in clips):
        shard: list[Clip] = []
        number = size = 0
        for clip in (each for each in clips if each.sample.split == part):
            assert clip.made is not None
            own = clip.made.bytes + len(clip.sample.text.encode("utf-8", "replace")) * 2 + _BESIDE
            if shard and size + own > most_bytes:
                yield _name(part, number), shard
                shard, size, number = [], 0, number + 1
            shard.append(clip)
            size += own
        if shard:
            yield _name(part, number), shard


def _name(part: str, number: int) -> str:
    return f"{part or 'clips'}-{number:06d}.tar"


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave out the user, the group and the time, so that equal sets have equal files."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member
