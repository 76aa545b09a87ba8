"""The order of draws against a plain list that is permuted as the method says."""

import tracemalloc

import numpy as np

from evlgen.data.shards.shard_order import ShardOrder

KEY = (5, 0)


def plain(counts: list[int], window: int, passes: int) -> list[int]:
    """All draws of some passes."""
    first = np.cumsum([0, *counts])
    drawn: list[int] = []
    for number in range(passes):
        shards = np.random.default_rng([*KEY, 21, number]).permutation(len(counts)).tolist()
        for w, at in enumerate(range(0, len(shards), window)):
            samples = [s for shard in shards[at : at + window] for s in range(first[shard], first[shard + 1])]
            permutation = np.random.default_rng([*KEY, 22, number, w]).permutation(len(samples))
            drawn += [samples[p] for p in permutation]
    return drawn


def test_draws_equal_a_plain_list() -> None:
    for counts, window in (([5, 0, 3, 7, 0, 0, 2], 2), ([4], 16), ([0, 1], 1), ([3] * 10, 3), ([0, 0, 6, 0], 2)):
        order = ShardOrder(np.array(counts), window)
        expected = plain(counts, window, 3)
        assert [order.sample(KEY, n) for n in range(3 * sum(counts))] == expected
        backwards = [ShardOrder(np.array(counts), window).sample(KEY, n) for n in reversed(range(len(expected)))]
        assert backwards[::-1] == expected, "the number of the draw alone decides"
        for number in range(3):
            one_pass = expected[number * sum(counts) : (number + 1) * sum(counts)]
            assert sorted(one_pass) == list(range(sum(counts))), "every sample once"


def test_samples_come_from_the_shards_of_their_window() -> None:
    order = ShardOrder(np.array([4, 6, 0, 5, 3, 2, 7]), 3)
    seen = {}
    for draw in range(2 * order.total):
        window, here, after = order.windows(KEY, draw)
        assert order.locate(order.sample(KEY, draw))[0] in here
        for attempt in range(1, 6):
            assert order.locate(order.sample(KEY, draw, attempt))[0] in here, "a stand-in is of the same window"
        if seen and window not in seen:
            assert here == list(seen.values())[-1], "the window was told before"
        seen[window] = after
    assert order.locate(4 + 6 + 2) == (3, 2)
    others = {order.sample(KEY, 3, attempt) for attempt in range(1, 200)}
    assert len(others) == sum(order.counts[shard] for shard in order.windows(KEY, 3)[1]), "any sample may stand in"


def test_sources_and_seeds_have_orders_of_their_own() -> None:
    order = ShardOrder(np.array([20, 20]), 1)
    assert len({tuple(order.sample(key, n) for n in range(40)) for key in [(0, 0), (0, 1), (1, 0)]}) == 3


def test_a_hundred_million_samples_take_little_memory() -> None:
    counts = np.full(11_500, 10_000)
    tracemalloc.start()
    order = ShardOrder(counts, 16)
    drawn = {order.sample(KEY, n) for n in range(0, 115_000_000, 11_500_000)}
    assert len(drawn) == 10
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16e6
