"""ROUGE-L of captions (Lin, ACL workshop 2004), with the numbers of pycocoevalcap.

As there: beta is 1.2, the best precision and the best recall may come from different references, and tokens are what
stands between single spaces, so that an empty caption is one empty token. The longest common subsequence is computed
bit-parallel (Hyyrö, "Bit-parallel LCS-length computation revisited", 2004), a whole row of the table in one integer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evlgen.metrics.ngrams import check_paired, group_sizes

BETA = 1.2


def rouge_l(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """ROUGE-L of each prediction, between 0 and 1; the corpus score is the mean.

    Args:
        predictions: one tokenized caption an item.
        references: tokenized captions of each item.

    Returns:
        (N,)

    Raises:
        UsageError: not one prediction an item, or an item without references.
    """
    check_paired(len(predictions), len(group_sizes(references)))
    scores = map(_rouge_l, predictions, references)
    return np.fromiter(scores, np.float64, len(predictions))


def _rouge_l(prediction: str, references: Sequence[str]) -> float:
    tokens = prediction.split(" ")
    places: dict[str, int] = {}  # for each token the places where it stands, as bits
    bit = 1
    for token in tokens:
        places[token] = places.get(token, 0) | bit
        bit <<= 1
    whole = bit - 1
    place = places.get
    longest, recall = 0, 0.0
    for reference in references:
        others = reference.split(" ")
        row = whole  # a bit is cleared where the table's row steps up by one
        for there in map(place, others):
            if there:
                step = row & there
                row = (row + step) | (row - step)
        common = (~row & whole).bit_count()
        longest = max(longest, common)
        recall = max(recall, common / len(others))
    if longest == 0:
        return 0.0
    precision = longest / len(tokens)
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)
