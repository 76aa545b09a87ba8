"""CIDEr and CIDEr-D (Vedantam et al., CVPR 2015, arXiv 1411.5726, section 4), with the numbers of pycocoevalcap.

What everybody reports as CIDEr is the formula of CIDEr-D: clipped counts, and a Gaussian penalty on the difference in
length (in bigrams, as pycocoevalcap has it). The paper's first form without the two is there as well. Neither stems
words. An n-gram of no document is weighted as if one document had it. Both are times 10, as in pycocoevalcap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evlgen.errors import UsageError
from evlgen.metrics.frequencies import DocumentFrequencies
from evlgen.metrics.ngrams import (
    MAX_N,
    Ints,
    NgramCounts,
    check_paired,
    count_ngrams,
    prepared,
    singly,
)

Floats = NDArray[np.float64]

FACTOR = 10.0


class CiderScorer:
    """Scores captions against reference sets that are prepared once.

    Args:
        references: tokenized captions of each item, or `count_ngrams` of them.
        frequencies: how many documents have each n-gram; None counts the references at hand.
        form: "cider-d", which is pycocoevalcap's CIDEr, or "cider", the paper's first form.
        sigma: of the length penalty of CIDEr-D, in words.

    Raises:
        UsageError: no references at all or for an item; no such form.
    """

    def __init__(
        self,
        references: Sequence[Sequence[str]] | NgramCounts,
        frequencies: DocumentFrequencies | None = None,
        *,
        form: Literal["cider-d", "cider"] = "cider-d",
        sigma: float = 6.0,
    ) -> None:
        if form not in ("cider-d", "cider"):
            raise UsageError(f"there is no form {form!r} of CIDEr", "use cider-d or cider")
        counted = prepared(references)
        if len(counted.sizes) == 0:
            raise UsageError("CIDEr needs at least one item with reference captions")
        self.form = form
        self.sigma = sigma
        self._references = counted
        self._frequencies = frequencies
        documents = len(counted.sizes) if frequencies is None else frequencies.documents
        # One table, so that an n-gram of all documents weighs exactly nothing: its norm is compared with zero.
        logarithm = np.log(np.maximum(np.arange(documents + 1.0), 1.0))
        self._idf_by_count: Floats = logarithm[documents] - logarithm
        if frequencies is None:
            own = counted.document_frequencies()
        else:
            own = _look_up(frequencies, counted.texts())
            if np.count_nonzero(own) == len(frequencies.counts):
                self._frequencies = None  # they know no other n-grams than the references: nothing more to look up
        self._idf: Floats = self._idf_by_count[own]
        self._norms = _norms(counted, self._idf)

    def __len__(self) -> int:
        """Number of reference sets."""
        return len(self._references.sizes)

    def score(self, predictions: Sequence[str]) -> Floats:
        """CIDEr of one tokenized caption for each reference set, in their order; the corpus score is the mean.

        Returns:
            (N,), between 0 and 10.

        Raises:
            UsageError: not one prediction for each reference set.
        """
        check_paired(len(predictions), len(self))
        return self.score_pairs(range(len(self)), predictions)

    def score_pairs(self, items: Sequence[int] | Ints, captions: Sequence[str]) -> Floats:
        """CIDEr of tokenized captions, each against the reference set that is named with it.

        Args:
            items: (M,), numbers of reference sets, in any order and as often as wanted.
            captions: (M,)

        Returns:
            (M,), between 0 and 10.

        Raises:
            UsageError: not as many items as captions.
            IndexError: there is no such item.
        """
        if len(captions) != len(items):
            raise UsageError(f"{len(captions)} captions for {len(items)} items", "name one item for each caption")
        if len(captions) == 0:
            return np.zeros(0)
        item = np.asarray(items, dtype=np.int64)
        if item.min() < 0 or item.max() >= len(self):
            raise IndexError(f"items must lie between 0 and {len(self) - 1}")
        refs, given = self._references, count_ngrams(singly(captions))
        number = refs.numbers_of(given)
        idf = self._idf_of(given, number)

        # rows of the captions that their reference set knows; then every row of the references with that n-gram
        pair = refs.pairs(item[given.caption], number[given.gram])
        known = np.flatnonzero(pair >= 0)
        begin, end = refs.pair_rows[pair[known]], refs.pair_rows[pair[known] + 1]
        mine = np.repeat(known, end - begin)
        theirs = np.arange(len(mine)) + np.repeat(begin - np.cumsum(end - begin) + (end - begin), end - begin)

        gram, caption, reference = given.gram[mine], given.caption[mine], refs.caption[theirs]
        order = given.order[gram]
        count = given.count[mine]
        if self.form == "cider-d":
            count = np.minimum(count, refs.count[theirs])
        product = count * refs.count[theirs] * idf[gram] ** 2
        norms = _norms(given, idf)[caption, order] * self._norms[reference, order]
        similarity = np.divide(product, norms, out=np.zeros(len(mine)), where=norms != 0)
        if self.form == "cider-d":
            # both have a word, so the difference in bigrams is the difference in words
            longer = given.lengths[caption] - refs.lengths[reference]
            similarity *= np.exp(-(longer**2) / (2 * self.sigma**2))
        summed = np.bincount(caption, weights=similarity, minlength=len(captions))
        return summed * (FACTOR / MAX_N) / refs.sizes[item]

    def _idf_of(self, given: NgramCounts, number: Ints) -> Floats:
        """(n-grams of given,): their weights; number: what they are called among the references, -1 if not there."""
        idf = np.full(len(number), self._idf_by_count[0])
        there = number >= 0
        idf[there] = self._idf[number[there]]
        if self._frequencies is not None and not there.all():
            texts = given.texts()
            missing = np.flatnonzero(~there)
            idf[missing] = self._idf_by_count[_look_up(self._frequencies, [texts[i] for i in missing.tolist()])]
        return idf


def _look_up(frequencies: DocumentFrequencies, texts: Sequence[str]) -> Ints:
    count = frequencies.counts.get
    return np.fromiter((count(text, 0) for text in texts), np.int64, len(texts))


def _norms(counted: NgramCounts, idf: Floats) -> Floats:
    """(captions, 4): lengths of the captions' vectors of weighted n-grams, for n = 1 to 4."""
    place = counted.caption * MAX_N + counted.order[counted.gram]
    squares = (counted.count * idf[counted.gram]) ** 2
    total = np.bincount(place, weights=squares, minlength=len(counted.lengths) * MAX_N)
    return np.sqrt(total).reshape(-1, MAX_N)
