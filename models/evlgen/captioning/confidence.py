"""How far a caption can be trusted: clips that are black or still, and how likely the caption is good.

Black and still are seen in the frames that the model saw; a clip may be neither between them. How likely a caption is
good was learned from captions that people have references for (calibration.py): a language model is sure of sentences
that it has often read, whatever the video shows, so its log-probability alone is no measure that people can use.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from evlgen.captioners.protocol import Caption

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from evlgen.configuration import ConfidenceConfig, LogisticConfig

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


def confidence_of(caption: Caption, config: ConfidenceConfig | None) -> float | None:
    """The probability that a caption is good, from 0 to 1; None where the model is not calibrated or wrote nothing."""
    if config is None or not caption.token_count or caption.log_probability is None:
        return None
    if not math.isfinite(caption.log_probability):
        return None
    mean = caption.log_probability / caption.token_count
    if caption.agreement is not None and config.with_agreement is not None:
        return probability(config.with_agreement, [mean, caption.agreement])
    return probability(config.alone, [mean])


def probability(fitted: LogisticConfig, features: Sequence[float]) -> float:
    """What a logistic regression gives for one set of features."""
    total = fitted.intercept + sum(w * x for w, x in zip(fitted.weights, features, strict=True))
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, total))))
