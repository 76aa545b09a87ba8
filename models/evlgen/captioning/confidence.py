"""How likely a caption is good, by what was learned from captions that people have references for (calibration.py).

A language model is sure of sentences that it has often read, whatever the video shows: its log-probability alone is no
measure that people can use.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from evlgen.captioners.protocol import Caption

if TYPE_CHECKING:
    from evlgen.configuration import ConfidenceConfig, LogisticConfig


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
