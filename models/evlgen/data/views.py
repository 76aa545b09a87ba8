"""What is shown of a frame: the plain picture squeezed to the tower's square, then random crops of it.

All frames of an item are cropped alike, every second crop is mirrored, and the choice depends on the name only, so
that a cache can go on where it stopped, and frames that are decoded in every step look the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LEAST_SIDE = 0.7
"""A crop keeps at least this part of the width, and of the height."""

TRANSFORM: dict[str, Any] = {
    "orientation": "upright",
    "frames": "middles of equal spans of time, each once",
    "aspect": "squeezed",
    "resize": "Pillow bicubic",
    "crops": f"side {LEAST_SIDE} to 1, every second one mirrored, drawn by SHA-256 of the name",
}
"""Everything about the way from a file to the tower's input that is not a number in the recipe; part of a cache's
fingerprint, so a change here must change a word here."""


@dataclass(frozen=True)
class Crop:
    """A part of a picture, as shares of its size.

    Attributes:
        scale: of width and height.
        at: where in what is left over, from left and top.
        mirrored: left and right are swapped.
    """

    scale: tuple[float, float]
    at: tuple[float, float]
    mirrored: bool


def draw_crops(name: str, views: int) -> list[Crop | None]:
    """The crop of every view of an item; None is the whole picture."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    generator = np.random.default_rng(seed)
    crops: list[Crop | None] = [None]
    for view in range(1, views):
        scale, at = generator.uniform(LEAST_SIDE, 1.0, 2), generator.uniform(0, 1, 2)
        crops.append(Crop((scale[0], scale[1]), (at[0], at[1]), view % 2 == 1))
    return crops


def make_view(frame: NDArray[np.uint8], crop: Crop | None, side: int) -> NDArray[np.uint8]:
    """A frame (H, W, 3) in one view (side, side, 3)."""
    picture = Image.fromarray(np.ascontiguousarray(frame))
    if crop is None:
        return np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC))
    width, height = picture.size
    w, h = crop.scale[0] * width, crop.scale[1] * height
    left, top = crop.at[0] * (width - w), crop.at[1] * (height - h)
    shown = picture.resize((side, side), Image.Resampling.BICUBIC, box=(left, top, left + w, top + h))
    return np.asarray(shown.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if crop.mirrored else shown)


def make_views(name: str, frames: list[NDArray[np.uint8]], views: int, side: int) -> list[NDArray[np.uint8]]:
    """Return every frame in every view, views fastest; view 0 is the plain one.

    Args:
        name: of the item, which decides the crops.
        frames: uint8 (H, W, 3) each.
        views: V; the plain one counts.
        side: S, of the square that a view is.

    Returns:
        F x V pictures, uint8 (S, S, 3).
    """
    crops = draw_crops(name, views)
    return [make_view(frame, crop, side) for frame in frames for crop in crops]
