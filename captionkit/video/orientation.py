"""How a picture is turned and mirrored before it is shown, as ffplay does it."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation
from numpy.typing import NDArray


@dataclass(frozen=True)
class Orientation:
    """Mirror, then turn.

    Parameters
    ----------
    turns
        Quarter turns clockwise.
    mirrored
        Whether left and right are exchanged before the turn.
    """

    turns: int = 0
    mirrored: bool = False

    def apply(self, picture: NDArray[Any]) -> NDArray[Any]:
        """Return a picture of shape (height, width, …) as it is shown."""
        if self.mirrored:
            picture = picture[:, ::-1]
        # rot90 turns anticlockwise.
        return np.rot90(picture, -self.turns)


def upright(frame: VideoFrame, orientation: Orientation, size: tuple[int, int]) -> VideoFrame:
    """Return a picture as yuv420p of a size, (width, height) as shown, turned as it is shown."""
    width, height = size[::-1] if orientation.turns % 2 else size
    rgb = frame.format.is_rgb
    if orientation.turns or orientation.mirrored:
        picture = frame.reformat(width, height, "rgb24", interpolation=Interpolation.BICUBIC)
        turned = np.ascontiguousarray(orientation.apply(picture.to_ndarray()))
        frame, rgb = VideoFrame.from_ndarray(turned, format="rgb24"), True
    tags: dict[str, Any] = {}
    if rgb:
        # Say which matrix made the colours; players guess by size otherwise.
        tags = {"dst_colorspace": "ITU709", "dst_color_primaries": 1, "dst_color_trc": 1}
    elif frame.color_range == ColorRange.JPEG:
        # Readers would call a full range yuvj420p.
        tags = {"src_color_range": "JPEG", "dst_color_range": "MPEG"}
    made: VideoFrame = frame.reformat(*size, "yuv420p", interpolation=Interpolation.BICUBIC, **tags)
    return made


def keep_colours(context: Any, frame: VideoFrame) -> None:
    """Tell an encoder how the colours of its frames are meant."""
    for name in ("color_range", "colorspace", "color_primaries", "color_trc"):
        setattr(context, name, getattr(frame, name))


def of_frame(frame: Any) -> Orientation:
    """Return the orientation that a decoded frame asks for.

    Raises
    ------
    ValueError
        If the angle is not a multiple of 90 degrees.
    """
    for data in frame.side_data.keys():  # noqa: SIM118 (a mapping by index)
        if data.type.name == "DISPLAYMATRIX":
            return of_matrix(struct.unpack("=9i", bytes(data)[:36]))
    return Orientation()


def of_matrix(matrix: tuple[int, ...]) -> Orientation:
    """Return the orientation of a display matrix of nine numbers, by ffplay's rules.

    Raises
    ------
    ValueError
        If the angle is not a multiple of 90 degrees.
    """
    a, b, _, c, d, *_ = matrix
    across, down = math.hypot(a, c), math.hypot(b, d)
    # A matrix without an angle turns nothing.
    clockwise = math.degrees(math.atan2(b / down, a / across)) if across and down else 0.0
    angle = round(clockwise) % 360
    if angle in (89, 90, 91):
        # ffplay's cclock_flip: exchange rows and columns.
        return Orientation(1, mirrored=False) if c <= 0 else Orientation(3, mirrored=True)
    if angle in (179, 180, 181):
        flips = (a < 0, d < 0)
        return {
            (True, True): Orientation(2),
            (True, False): Orientation(0, mirrored=True),
            (False, True): Orientation(2, mirrored=True),
            (False, False): Orientation(),
        }[flips]
    if angle in (269, 270, 271):
        return Orientation(3) if c >= 0 else Orientation(1, mirrored=True)
    if 1 < angle < 359:
        raise ValueError(f"its picture is turned by {angle} degrees; only quarter turns are read")
    return Orientation(2, mirrored=True) if d < 0 else Orientation()
