"""One decoded PyAV frame to upright RGB pixels, resized where it was decoded so that less data travels."""

from typing import TYPE_CHECKING, Any

from evlgen.video.orientation import orientation_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Size = tuple[int, int] | None
"""(width, height) in pixels, or None to keep a picture's own size."""


def to_rgb(frame: Any, size: Size) -> "npt.NDArray[np.uint8]":
    """A PyAV frame as uint8 (H, W, 3), upright, exactly `size` when given."""
    return resize(orientation_of(frame).upright(frame.to_ndarray(format="rgb24")), size)


def resize(picture: "npt.NDArray[np.uint8]", size: Size) -> "npt.NDArray[np.uint8]":
    """Resize uint8 (H, W, 3) to `size`, aspect not kept: bicubic, antialiased when shrinking (Pillow's filter)."""
    import numpy as np
    from PIL import Image

    if size is None or (picture.shape[1], picture.shape[0]) == size:
        return np.ascontiguousarray(picture)
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))


def stack(pictures: "list[npt.NDArray[np.uint8]]") -> "tuple[npt.NDArray[np.uint8], tuple[str, ...]]":
    """Stack to (F, H, W, 3); pictures of another size are resized to the first one's, with a warning."""
    import numpy as np

    height, width, _ = pictures[0].shape
    odd = sum(picture.shape != pictures[0].shape for picture in pictures)
    stacked = np.stack([resize(picture, (width, height)) for picture in pictures])
    if not odd:
        return stacked, ()
    return stacked, (f"the picture size changes within the video: {odd} frames were resized to {width}x{height}",)
