"""Training batches as a pure function of the seed and of positions in an endless shuffled stream of items.

One permutation an epoch; `weight` of a source says how often its items appear per epoch; or sources are mixed at a
ratio (mixture.py). View, frames and captions of an item are drawn anew each time, by a generator of that position
alone: however an optimizer step is cut into micro-batches and spread over processes, and wherever a resumed run
starts, every position holds the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evlgen.data.captions import CaptionedItem
from evlgen.data.mixture import Mixture

_ORDER, _POSITION, _FRAMES = 1, 2, 3  # what a generator is for; part of its seed


class VisualSource(Protocol):
    """Where the visual input of a source's items comes from: cached features or decoded pixels."""

    @property
    def frames(self) -> Sequence[int]:
        """Item -> how many frames there are to choose from."""

    @property
    def views(self) -> int:
        """Variants of every frame; 0 is the plain one."""

    def get(self, item: int, frames: list[int], view: int) -> NDArray[Any]:
        """Some frames of an item: float16 features (F, N, C), or float32 normalised pixels (F, 3, S, S)."""


@dataclass
class CaptionSource:
    """Items with their visual input and tokenized captions.

    Attributes:
        name: in logs.
        items: with captions as they are trained on.
        cache: features or pixels.
        token_ids: per item, its captions as token ids.
        weight: how often an item is drawn, relative to other sources.
        ratio: how often the source is drawn, relative to the ratios of the others; instead of weights, for all or none.
        references: per item, its captions as people wrote them, to score against; those of `items` if not given. Of an
            item with prompts, those that go on from its first one.
        chances: per item, how likely each of its captions is drawn; None: all alike.
    """

    name: str
    items: list[CaptionedItem]
    cache: VisualSource
    token_ids: list[list[list[int]]]
    weight: float = 1.0
    ratio: float | None = None
    references: list[tuple[str, ...]] = field(default_factory=list)
    chances: list[NDArray[np.float64]] | None = None

    def __post_init__(self) -> None:
        self.references = self.references or [item.references for item in self.items]


@dataclass
class Batch:
    """Visual input (B, F, ...), per item its chosen captions as token ids, and where each item comes from."""

    features: Tensor
    captions: list[list[list[int]]]
    items: list[tuple[int, int]]


class BatchMaker:
    """Draws batches from sources. Not to be used from two threads at once.

    Args:
        sources: what to draw from.
        min_frames, max_frames: an optimizer step has so many frames per item, one count a step.
        seed: of everything.
    """

    def __init__(self, sources: list[CaptionSource], *, max_frames: int, seed: int, min_frames: int = 1) -> None:
        self.sources, self.min_frames, self.max_frames, self.seed = sources, min_frames, max_frames, seed
        ratios = [s.ratio for s in sources if s.ratio is not None]
        assert len(ratios) in (0, len(sources)), "all sources have a ratio, or none"
        self._mixture = Mixture(ratios, [len(s.items) for s in sources], seed=seed) if ratios else None
        self._epoch = -1
        self._order: list[tuple[int, int]] = []

    def _repeats(self, source: CaptionSource, epoch: int) -> int:
        """Passes over a source in an epoch: the weight on average, exactly."""
        return int(source.weight * (epoch + 1)) - int(source.weight * epoch)

    def _length(self, epoch: int) -> int:
        return sum(len(s.items) * self._repeats(s, epoch) for s in self.sources)

    def _permutation(self, epoch: int) -> list[tuple[int, int]]:
        if epoch != self._epoch:
            generator = np.random.default_rng([self.seed, _ORDER, epoch])
            chosen: list[tuple[int, int]] = []
            for s, source in enumerate(self.sources):
                chosen += [(s, i) for i in range(len(source.items))] * self._repeats(source, epoch)
            self._order = [chosen[i] for i in generator.permutation(len(chosen))]
            self._epoch = epoch
        return self._order

    def items_at(self, start: int, count: int) -> list[tuple[int, int]]:
        """(source, item) of positions start .. start + count of the endless shuffled stream."""
        if self._mixture is not None:
            return self._mixture.items_at(start, count)
        chosen: list[tuple[int, int]] = []
        epoch, at = 0, start
        while len(chosen) < count:
            length = self._length(epoch)
            if at < length:
                chosen += self._permutation(epoch)[at : at + count - len(chosen)]
            at = max(0, at - length)
            epoch += 1
        return chosen

    def frames_at(self, start: int) -> int:
        """Frames per item of the optimizer step whose first position is `start`."""
        generator = np.random.default_rng([self.seed, _FRAMES, start])
        return int(generator.integers(self.min_frames, self.max_frames + 1))

    def captions_at(self, start: int, count: int, captions_per_item: int) -> list[list[list[int]]]:
        """The captions that `batch` gives, without touching any visual input."""
        chosen = self.items_at(start, count)
        return [self._captions(start + k, at, captions_per_item)[0] for k, at in enumerate(chosen)]

    def _captions(
        self, position: int, at: tuple[int, int], captions_per_item: int
    ) -> tuple[list[list[int]], np.random.Generator]:
        """Captions of one position, and its generator, from which view and frames are drawn next."""
        generator = np.random.default_rng([self.seed, _POSITION, position])
        source, item = self.sources[at[0]], at[1]
        have = source.token_ids[item]
        if source.chances is None:
            order = generator.permutation(len(have))[:captions_per_item]
        else:
            wanted = min(captions_per_item, len(have))
            order = generator.choice(len(have), wanted, replace=False, p=source.chances[item])
        return [have[k] for k in order], generator

    def batch(self, start: int, count: int, captions_per_item: int, frames: int | None = None) -> Batch:
        """The batch that covers positions start .. start + count of the stream.

        Args:
            start: first position.
            count: items.
            captions_per_item: at most so many captions each.
            frames: per item; `frames_at(start)` if not given.
        """
        chosen = self.items_at(start, count)
        frames = self.frames_at(start) if frames is None else frames
        features, captions = [], []
        for k, (s, i) in enumerate(chosen):
            texts, generator = self._captions(start + k, (s, i), captions_per_item)
            cache = self.sources[s].cache
            view = int(generator.integers(cache.views))
            have = cache.frames[i]
            spans = np.linspace(0, have, frames + 1)
            picked = [min(int(generator.uniform(a, b)), have - 1) for a, b in pairwise(spans)]
            features.append(cache.get(i, picked, view))
            captions.append(texts)
        return Batch(torch.from_numpy(np.stack(features)), captions, chosen)


def plain_features(source: CaptionSource, items: Sequence[int], max_frames: int) -> Tensor:
    """Visual input (B, F, ...) for validation: the plain view, all frames in order, short ones spread out."""
    rows = []
    for i in items:
        count = source.cache.frames[i]
        picked = [int((f + 0.5) * count / max_frames) for f in range(max_frames)] if count > 1 else [0] * max_frames
        rows.append(source.cache.get(i, picked, 0))
    return torch.from_numpy(np.stack(rows))


def tokenize(items: list[CaptionedItem], encode: Callable[[str, str], list[int]]) -> list[list[list[int]]]:
    """Token ids of every caption of every item; `encode` gets a caption and its prompt, which may be empty."""
    return [[encode(caption, prompt) for caption, prompt in item.prompted] for item in items]
