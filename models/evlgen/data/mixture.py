"""Drawing from sources at a ratio, whatever their sizes: 15 : 4 : 1 of large, middling and small (arXiv 2310.03291).

The stream of draws is a pure function of the seed and of positions. It goes in blocks; in any whole number of blocks a
source has its share of the draws to within one, and inside a block the sources are shuffled. A source's own draws pass
through all of its items, in a new order each pass, before one comes again. LAVIS draws the source of every batch at
random instead: there a whole batch is of one source, and shares hold only on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

BLOCK_DRAWS = 1024
_BLOCK, _PASS = 11, 12  # what a generator is for; part of its seed


class Mixture:
    """An endless stream of (source, item).

    Args:
        ratios: one a source, in any unit.
        sizes: items of every source, at least one each.
        seed: of everything.
    """

    def __init__(self, ratios: Sequence[float], sizes: Sequence[int], *, seed: int) -> None:
        assert len(ratios) == len(sizes), "one ratio a source"
        assert all(r > 0 for r in ratios), "ratios are more than 0"
        assert all(s > 0 for s in sizes), "every source has items"
        self.sizes, self.seed = list(sizes), seed
        self._edges = np.cumsum(np.asarray(ratios, dtype=np.float64)) / float(sum(ratios))
        self._edges[-1] = 1.0
        self._block = lru_cache(maxsize=4)(self._make_block)
        self._order = lru_cache(maxsize=2 * len(self.sizes))(self._make_order)

    def counts(self, blocks: int) -> list[int]:
        """Draws of every source in the first so many blocks."""
        edges = np.floor(self._edges * (blocks * BLOCK_DRAWS) + 0.5).astype(np.int64)
        return [int(n) for n in np.diff(edges, prepend=0)]

    def _make_block(self, block: int) -> list[tuple[int, int]]:
        """(source, how often it was drawn before) of every position of a block."""
        before, after = self.counts(block), self.counts(block + 1)
        sources = np.repeat(np.arange(len(before)), [b - a for a, b in zip(before, after, strict=True)])
        np.random.default_rng([self.seed, _BLOCK, block]).shuffle(sources)
        drawn = list(before)
        draws = []
        for source in sources.tolist():
            draws.append((source, drawn[source]))
            drawn[source] += 1
        return draws

    def _make_order(self, source: int, number: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.random.default_rng([self.seed, _PASS, source, number]).permutation(self.sizes[source])

    def draws_at(self, start: int, count: int) -> list[tuple[int, int]]:
        """(source, how often it was drawn before) of positions start .. start + count of the stream."""
        return [self._block(p // BLOCK_DRAWS)[p % BLOCK_DRAWS] for p in range(start, start + count)]

    def item(self, source: int, drawn: int) -> int:
        """The item of a source's draw, where its order is a permutation of all items."""
        number, at = divmod(drawn, self.sizes[source])
        return int(self._order(source, number)[at])

    def items_at(self, start: int, count: int) -> list[tuple[int, int]]:
        """(source, item) of positions start .. start + count of the stream."""
        return [(source, self.item(source, drawn)) for source, drawn in self.draws_at(start, count)]
