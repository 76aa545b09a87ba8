"""Which of the captions of a video say what most of them say: the consensus of Phan et al. (arXiv 1712.09532).

Twenty people describe a video in twenty ways, some of them beside the point. The paper weights the caption loss of each
caption with its CIDEr-D against the other captions of its video (there: WXE). Here training draws captions in
proportion to that score: the same gradient on average, and no work for captions that weigh little. Among captions that
a model wrote, the one that agrees most with the others is the safest (the consensus of arXiv 1505.04467, section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evlgen.metrics.cider import CiderScorer
from evlgen.metrics.frequencies import DocumentFrequencies
from evlgen.metrics.ngrams import count_ngrams, singly
from evlgen.metrics.tokenizer import tokenize_captions

Floats = NDArray[np.float64]

ALL_ALIKE = DocumentFrequencies(2, {})
"""Frequencies under which every n-gram weighs the same: what one item's captions have in common, without a corpus."""
LEAST_SHARE = 1e-3
"""A caption that agrees with none of the others keeps this share of the mean probability of its video."""


def consensus(captions: Sequence[Sequence[str]], frequencies: DocumentFrequencies | None = None) -> list[Floats]:
    """CIDEr-D of every caption against the other captions of its item; one without others scores 0.

    Args:
        captions: of each item, as people or a model wrote them.
        frequencies: what n-grams are weighted by; None: those of all captions at hand.

    Returns:
        One array for each item, in the order of its captions; from 0 to 10.
    """
    counts = [len(own) for own in captions]
    words = tokenize_captions([caption for own in captions for caption in own])
    ends = np.cumsum(counts)
    tokens = [words[end - count : end] for end, count in zip(ends.tolist(), counts, strict=True)]
    if frequencies is None:
        frequencies = DocumentFrequencies.from_references(tokens)
    number = np.repeat(np.arange(len(counts)), counts)
    with_itself = CiderScorer(tokens, frequencies).score_pairs(number, words)
    itself = CiderScorer(count_ngrams(singly(words)), frequencies).score(words)
    of = np.array(counts, dtype=np.float64)[number]  # CIDEr-D is a mean over the references: take its own part out
    others = np.maximum(with_itself * of - itself, 0.0) / np.maximum(of - 1, 1.0)
    return [np.asarray(part) for part in np.split(others, ends[:-1])]


def draw_probabilities(scores: Floats, power: float) -> Floats:
    """(K,) how likely each caption of an item is drawn: in proportion to score ** power; they sum to 1.

    Args:
        scores: (K,) of `consensus`.
        power: 0 draws all alike, 1 is the paper's weighting, more leans further on the captions that agree most.
    """
    best = scores.max()
    if best == 0 or power == 0:
        return np.full(len(scores), 1 / len(scores))
    weights: Floats = (scores / best) ** power
    weights = np.maximum(weights, LEAST_SHARE * weights.mean())
    weights /= weights.sum()
    return weights
