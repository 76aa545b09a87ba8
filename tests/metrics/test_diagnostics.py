"""Figures about captions, counted by hand."""

import pytest

from evlgen.metrics.diagnostics import BAD_ENDINGS, diagnose, ends_badly


def test_figures_by_hand() -> None:
    figures = diagnose(["a man rides a horse", "a man rides a", "a man rides a horse", ""])
    assert figures.captions == 4
    assert figures.mean_words == pytest.approx((5 + 4 + 5 + 0) / 4)
    assert figures.distinct_captions == 3
    assert figures.vocabulary == 4  # a man rides horse
    assert figures.bad_ending_share == 0.25
    assert figures.repeat_share == 0.25
    assert figures.empty == 1


def test_nothing_at_all() -> None:
    figures = diagnose([])
    assert (figures.captions, figures.mean_words, figures.repeat_share, figures.vocabulary) == (0, 0.0, 0.0, 0)


@pytest.mark.parametrize("caption", ["a man riding a", "a dog in the", "a cup of", "people and", "a man who is"])
def test_bad_endings(caption: str) -> None:
    assert ends_badly(caption)


@pytest.mark.parametrize("caption", ["a man riding a horse", "a dog runs", "", "an island"])
def test_good_endings(caption: str) -> None:
    assert not ends_badly(caption)


def test_the_list_holds_single_lower_case_words() -> None:
    assert all(word == word.lower().strip() and " " not in word for word in BAD_ENDINGS)
