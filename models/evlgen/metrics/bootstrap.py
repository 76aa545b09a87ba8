"""Confidence intervals by resampling items (videos) with replacement: the percentile bootstrap (Efron 1979).

A corpus score is a function of per-item statistics that add up (BLEU, METEOR) or of a mean (ROUGE-L, CIDEr with its
document frequencies fixed), so a resample is a vector of counts and a thousand of them are one matrix product. The same
counts serve every score of a report and both sides of a comparison (Koehn 2004, "Statistical significance tests for
machine translation evaluation", section 3: paired bootstrap).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FEW_ITEMS = 100
_CHUNK_CELLS = 2**22  # counts held at a time: 32 MB


@dataclass(frozen=True)
class Statistics:
    """What a corpus score is computed from.

    Attributes:
        rows: (N, S) one row an item.
        score: from the sums of rows, (..., S) -> (...); None: the score is the mean of the only column.
    """

    rows: Floats
    score: Callable[[Floats], Floats] | None = None

    def of(self, counts: Floats) -> Floats:
        """Scores of resamples: (R, N) how often each item was drawn -> (R,)."""
        sums: Floats = counts @ self.rows
        if self.score is not None:
            return self.score(sums)
        means: Floats = sums[:, 0] / counts.sum(axis=1)
        return means

    @property
    def value(self) -> float:
        """The score itself: every item once."""
        return float(self.of(np.ones((1, len(self.rows))))[0])


def mean_of(values: Floats) -> Statistics:
    """Statistics of a score that is the mean of per-item values (N,)."""
    return Statistics(np.asarray(values, dtype=np.float64)[:, None])


def resample(statistics: list[Statistics], *, samples: int, seed: int) -> Floats:
    """Scores of `samples` resamples, the same ones for all: (len(statistics), samples).

    All statistics must be of the same N items, in the same order; that is what makes a comparison paired.
    """
    items = len(statistics[0].rows)
    assert all(len(one.rows) == items for one in statistics), "statistics of different items"
    generator = np.random.default_rng(seed)
    out = np.empty((len(statistics), samples))
    step = max(1, _CHUNK_CELLS // items)
    for start in range(0, samples, step):
        size = min(step, samples - start)
        drawn = generator.integers(items, size=(size, items))
        drawn += np.arange(size)[:, None] * items
        counts = np.bincount(drawn.ravel(), minlength=size * items).reshape(size, items).astype(np.float64)
        for place, one in enumerate(statistics):
            out[place, start : start + size] = one.of(counts)
    return out


def interval(resampled: Floats, level: float) -> tuple[float, float]:
    """The central `level` (0.95: from the 2.5th to the 97.5th percentile) of resampled scores (R,)."""
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def p_value(differences: Floats) -> float:
    """Two-sided p of "no difference" from resampled differences (R,): twice the share on the rarer side of zero.

    One is added to both counts, so that a finite number of resamples never claims p = 0.
    """
    below = (int(np.sum(differences <= 0)) + 1) / (len(differences) + 1)
    above = (int(np.sum(differences >= 0)) + 1) / (len(differences) + 1)
    return min(1.0, 2 * min(below, above))


def p_floor(samples: int) -> float:
    """The smallest p that so many resamples can give: what it stands for may be smaller by any amount."""
    return min(1.0, 2 / (samples + 1))


def caution(items: int, samples: int) -> str:
    """What to know about intervals of few items; "" where there are enough, or no intervals."""
    if items >= FEW_ITEMS or not samples:
        return ""
    return (
        f"intervals of {items} items are too narrow: a bootstrap of fewer than {FEW_ITEMS} sees too little of what "
        "others would be like (with 20, intervals of 95% hold the truth in 80 to 88% of cases)"
    )
