"""ROUGE-L against pycocoevalcap and numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from pycocoevalcap.rouge.rouge import Rouge

from evlgen.errors import UsageError
from evlgen.metrics.rouge import rouge_l

from .caption_sets import KINDS, Captions, References, items, make, pycocoevalcap


def assert_equals_pycocoevalcap(predictions: Captions, references: References) -> None:
    scores = rouge_l(predictions, references)
    corpus, single = pycocoevalcap(Rouge(), predictions, references)
    np.testing.assert_allclose(scores, single, rtol=0, atol=1e-9)
    np.testing.assert_allclose(scores.mean(), corpus, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_equals_pycocoevalcap(kind: str) -> None:
    assert_equals_pycocoevalcap(*make(kind))


@given(items)
def test_equals_pycocoevalcap_on_anything(rows: list[tuple[str, list[str]]]) -> None:
    assert_equals_pycocoevalcap([p for p, _ in rows], [r for _, r in rows])


def test_captions_longer_than_a_machine_word() -> None:
    rng = np.random.default_rng(0)
    long = [" ".join(rng.choice(list("abcde"), size=n)) for n in (150, 130, 90, 64, 63, 1)]
    assert_equals_pycocoevalcap(long, [long[::-1]] * len(long))


def test_worked_by_hand() -> None:
    # common subsequences: "the cat sat" (3 of 4 and 3 of 6) and "cat sat" (2 of 4 and 2 of 2): best of each, 3/4 and 1
    scores = rouge_l(["the cat sat down", "", "", "no"], [["the big cat has sat up", "cat sat"], [""], ["a"], ["yes"]])
    expected = (1 + 1.2**2) * 0.75 * 1 / (1 + 1.2**2 * 0.75)
    # an empty caption is one empty token, which an empty reference has as well
    np.testing.assert_allclose(scores, [expected, 1, 0, 0], rtol=1e-12)


def test_only_single_spaces_split() -> None:
    assert rouge_l(["a\u00a0b"], [["a b"]]).tolist() == [0]


def test_nothing_to_score() -> None:
    assert rouge_l([], []).shape == (0,)


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(UsageError, match=r"^1 predictions for 2 items"):
        rouge_l(["a"], [["a"], ["b"]])
    with pytest.raises(UsageError, match=r"^item 0 \(from 0\) has no reference captions"):
        rouge_l(["a"], [[]])
