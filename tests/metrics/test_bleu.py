"""BLEU against pycocoevalcap and numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from pycocoevalcap.bleu.bleu import Bleu

from evlgen.errors import UsageError
from evlgen.metrics.bleu import bleu_of, bleu_statistics
from evlgen.metrics.ngrams import count_ngrams

from .caption_sets import KINDS, Captions, References, items, make, pycocoevalcap


def assert_equals_pycocoevalcap(predictions: Captions, references: References) -> None:
    statistics = bleu_statistics(predictions, references)
    corpus, single = pycocoevalcap(Bleu(4), predictions, references)
    np.testing.assert_allclose(bleu_of(statistics.sum(0)), corpus, rtol=0, atol=1e-9)
    np.testing.assert_allclose(bleu_of(statistics).T, single, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_equals_pycocoevalcap(kind: str) -> None:
    assert_equals_pycocoevalcap(*make(kind))


@given(items)
def test_equals_pycocoevalcap_on_anything(rows: list[tuple[str, list[str]]]) -> None:
    assert_equals_pycocoevalcap([p for p, _ in rows], [r for _, r in rows])


def test_statistics_worked_by_hand() -> None:
    predictions = ["the the the cat", "a b c d e", "", "x\u00a0y"]
    references = [["the cat the", "a cat"], ["a b c", "c d e b a f g"], ["one two three", "one"], ["x y z"]]
    expected = [
        # "the" counts twice, as in the first reference; "the the" is in none, "the cat" is
        [4, 3, 4, 3, 2, 1, 3, 1, 0, 0],
        # lengths 3 and 7 are equally close to 5: the shorter; bigrams ab bc cd de, trigrams abc cde
        [5, 3, 5, 4, 3, 2, 5, 4, 2, 0],
        [0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        # a no-break space splits
        [2, 3, 2, 1, 0, 0, 2, 1, 0, 0],
    ]
    assert bleu_statistics(predictions, references).tolist() == expected


def test_scores_worked_by_hand() -> None:
    # 5 of 6 words, 3 of 5 bigrams, 1 of 4 trigrams, 1 of 3 4-grams; 6 words against 8
    sums = np.array([6, 8, 6, 5, 4, 3, 5, 3, 1, 1])
    penalty = np.exp(1 - 8 / 6)
    expected = [5 / 6 * penalty, 0.5**0.5 * penalty, 0.125 ** (1 / 3) * penalty, (1 / 24) ** 0.25 * penalty]
    np.testing.assert_allclose(bleu_of(sums), expected, atol=1e-8)
    np.testing.assert_array_equal(bleu_of(np.stack([[sums, sums * 2], [sums, sums]]))[0, 0], bleu_of(sums))


def test_counted_references_can_be_shared() -> None:
    predictions, references = make("good")
    shared = bleu_statistics(predictions, count_ngrams(references))
    np.testing.assert_array_equal(shared, bleu_statistics(predictions, references))


def test_nothing_to_score() -> None:
    assert bleu_statistics([], []).shape == (0, 10)


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(UsageError, match=r"^2 predictions for 1 items \(give exactly one prediction an item\)$"):
        bleu_statistics(["a", "b"], [["a"]])
    with pytest.raises(UsageError, match=r"^item 1 \(from 0\) has no reference captions"):
        bleu_statistics(["a", "b"], [["a"], []])
    with pytest.raises(TypeError, match=r"^item 0: expected a list of captions, not one text$"):
        bleu_statistics(["a"], ["a b c"])
