"""Captions drawn by consensus: scores against other captions alone, and how often each is drawn."""

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocoevalcap.cider.cider_scorer import CiderScorer as TheirScorer

from evlgen.data.batches import BatchMaker, CaptionSource
from evlgen.data.caption_sources import CaptionedItem
from evlgen.metrics.consensus import consensus, draw_probabilities

VIDEOS = [
    ["a man is singing on stage", "a man sings on a stage", "a band", "a man is singing on stage", "someone sings"],
    ["a dog runs over the grass", "the dog is running", "green"],
    ["a woman cooks", "a woman is cooking food in a kitchen"],
    ["only one caption here"],
]


def test_scores_are_cider_d_against_the_others_with_frequencies_of_all() -> None:
    found = consensus(VIDEOS)
    counted = TheirScorer(n=4, sigma=6.0)
    for captions in VIDEOS:
        counted += ("", captions)
    counted.compute_doc_freq()
    for video, captions in enumerate(VIDEOS[:3]):
        for k, caption in enumerate(captions):
            theirs = TheirScorer(n=4, sigma=6.0)
            for number, references in enumerate(VIDEOS):
                here = number == video
                theirs += (caption, captions[:k] + captions[k + 1 :]) if here else ("", references)
            theirs.document_frequency = counted.document_frequency
            assert found[video][k] == pytest.approx(theirs.compute_cider()[video], abs=1e-9)
    assert found[3].tolist() == [0.0]


@pytest.mark.parametrize("power", [0.0, 1.0, 3.0])
def test_chances_are_in_proportion_to_the_power_of_the_score(power: float) -> None:
    scores = np.array([0.5, 1.0, 2.0])
    assert draw_probabilities(scores, power) == pytest.approx(scores**power / (scores**power).sum())


def test_every_caption_keeps_a_chance() -> None:
    assert draw_probabilities(np.zeros(4), 3.0).tolist() == [0.25] * 4
    some = draw_probabilities(np.array([0.0, 0.0, 5.0]), 3.0)
    assert some.min() > 0
    assert some.sum() == pytest.approx(1)


class _NoPicture:
    frames = (1,)
    views = 1

    def get(self, item: int, frames: list[int], view: int) -> NDArray[np.float16]:
        return np.zeros((1, 1, 1), np.float16)


def test_batches_draw_captions_by_their_probabilities_and_never_one_twice() -> None:
    probability = np.array([0.6, 0.3, 0.1])
    item = CaptionedItem("a", ("x", "y", "z"))
    source = CaptionSource("s", [item], _NoPicture(), [[[0], [1], [2]]], caption_probabilities=[probability])
    maker = BatchMaker([source], max_frames=1, seed=0)
    drawn = [texts[0][0] for texts in maker.captions_at(0, 4000, 1)]
    assert np.bincount(drawn, minlength=3) / 4000 == pytest.approx(probability, abs=0.03)
    assert sorted(text[0] for text in maker.captions_at(0, 1, 3)[0]) == [0, 1, 2]
