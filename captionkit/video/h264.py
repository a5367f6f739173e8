"""Whether an H.264 stream may hold fields, from its sequence header."""

from __future__ import annotations

# Profiles whose header describes the chroma format.
_HIGH = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._bits = "".join(f"{byte:08b}" for byte in data)
        self._at = 0

    def take(self, count: int) -> int:
        if self._at + count > len(self._bits):
            raise EOFError
        self._at += count
        return int(self._bits[self._at - count : self._at] or "0", 2)

    def golomb(self) -> int:
        zeros = 0
        while self.take(1) == 0:
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)


def may_hold_fields(extradata: bytes | None) -> bool:
    """Whether a packet may be half a frame; True if the header does not say.

    Parameters
    ----------
    extradata
        The stream's header, in the form of mp4 (avcC) or with start codes.
    """
    headers = _sequence_headers(extradata or b"")
    return not headers or not all(_frames_only(each) for each in headers)


def _sequence_headers(data: bytes) -> list[bytes]:
    if data[:1] != b"\x01":
        units = data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
        return [unit[1:] for unit in units if unit and unit[0] & 31 == 7]
    found, at = [], 6
    for _ in range(data[5] & 31 if len(data) > 5 else 0):
        size = int.from_bytes(data[at : at + 2], "big")
        found.append(data[at + 3 : at + 2 + size])
        at += 2 + size
    return found


def _frames_only(header: bytes) -> bool:
    """Return the header's frame_mbs_only_flag; False if it cannot be read."""
    bits = _Bits(header.replace(b"\0\0\3", b"\0\0"))
    try:
        profile = bits.take(8)
        bits.take(16)
        bits.golomb()
        if profile in _HIGH:
            if bits.golomb() == 3:
                bits.take(1)
            bits.golomb()
            bits.golomb()
            bits.take(1)
            if bits.take(1):
                # Scaling lists are not parsed.
                return False
        bits.golomb()
        order = bits.golomb()
        if order == 0:
            bits.golomb()
        elif order == 1:
            bits.take(1)
            bits.golomb()
            bits.golomb()
            for _ in range(bits.golomb()):
                bits.golomb()
        bits.golomb()
        bits.take(1)
        bits.golomb()
        bits.golomb()
        return bool(bits.take(1))
    except EOFError:
        return False
