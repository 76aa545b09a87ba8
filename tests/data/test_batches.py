"""Batches as a function of seed and position, on sources that the tests make."""

from collections import Counter

import numpy as np
import torch

from evlgen.data.batches import BatchMaker, CaptionSource
from evlgen.data.captions import CaptionedItem
from evlgen.data.features import FeatureCache


def sources(count: int, weight: float = 1.0) -> list[CaptionSource]:
    items = [CaptionedItem(str(i), ("x",)) for i in range(count)]
    rows = np.arange(count * 2, dtype=np.float16).reshape(count * 2, 1, 1)
    cache = FeatureCache(rows, list(range(0, count * 2, 2)), [2] * count, 1)
    return [CaptionSource("s", items, cache, [[[i]] for i in range(count)], weight)]


def test_an_epoch_holds_every_item_once_and_batches_repeat() -> None:
    maker = BatchMaker(sources(10), max_frames=2, seed=1)
    for epoch in range(3):
        assert sorted(i for _, i in maker.items_at(epoch * 10, 10)) == list(range(10))
    assert maker.items_at(0, 10) != maker.items_at(10, 10)
    again = BatchMaker(sources(10), max_frames=2, seed=1)
    first, second = maker.batch(7, 6, 1), again.batch(7, 6, 1)
    assert torch.equal(first.features, second.features)
    assert first.captions == second.captions
    for row, (_, item) in zip(first.features, first.items, strict=True):
        assert {int(v) // 2 for v in row.flatten()} == {item}, "features of another item"


def test_weights_hold_on_average() -> None:
    maker = BatchMaker([*sources(10, 1.0), *sources(10, 0.5), *sources(10, 2.0)], max_frames=1, seed=0)
    counts = Counter(s for s, _ in maker.items_at(0, 70))  # two epochs: 30 items, then 40
    assert counts == {0: 20, 1: 10, 2: 40}


def test_a_step_has_as_many_frames_as_the_bounds_allow() -> None:
    free, fixed = (BatchMaker(sources(10), min_frames=low, max_frames=4, seed=0) for low in (1, 4))
    assert {free.frames_at(k) for k in range(100)} == {1, 2, 3, 4}
    assert {fixed.frames_at(k) for k in range(100)} == {4}
    assert fixed.batch(0, 3, 1).features.shape[:2] == (3, 4)
