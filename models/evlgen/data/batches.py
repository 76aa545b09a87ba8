"""Training batches as a pure function of (seed, step): a resumed run sees exactly what an unbroken one would.

Items of all sources are shuffled together, one permutation an epoch; `weight` of a source says how often its items
appear per epoch. View, frames and captions of an item are drawn anew each time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from evlgen.data.captions import CaptionedItem
from evlgen.data.features import FeatureCache


@dataclass
class CaptionSource:
    """Items with their cached features and tokenized captions."""

    name: str
    items: list[CaptionedItem]
    cache: FeatureCache
    token_ids: list[list[list[int]]]
    weight: float = 1.0


@dataclass
class Batch:
    """Features (B, F, N, D), per item its chosen captions as token ids, and where each item comes from."""

    features: Tensor
    captions: list[list[list[int]]]
    items: list[tuple[int, int]]


class BatchMaker:
    """Draws batches from sources.

    Args:
        sources: what to draw from.
        max_frames: a batch of videos has 1 to so many frames per item, one count a batch.
        seed: of everything.
    """

    def __init__(self, sources: list[CaptionSource], *, max_frames: int, seed: int) -> None:
        self.sources, self.max_frames, self.seed = sources, max_frames, seed
        self._epoch = -1
        self._order: list[tuple[int, int]] = []

    def _repeats(self, source: CaptionSource, epoch: int) -> int:
        """Passes over a source in an epoch: the weight on average, exactly."""
        return int(source.weight * (epoch + 1)) - int(source.weight * epoch)

    def _length(self, epoch: int) -> int:
        return sum(len(s.items) * self._repeats(s, epoch) for s in self.sources)

    def _permutation(self, epoch: int) -> list[tuple[int, int]]:
        if epoch != self._epoch:
            generator = np.random.default_rng([self.seed, 1, epoch])
            chosen: list[tuple[int, int]] = []
            for s, source in enumerate(self.sources):
                chosen += [(s, i) for i in range(len(source.items))] * self._repeats(source, epoch)
            self._order = [chosen[i] for i in generator.permutation(len(chosen))]
            self._epoch = epoch
        return self._order

    def items_at(self, start: int, count: int) -> list[tuple[int, int]]:
        """(source, item) of positions start .. start + count of the endless shuffled stream."""
        chosen: list[tuple[int, int]] = []
        epoch, at = 0, start
        while len(chosen) < count:
            length = self._length(epoch)
            if at < length:
                chosen += self._permutation(epoch)[at : at + count - len(chosen)]
            at = max(0, at - length)
            epoch += 1
        return chosen

    def batch(self, start: int, count: int, captions_per_item: int) -> Batch:
        """The batch that covers positions start .. start + count of the stream."""
        generator = np.random.default_rng([self.seed, 2, start])
        chosen = self.items_at(start, count)
        frames = int(generator.integers(1, self.max_frames + 1))
        features, captions = [], []
        for s, i in chosen:
            cache = self.sources[s].cache
            spans = np.linspace(0, cache.frames[i], frames + 1)
            picked = [min(int(generator.uniform(a, b)), cache.frames[i] - 1) for a, b in pairwise(spans)]
            features.append(cache.get(i, picked, int(generator.integers(cache.views))))
            have = self.sources[s].token_ids[i]
            order = generator.permutation(len(have))[:captions_per_item]
            captions.append([have[k] for k in order])
        return Batch(torch.from_numpy(np.stack(features)), captions, chosen)


def plain_features(source: CaptionSource, items: list[int], max_frames: int) -> Tensor:
    """Features (B, F, N, D) for validation: the plain view, all cached frames in order, short ones spread out."""
    rows = []
    for i in items:
        count = source.cache.frames[i]
        picked = [int((f + 0.5) * count / max_frames) for f in range(max_frames)] if count > 1 else [0] * max_frames
        rows.append(source.cache.get(i, picked, 0))
    return torch.from_numpy(np.stack(rows))


def tokenize(items: list[CaptionedItem], encode: Callable[[str], list[int]]) -> list[list[list[int]]]:
    """Token ids of every caption of every item."""
    return [[encode(c) for c in item.captions] for item in items]
