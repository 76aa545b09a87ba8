"""Turn a stored picture upright: the display matrix of phones' videos, quarter turns and mirror images alike.

A display matrix sends the stored point (x, y) to (a x + c y, b x + d y) with y pointing down. Only multiples of a
quarter turn are handled, as in practice; anything between is taken as the nearest one.
"""

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class Orientation:
    """How to turn a stored picture.

    Args:
        transpose: exchange rows and columns first.
        mirror: then exchange left and right.
        flip: then exchange top and bottom.
        degrees: counter-clockwise rotation in the matrix, from -180 to 179, mirror images aside.
    """

    transpose: bool = False
    mirror: bool = False
    flip: bool = False
    degrees: int = 0

    @classmethod
    def from_matrix(cls, a: float, b: float, c: float, d: float) -> "Orientation":
        """From the upper left 2 x 2 part of a display matrix, in the order in which files store it: a, b, c, d."""
        degrees = -round(math.degrees(math.atan2(b / (math.hypot(b, d) or 1), a / (math.hypot(a, c) or 1))))
        degrees = -180 if degrees == 180 else degrees
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(transpose=True, mirror=c < 0, flip=b < 0, degrees=degrees)
        return cls(mirror=a < 0, flip=d < 0, degrees=degrees)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height as displayed, from those stored, in pixels."""
        return (height, width) if self.transpose else (width, height)

    def upright(self, picture: "npt.NDArray[np.uint8]") -> "npt.NDArray[np.uint8]":
        """Turn a picture of shape (H, W, 3); returns a view of shape (H, W, 3) or (W, H, 3)."""
        if self.transpose:
            picture = picture.transpose(1, 0, 2)
        if self.mirror:
            picture = picture[:, ::-1]
        if self.flip:
            picture = picture[::-1]
        return picture


def orientation_of(frame: Any) -> Orientation:
    """The orientation that a decoded PyAV frame carries; the identity when it carries none."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return Orientation()
    matrix = struct.unpack("=9i", bytes(data)[:36])
    return Orientation.from_matrix(matrix[0], matrix[1], matrix[3], matrix[4])
