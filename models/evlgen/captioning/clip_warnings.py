"""Clips whose caption may be about nothing: all sampled frames are black, or nothing moves in them.

It is seen in the frames that the model saw; a clip may be neither between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BLACK, STILL, UNSURE = "black", "still", "unsure"
"""The first words of the warnings; the last is that of captions of little confidence."""

BLACK_LEVEL, BLACK_SHARE = 20, 0.98
"""Black is darker than this of 255 in so many of the pixels: film grain and logos are borne."""

STILL_LEVEL, STILL_SHARE = 12, 0.001
"""Still is when fewer pixels than this share differ by more than this of 255: what compression does to a still picture
stays below, and one small thing that moves does not."""


def warnings_about(frames: NDArray[np.uint8], indices: Sequence[int]) -> tuple[str, ...]:
    """One line for each fault; none for most clips.

    Args:
        frames: RGB (F, H, W, 3).
        indices: which frames of the video they are; a picture has only one, and is not still.
    """
    found = []
    brightness = frames.mean(axis=3)
    if (brightness < BLACK_LEVEL).mean(axis=(1, 2)).min() >= BLACK_SHARE:
        found.append(f"{BLACK}: no sampled frame shows anything")
    distinct = brightness[[place for place, index in enumerate(indices) if place == 0 or index != indices[place - 1]]]
    moved = abs(distinct[1:] - distinct[:-1]) > STILL_LEVEL
    if len(moved) and moved.mean(axis=(1, 2)).max() < STILL_SHARE:
        found.append(f"{STILL}: all sampled frames look the same")
    return tuple(found)
