"""The order of a source of shards: which sample its n-th draw gives, as a function of the seed and of n alone.

A pass permutes the shards; each `window` of them in a row have their samples permuted together. So a pass gives every
sample once, a window's shards are all that is open at a time, and of all permutations only those of a few windows and
of the shards are ever in memory.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Key = tuple[int, ...]
"""Seed of a source's order."""

_SHARDS, _WINDOW, _STAND_IN = 21, 22, 23  # what a generator is for; part of its seed


class ShardOrder:
    """Samples are numbered through all shards.

    Args:
        counts: samples of every shard; at least one in all.
        window: shards whose samples are shuffled together.
    """

    def __init__(self, counts: NDArray[np.int64], window: int) -> None:
        self.counts, self.window = counts, window
        self.first: NDArray[np.int64] = np.concatenate([[0], np.cumsum(counts)])
        self.total = int(self.first[-1])
        self._shards = lru_cache(maxsize=4)(self._permute_shards)
        self._samples = lru_cache(maxsize=4)(self._permute_samples)

    def sample(self, key: Key, draw: int, attempt: int = 0) -> int:
        """The sample of draw number `draw`; attempts above 0 give any others of the same window to stand in for it."""
        number, place = divmod(draw, self.total)
        shards, starts = self._shards(key, number)
        window = self._window_at(starts, place)
        begin, end = self._bounds(starts, window)
        if attempt:
            at = int(np.random.default_rng([*key, _STAND_IN, draw, attempt]).integers(end - begin))
        else:
            at = int(self._samples(key, number, window)[place - begin])
        slot = int(np.searchsorted(starts, begin + at, side="right")) - 1
        return int(self.first[shards[slot]] + begin + at - starts[slot])

    def locate(self, sample: int) -> tuple[int, int]:
        """Shard of a sample, and its number there."""
        shard = int(np.searchsorted(self.first, sample, side="right")) - 1
        return shard, sample - int(self.first[shard])

    def windows(self, key: Key, draw: int) -> tuple[tuple[int, int], list[int], list[int]]:
        """What names the window of a draw, its shards, and those of the window after it, perhaps of the next pass."""
        number, place = divmod(draw, self.total)
        shards, starts = self._shards(key, number)
        window = self._window_at(starts, place)
        here = shards[window * self.window : (window + 1) * self.window].tolist()
        after = shards[(window + 1) * self.window : (window + 2) * self.window].tolist()
        return (number, window), here, after or self._shards(key, number + 1)[0][: self.window].tolist()

    def _window_at(self, starts: NDArray[np.int64], place: int) -> int:
        return (int(np.searchsorted(starts, place, side="right")) - 1) // self.window

    def _bounds(self, starts: NDArray[np.int64], window: int) -> tuple[int, int]:
        last = min((window + 1) * self.window, len(starts) - 1)
        return int(starts[window * self.window]), int(starts[last])

    def _permute_shards(self, key: Key, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Shards of a pass in order, and at which place of the pass each begins; one place more for the end."""
        shards = np.random.default_rng([*key, _SHARDS, number]).permutation(len(self.counts))
        return shards, np.concatenate([[0], np.cumsum(self.counts[shards])])

    def _permute_samples(self, key: Key, number: int, window: int) -> NDArray[np.int64]:
        begin, end = self._bounds(self._shards(key, number)[1], window)
        return np.random.default_rng([*key, _WINDOW, number, window]).permutation(end - begin)
