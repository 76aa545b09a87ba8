"""The vocabulary loss against numbers worked out by hand, and the schedule's corner values."""

import math

import pytest
import torch

from evlgen.data.caption_sources import CaptionedItem
from evlgen.errors import UsageError
from evlgen.training.objectives import VocabularyObjective
from evlgen.training.optimizer import learning_rate
from tests.modeling.conftest import tiny_model

ITEMS = [CaptionedItem("1", ("a dog", "a dog runs")), CaptionedItem("2", ("the cat", "a cat"))]


def objective() -> VocabularyObjective:
    """With a vocabulary of three words, each one token, and embeddings along the axes."""
    made = VocabularyObjective(tiny_model().language, ITEMS, min_count=1)
    made._words = {"dog": [1], "runs": [2], "cat": [3], "a": [], "the": []}
    made.content, made._column = [1, 2, 3], {1: 0, 2: 1, 3: 2}
    made.embeddings_CW = torch.eye(3, 32)
    return made


def test_targets_are_twice_the_share_of_captions_at_most_one() -> None:
    assert objective().targets(ITEMS).tolist() == [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    four = [CaptionedItem("3", ("dog", "cat", "cat", "a"))]
    assert objective().targets(four).tolist() == [[0.5, 0.0, 1.0]]


def test_loss_and_precision_by_hand() -> None:
    made = objective()
    made.embeddings_CW = torch.eye(6, 32)
    soft = torch.eye(2, 32)[None] * 7  # two soft prompts: along dog and along runs, any length
    loss, precision = made(soft, torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]]))

    def bce(logit: float, target: float) -> float:
        p = 1 / (1 + math.exp(-logit))
        return -(target * math.log(p) + (1 - target) * math.log(1 - p))

    near, far = math.log(math.exp(20) + 1) - 10, math.log(2) - 10
    assert loss.item() == pytest.approx(bce(near, 1) + bce(near, 0) + 4 * bce(far, 0), rel=1e-5)
    assert precision.item() == pytest.approx(1 / 5)


def test_function_words_and_rare_words_do_not_count() -> None:
    language = tiny_model().language
    made = VocabularyObjective(language, ITEMS, min_count=2)  # every letter of a content word that two items have
    assert set(made.content) == set(language.encode(" "))
    assert set(VocabularyObjective(language, ITEMS, min_count=1).content) == set(language.encode(" dogrunscat"))
    with pytest.raises(UsageError, match=r"no word .* in 3 items"):
        VocabularyObjective(language, ITEMS, min_count=3)


def test_learning_rate_corners() -> None:
    shape = {"warmup_start": 1e-6, "peak": 1e-4, "minimum": 1e-5, "warmup": 10}
    assert learning_rate(0, 110, **shape) == pytest.approx(1e-6)
    assert learning_rate(10, 110, **shape) == pytest.approx(1e-4)
    assert learning_rate(60, 110, **shape) == pytest.approx((1e-4 + 1e-5) / 2)
    assert learning_rate(110, 110, **shape) == pytest.approx(1e-5)
