"""Indexes and facts of films in the cache of files: what a second opening takes instead of the film."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import struct
import zlib
from fractions import Fraction
from typing import Any

import numpy as np

from captionkit.video.cache import file_cache
from captionkit.video.metadata import VideoMetadata

_HEAD = struct.Struct(">I")


def kept_facts(path: str, stamp: str) -> VideoMetadata | None:
    """Return the facts of a film as it is now; None if they are not kept."""
    fields = _get(path, "facts", stamp)
    try:
        return None if fields is None else VideoMetadata(**fields)
    except TypeError:
        return None


def kept_fields(path: str, stamp: str) -> dict[str, Any] | None:
    """Return the fields of a film's `index.StreamIndex`; None if they are not kept."""
    fields, facts = _get(path, "index", stamp), kept_facts(path, stamp)
    return None if fields is None or facts is None else {**fields, "metadata": facts}


def keep(path: str, stamp: str, fields: dict[str, Any]) -> None:
    """Keep the fields of an index; ``stamp`` is from before the film was read."""
    facts = vars(fields["metadata"])
    rest = {name: value for name, value in fields.items() if name != "metadata"}
    file_cache().put(path, _kind("facts"), stamp, pack(facts))
    file_cache().put(path, _kind("index"), stamp, pack(rest))


def _get(path: str, kind: str, stamp: str) -> dict[str, Any] | None:
    content = file_cache().get(path, _kind(kind), stamp)
    try:
        return None if content is None else unpack(content)
    except (ValueError, KeyError, TypeError, struct.error, zlib.error):
        return None


@functools.cache
def _kind(name: str) -> str:
    # Another decoder may tell other times.
    return f"{name}, PyAV {importlib.metadata.version('av')}"


def pack(fields: dict[str, Any]) -> bytes:
    """Return values of JSON, fractions and arrays of one dimension as bytes."""
    values, arrays, fractions = {}, {}, {}
    for name, value in fields.items():
        if isinstance(value, np.ndarray):
            arrays[name] = value
        elif isinstance(value, Fraction):
            fractions[name] = value.as_integer_ratio()
        else:
            values[name] = value
    shapes = [(name, array.dtype.str, len(array)) for name, array in arrays.items()]
    head = json.dumps({"values": values, "fractions": fractions, "arrays": shapes}).encode()
    parts = [_HEAD.pack(len(head)), head, *(array.tobytes() for array in arrays.values())]
    return zlib.compress(b"".join(parts), 1)


def unpack(content: bytes) -> dict[str, Any]:
    """Return what `pack` packed.

    Raises
    ------
    ValueError, KeyError, TypeError, struct.error, zlib.error
        If the content is damaged.
    """
    plain = zlib.decompress(content)
    begin = _HEAD.size + _HEAD.unpack_from(plain)[0]
    head = json.loads(plain[_HEAD.size : begin])
    fields: dict[str, Any] = dict(head["values"])
    fields |= {name: Fraction(*pair) for name, pair in head["fractions"].items()}
    for name, kind, count in head["arrays"]:
        fields[name] = np.frombuffer(plain, kind, count, begin)
        begin += fields[name].nbytes
    return fields
