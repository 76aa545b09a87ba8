"""What is cached of a frame: the plain picture squeezed to the tower's square, then random crops of it.

All frames of an item are cropped alike, every second crop is mirrored, and the choice depends on the name only, so
that a cache can go on where it stopped.
"""

from __future__ import annotations

import hashlib
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


def make_views(name: str, frames: list[NDArray[np.uint8]], views: int, side: int) -> list[NDArray[np.uint8]]:
    """Every frame (H, W, 3) in every view (side, side, 3), views fastest; view 0 is the plain one."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    generator = np.random.default_rng(seed)
    crops = [(generator.uniform(LEAST_SIDE, 1.0, 2), generator.uniform(0, 1, 2), v % 2 == 1) for v in range(1, views)]
    made: list[NDArray[np.uint8]] = []
    for frame in frames:
        picture = Image.fromarray(np.ascontiguousarray(frame))
        width, height = picture.size
        made.append(np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC)))
        for (scale_x, scale_y), (at_x, at_y), mirrored in crops:
            w, h = scale_x * width, scale_y * height
            left, top = at_x * (width - w), at_y * (height - h)
            crop = picture.resize((side, side), Image.Resampling.BICUBIC, box=(left, top, left + w, top + h))
            made.append(np.asarray(crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else crop))
    return made
