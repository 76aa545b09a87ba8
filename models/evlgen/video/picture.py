"""One decoded frame to upright RGB pixels, resized where it was decoded so that less data travels.

Phones' videos are turned by a display matrix: it sends the stored point (x, y) to (a x + c y, b x + d y) with y
pointing down. Quarter turns and mirror images are handled, as in practice; what is between is taken as the nearest one.
"""

import base64
import io
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evlgen.video.clip import ClipFrames, VideoInfo
from evlgen.video.timeline import Timeline

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Size = tuple[int, int] | int | None
"""(width, height) in pixels; or the longest side that a picture may have, aspect kept; or None to keep its own size."""


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
        """The orientation that a display matrix means by its upper left 2 x 2 part: a, b, c, d as files store them."""
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


def to_rgb(frame: Any, size: Size) -> "npt.NDArray[np.uint8]":
    """A PyAV frame as uint8 (H, W, 3), upright, in the size that `resize` gives it."""
    return resize(orientation_of(frame).upright(frame.to_ndarray(format="rgb24")), size)


def resize(picture: "npt.NDArray[np.uint8]", size: Size) -> "npt.NDArray[np.uint8]":
    """Resize uint8 (H, W, 3) to `size`: bicubic, antialiased when shrinking (Pillow's filter)."""
    import numpy as np
    from PIL import Image

    if isinstance(size, int):
        size = _within(size, picture.shape[1], picture.shape[0])
    if size is None or (picture.shape[1], picture.shape[0]) == size:
        return np.ascontiguousarray(picture)
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))


def as_jpeg(picture: "npt.NDArray[np.uint8]", quality: int) -> bytes:
    """A picture (H, W, 3) as the content of a JPEG file."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(picture).save(content, "JPEG", quality=quality)
    return content.getvalue()


def jpeg_url(content: bytes) -> str:
    """The content of a JPEG file as a data URL."""
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"


def _within(side: int, width: int, height: int) -> tuple[int, int]:
    """The size in the same aspect, as far as whole pixels allow, whose longer side is at most `side`."""
    scale = min(side / max(width, height), 1)
    return max(round(width * scale), 1), max(round(height * scale), 1)


def sampled_clip(
    path: Path,
    timeline: Timeline,
    found: "Sequence[tuple[int, npt.NDArray[np.uint8]]]",
    info: VideoInfo,
    *,
    damage: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> ClipFrames:
    """The clip of the frames that a decoder found; pictures of another size are resized to the first one's, and noted.

    Args:
        path: the file.
        timeline: when its frames are on display.
        found: presentation index and picture (H, W, 3) of every chosen frame, in the sampler's order.
        info: what the file says about itself.
        damage: why a part of the file could not be read, which makes the clip partial.
        notes: what else is odd.
    """
    import numpy as np

    height, width, _ = found[0][1].shape
    odd = sum(picture.shape != found[0][1].shape for _, picture in found)
    resized = (f"the picture size changes within the video: {odd} frames were resized to {width}x{height}",)
    return ClipFrames(
        path=path,
        frames=np.stack([resize(picture, (width, height)) for _, picture in found]),
        indices=tuple(index for index, _ in found),
        timestamps=tuple(timeline.times[index] for index, _ in found),
        info=info,
        partial=bool(damage),
        warnings=(*damage, *notes, *(resized if odd else ())),
    )
