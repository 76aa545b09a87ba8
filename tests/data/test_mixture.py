"""Draws at a ratio: shares, passes over every item, and that position alone decides."""

from collections import Counter

from evlgen.data.mixture import BLOCK_DRAWS, Mixture


def test_every_prefix_of_blocks_has_its_shares() -> None:
    mixture = Mixture([15, 4, 1], [10_000, 50, 7], seed=3)
    draws = mixture.items_at(0, 5 * BLOCK_DRAWS)
    for blocks in range(1, 6):
        counts = Counter(s for s, _ in draws[: blocks * BLOCK_DRAWS])
        for source, share in enumerate((0.75, 0.2, 0.05)):
            assert abs(counts[source] - share * blocks * BLOCK_DRAWS) <= 1
        assert sum(counts.values()) == blocks * BLOCK_DRAWS
    first = [s for s, _ in draws[:200]]
    assert 120 < first.count(0) < 180, "shuffled inside a block"
    assert first != sorted(first)


def test_a_source_passes_through_its_items_in_a_new_order_each_time() -> None:
    mixture = Mixture([3, 1], [9, 4], seed=0)
    draws = mixture.items_at(0, 3000)
    for source, size in ((0, 9), (1, 4)):
        items = [i for s, i in draws if s == source]
        passes = [items[n : n + size] for n in range(0, len(items) - size, size)]
        assert all(sorted(one) == list(range(size)) for one in passes)
        assert len({tuple(one) for one in passes}) > 5


def test_position_alone_decides() -> None:
    whole = Mixture([2, 1], [50, 3], seed=7).items_at(0, 4000)
    assert whole[2500:2520] == Mixture([2, 1], [50, 3], seed=7).items_at(2500, 20)
    assert whole[1020:1030] == Mixture([4, 2], [50, 3], seed=7).items_at(1020, 10), "ratios, not amounts"
    assert whole[:100] != Mixture([2, 1], [50, 3], seed=8).items_at(0, 100)
