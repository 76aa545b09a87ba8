"""Resampling against a slow loop, a closed form and known coverage."""

import numpy as np
import pytest

from evlgen.metrics.bleu import bleu_of, bleu_statistics
from evlgen.metrics.bootstrap import FEW_ITEMS, Statistics, caution, interval, mean_of, p_floor, p_value, resample


def test_a_resample_of_a_mean_is_the_mean_of_the_drawn_items() -> None:
    values = np.random.default_rng(1).normal(size=37)
    got = resample([mean_of(values)], samples=50, seed=3)[0]
    drawn = np.random.default_rng(3).integers(37, size=(50, 37))
    np.testing.assert_allclose(got, [values[one].mean() for one in drawn], rtol=1e-12)


def test_corpus_bleu_of_a_resample_is_bleu_of_the_drawn_captions() -> None:
    predictions = ["a dog runs in the park", "two men play a game", "a cat", "a woman is cooking some food now"]
    references = [
        ["a dog runs on the grass in a park"],
        ["two men play cards", "men play a game"],
        ["a cat sleeps"],
        ["she cooks"],
    ]
    rows = bleu_statistics(predictions, references)
    got = resample([Statistics(rows.astype(float), lambda s: bleu_of(s)[..., 3])], samples=20, seed=0)[0]
    drawn = np.random.default_rng(0).integers(4, size=(20, 4))
    for value, one in zip(got, drawn, strict=True):
        again = bleu_statistics([predictions[i] for i in one], [references[i] for i in one])
        assert value == pytest.approx(bleu_of(again.sum(axis=0))[3], abs=1e-12)


def test_chunks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(5).normal(size=20)
    whole = resample([mean_of(values)], samples=33, seed=8)
    monkeypatch.setattr("evlgen.metrics.bootstrap._CHUNK_CELLS", 60)
    np.testing.assert_allclose(resample([mean_of(values)], samples=33, seed=8), whole)


def test_the_interval_of_a_mean_is_near_the_normal_one() -> None:
    values = np.random.default_rng(2).normal(50, 10, size=400)
    low, high = interval(resample([mean_of(values)], samples=4000, seed=0)[0], 0.95)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.12)
    assert high == pytest.approx(values.mean() + half, abs=0.12)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(11)
    hits = 0
    for seed in range(300):
        sample = generator.exponential(1.0, size=150)
        low, high = interval(resample([mean_of(sample)], samples=400, seed=seed)[0], 0.9)
        hits += low <= 1.0 <= high
    assert 0.84 <= hits / 300 <= 0.95


def test_both_sides_of_a_comparison_see_the_same_draws() -> None:
    values = np.random.default_rng(4).normal(size=50)
    a, b = resample([mean_of(values), mean_of(values + 3)], samples=100, seed=1)
    np.testing.assert_allclose(b - a, 3.0)


def test_p_values() -> None:
    assert p_value(np.array([1.0] * 999)) == pytest.approx(2 / 1000)
    assert p_value(np.array([-1.0, 1.0] * 50)) == 1.0
    assert p_value(np.zeros(100)) == 1.0  # two equal sets: no evidence at all
    differences = np.array([-1.0] * 25 + [1.0] * 975)
    assert p_value(differences) == pytest.approx(2 * 26 / 1001)


def test_the_smallest_p_follows_from_the_number_of_resamples() -> None:
    for count in (40, 999, 1000, 5000):
        assert p_value(np.ones(count)) == p_floor(count)
        assert p_value(np.array([-1.0] + [1.0] * (count - 1))) > p_floor(count)


def test_intervals_of_few_items_are_too_narrow_and_say_so() -> None:
    generator = np.random.default_rng(3)
    hits = 0
    for seed in range(400):
        sample = generator.exponential(1.0, size=20)
        low, high = interval(resample([mean_of(sample)], samples=400, seed=seed)[0], 0.95)
        hits += low <= 1.0 <= high
    assert 0.80 <= hits / 400 <= 0.92
    assert "with 20, intervals of 95% hold the truth in 80 to 88% of cases" in caution(20, 1000)
    assert caution(FEW_ITEMS - 1, 1000).startswith("intervals of 99 items are too narrow: ")
    assert caution(FEW_ITEMS, 1000) == caution(20, 0) == ""


def test_p_is_rarely_small_when_nothing_differs() -> None:
    generator = np.random.default_rng(7)
    small = 0
    for seed in range(300):
        noise = generator.normal(size=(2, 80))
        a, b = resample([mean_of(noise[0]), mean_of(noise[1])], samples=400, seed=seed)
        small += p_value(b - a) < 0.05
    assert small / 300 < 0.1
