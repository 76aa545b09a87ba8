"""BLEU-1 to BLEU-4 of captions (Papineni et al., ACL 2002), with the numbers of pycocoevalcap.

As there: the reference length is the one closest to the prediction's, the shorter of two equally close ones; the
constants that keep a division by zero away are added to every count. Statistics can be summed: a corpus score, the
score of one caption and thousands of resampled corpus scores are the same function of different sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlgen.metrics.ngrams import MAX_N, NgramCounts, check_paired, count_ngrams, prepared, singly

GUESS_SMOOTHING = 1e-9
CORRECT_SMOOTHING = 1e-15


def bleu_statistics(predictions: Sequence[str], references: Sequence[Sequence[str]] | NgramCounts) -> NDArray[np.int64]:
    """What BLEU needs to know about each prediction.

    Args:
        predictions: one tokenized caption an item.
        references: tokenized captions of each item, or `count_ngrams` of them, shared with CIDEr.

    Returns:
        (N, 10): words in the prediction; words in the closest reference; for n = 1 to 4 the prediction's n-grams; for
        n = 1 to 4 those of them that stand in a reference, at most as often as in the reference that has most.

    Raises:
        UsageError: not one prediction an item, or an item without references.
    """
    counted = prepared(references)
    items = len(counted.sizes)
    check_paired(len(predictions), items)
    statistics = np.zeros((items, 2 + 2 * MAX_N), dtype=np.int64)
    if items == 0:
        return statistics
    guessed = count_ngrams(singly(predictions))
    statistics[:, 0] = guessed.lengths
    statistics[:, 1] = _closest(guessed.lengths, counted)
    statistics[:, 2 : 2 + MAX_N] = np.maximum(guessed.lengths[:, None] - np.arange(MAX_N), 0)
    pair = counted.pairs(guessed.caption, counted.numbers_of(guessed)[guessed.gram])
    rows = np.flatnonzero(pair >= 0)
    if len(rows):
        most = np.maximum.reduceat(counted.count, counted.pair_rows[:-1])
        correct = np.minimum(guessed.count[rows], most[pair[rows]])
        place = guessed.caption[rows] * MAX_N + guessed.order[guessed.gram[rows]]
        summed = np.bincount(place, weights=correct, minlength=items * MAX_N)
        statistics[:, 2 + MAX_N :] = summed.reshape(items, MAX_N)
    return statistics


def bleu_of(sums: NDArray[Any]) -> NDArray[np.float64]:
    """BLEU from summed statistics.

    Args:
        sums: (..., 10), sums of rows of `bleu_statistics`; single rows for the scores of single captions.

    Returns:
        (..., 4): BLEU-1 to BLEU-4, between 0 and 1.
    """
    sums = np.asarray(sums, dtype=np.float64)
    guess, correct = sums[..., 2 : 2 + MAX_N], sums[..., 2 + MAX_N :]
    precision = (correct + CORRECT_SMOOTHING) / (guess + GUESS_SMOOTHING)
    bleu = np.cumprod(precision, axis=-1) ** (1 / np.arange(1, MAX_N + 1))
    ratio = (sums[..., 0] + CORRECT_SMOOTHING) / (sums[..., 1] + GUESS_SMOOTHING)
    penalty = np.exp(np.minimum(1 - 1 / ratio, 0))
    result: NDArray[np.float64] = bleu * penalty[..., None]
    return result


def _closest(lengths: NDArray[np.int64], counted: NgramCounts) -> NDArray[np.int64]:
    """(N,): of each item's reference lengths the closest to the prediction's; of two equally close ones the shorter."""
    distance = np.abs(counted.lengths - np.repeat(lengths, counted.sizes))
    beyond = int(counted.lengths.max()) + 1
    nearest = np.minimum.reduceat(distance * beyond + counted.lengths, np.cumsum(counted.sizes) - counted.sizes)
    return nearest % beyond
