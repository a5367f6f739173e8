"""The identity of a film's content, from what opening reads of it: a copied or moved file keeps it.

It is a hash of the file's size, of 18 blocks of 64 KiB (both ends and 16 in between, the whole of a
small file), of the size of each coded frame and of each frame's time. What it cannot tell apart are two
files of equal size whose every frame takes equally many bytes and has the same time, and that agree in
all blocks. Encoders make frames of all sizes, so another frame shows in the sizes; a byte that was
changed in place, by damage or by hand, may not show. Where frames have one of a few sizes (uncompressed
film, DV), sizes tell nothing: there all bytes of the packets are hashed too.

That is enough for the key of captions: no two films have one identity by chance, and a file that
changes while a session is open is found by `video.index.file_identity`.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK = 64 << 10
_BLOCKS = 18
#: Streams of fewer different sizes of packets are identified by all their bytes.
FEW_SIZES = 16


def sizes_tell(path: str, sizes: NDArray[np.int64]) -> bool:
    """Return whether sizes and blocks tell two films apart, so that no other byte has to be read."""
    return os.path.getsize(path) <= _BLOCK * _BLOCKS or len(np.unique(sizes)) > FEW_SIZES


class PacketHash:
    """Hash of the packets' bytes, given up as soon as the packets' sizes tell enough."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=16)
        self._sizes: set[int] = set()

    def add(self, packet: Any, size: int) -> None:
        """Add a packet; ``packet`` is anything with a buffer."""
        if len(self._sizes) <= FEW_SIZES:
            self._sizes.add(size)
            self._digest.update(packet)

    def digest(self) -> bytes:
        """Return the hash; empty if sizes tell enough."""
        return b"" if len(self._sizes) > FEW_SIZES else self._digest.digest()


def content_hash(
    path: str, sizes: NDArray[np.int64], seconds: NDArray[np.float64], packets: bytes = b""
) -> str:
    """Return the identity of a film's content, 32 hexadecimal digits.

    Parameters
    ----------
    path
        The file.
    sizes
        Bytes of each packet, of shape (packets,), in decode order.
    seconds
        Times of the shown frames, of shape (frames,).
    packets
        From `PacketHash.digest`, where `sizes_tell` is false.
    """
    size = os.path.getsize(path)
    digest = hashlib.blake2b(f"{size} {len(sizes)} {len(seconds)} ".encode(), digest_size=16)
    with open(path, "rb") as file:
        if size <= _BLOCK * _BLOCKS:
            digest.update(file.read())
        else:
            for number in range(_BLOCKS):
                file.seek((size - _BLOCK) * number // (_BLOCKS - 1))
                digest.update(file.read(_BLOCK))
    digest.update(sizes.astype("<i8").tobytes())
    # Microseconds: a last bit of rounding is no other film.
    digest.update(np.round(seconds * 1e6).astype("<i8").tobytes())
    if not sizes_tell(path, sizes):
        digest.update(packets)
    return digest.hexdigest()
