"""Batches as a function of seed and position, on sources that the tests make."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from evlgen.data.batches import BatchMaker, CaptionSource, plain_features
from evlgen.data.caption_sources import CaptionedItem
from evlgen.data.features import FeatureCache
from evlgen.data.findings import BrokenItemError
from evlgen.errors import Failure


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


class Slow:
    """Pixels that are one number, the item's; some items are broken. Notes what is asked for and what is waited for."""

    def __init__(self, count: int, broken: set[int]) -> None:
        self.frames, self.views, self.broken = [2] * count, 1, broken
        self.asked: list[int] = []
        self.seen: list[str] = []

    def ask(self, item: int, frames: list[int], view: int) -> Callable[[], Any]:
        self.asked.append(item)
        self.seen.append("ask")
        return lambda: self._wait(item, len(frames))

    def get(self, item: int, frames: list[int], view: int) -> Any:
        return self.ask(item, frames, view)()

    def news(self) -> list[Failure]:
        return []

    def _wait(self, item: int, frames: int) -> Any:
        self.seen.append("wait")
        if item in self.broken:
            raise BrokenItemError(Failure("decode-error", "it is cut", str(item)))
        return np.full((frames, 3, 1, 1), item, np.uint8)


def slow_source(broken: set[int]) -> tuple[CaptionSource, Slow]:
    slow = Slow(10, broken)
    items = [CaptionedItem(str(i), ("x",)) for i in range(10)]
    return CaptionSource("s", items, slow, [[[i]] for i in range(10)]), slow


def test_a_broken_item_is_replaced_by_the_next_with_its_own_caption() -> None:
    whole, part = (BatchMaker([slow_source(broken)[0]], max_frames=2, seed=0) for broken in (set(), {3, 4, 9}))
    expected, batch = whole.batch(0, 10, 1), part.batch(0, 10, 1)
    taken = {3: 5, 4: 5, 9: 0}
    assert batch.items == [(0, taken.get(i, i)) for _, i in expected.items]
    assert batch.captions == [[[i]] for _, i in batch.items]
    assert batch.features[:, 0, 0, 0, 0].tolist() == [i for _, i in batch.items]
    halves = [part.batch(0, 4, 1, batch.features.shape[1]), part.batch(4, 6, 1, batch.features.shape[1])]
    assert [at for half in halves for at in half.items] == batch.items, "however the step is cut"


def test_all_of_a_batch_is_asked_for_before_any_is_waited_for() -> None:
    source, slow = slow_source(set())
    wait = BatchMaker([source], max_frames=2, seed=0).ask(0, 5, 1)
    assert slow.seen == ["ask"] * 5
    wait()
    assert slow.seen[5:] == ["wait"] * 5
    slow.seen.clear()
    shown = [batch[:, 0, 0, 0, 0].tolist() for batch in plain_features(source, [[0, 1], [2, 3], [4, 5]], 2)]
    assert shown == [[0, 1], [2, 3], [4, 5]]
    assert slow.seen == ["ask"] * 4 + ["wait"] * 2 + ["ask"] * 2 + ["wait"] * 4, "one batch ahead"


def test_a_broken_item_to_validate_on_is_an_error() -> None:
    with pytest.raises(
        BrokenItemError, match=r"^4 cannot be used: it is cut \(mend it or leave it out of the captions"
    ):
        list(plain_features(slow_source({4})[0], [[3], [4]], 2))
