"""Training batches as a pure function of the seed and of positions in an endless shuffled stream of items.

One permutation an epoch; `weight` of a source says how often its items appear per epoch; or sources are mixed at a
ratio (mixture.py). View, frames and captions of an item are drawn anew each time, by a generator of that position
alone: however an optimizer step is cut into micro-batches and spread over processes, and wherever a resumed run
starts, every position holds the same. A source too large to be permuted as a whole brings an order of its own
(shards/); weights then become ratios.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evlgen.data.caption_sources import CaptionedItem
from evlgen.data.findings import BrokenItemError
from evlgen.data.mixture import Mixture
from evlgen.data.shards.shard_source import ShardSource
from evlgen.errors import Failure

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
        """Some frames of an item: float16 features (F, N, C), or pixels (F, 3, S, S): uint8, or float32 normalised."""


@runtime_checkable
class AheadSource(VisualSource, Protocol):
    """A source that takes its time, and is better asked before its answer is needed."""

    def ask(self, item: int, frames: list[int], view: int) -> Callable[[], NDArray[Any]]:
        """Begin with what `get` gives; it comes, or its error is raised, when the result is called."""

    def news(self) -> list[Failure]:
        """Items that turned out to be broken since this was last asked."""


def _ask(cache: VisualSource, item: int, frames: list[int], view: int) -> Callable[[], NDArray[Any]]:
    return cache.ask(item, frames, view) if isinstance(cache, AheadSource) else partial(cache.get, item, frames, view)


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
        caption_probabilities: per item, how likely each of its captions is drawn; None: all alike.
    """

    name: str
    items: list[CaptionedItem]
    cache: VisualSource
    token_ids: list[list[list[int]]]
    weight: float = 1.0
    ratio: float | None = None
    references: list[tuple[str, ...]] = field(default_factory=list)
    caption_probabilities: list[NDArray[np.float64]] | None = None

    order = None  # of its own: passes are permutations of all items

    def __post_init__(self) -> None:
        self.references = self.references or [item.references for item in self.items]

    def __len__(self) -> int:
        return len(self.items)

    def captions_of(self, item: int) -> list[list[int]]:
        """Token ids of an item's captions."""
        return self.token_ids[item]


TrainingSource = CaptionSource | ShardSource
"""What batches are drawn from: captions in memory, or shards, whose captions are read when they are drawn."""


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

    def __init__(self, sources: Sequence[TrainingSource], *, max_frames: int, seed: int, min_frames: int = 1) -> None:
        self.sources, self.min_frames, self.max_frames, self.seed = sources, min_frames, max_frames, seed
        ratios = [s.ratio for s in sources if s.ratio is not None]
        assert len(ratios) in (0, len(sources)), "all sources have a ratio, or none"
        if not ratios and any(s.order is not None for s in sources):
            ratios = [s.weight * len(s) for s in sources]  # the same shares, without an epoch of everything in memory
        self._mixture = Mixture(ratios, [len(s) for s in sources], seed=seed) if ratios else None
        self._epoch = -1
        self._order: list[tuple[int, int]] = []

    def _repeats(self, source: TrainingSource, epoch: int) -> int:
        """Passes over a source in an epoch: the weight on average, exactly."""
        return int(source.weight * (epoch + 1)) - int(source.weight * epoch)

    def _length(self, epoch: int) -> int:
        return sum(len(s) * self._repeats(s, epoch) for s in self.sources)

    def _permutation(self, epoch: int) -> list[tuple[int, int]]:
        if epoch != self._epoch:
            generator = np.random.default_rng([self.seed, _ORDER, epoch])
            chosen: list[tuple[int, int]] = []
            for s, source in enumerate(self.sources):
                chosen += [(s, i) for i in range(len(source))] * self._repeats(source, epoch)
            self._order = [chosen[i] for i in generator.permutation(len(chosen))]
            self._epoch = epoch
        return self._order

    def items_at(self, start: int, count: int) -> list[tuple[int, int]]:
        """(source, item) of positions start .. start + count of the endless shuffled stream."""
        if self._mixture is not None:
            return [(s, self._item(s, drawn)) for s, drawn in self._mixture.draws_at(start, count)]
        chosen: list[tuple[int, int]] = []
        epoch, at = 0, start
        while len(chosen) < count:
            length = self._length(epoch)
            if at < length:
                chosen += self._permutation(epoch)[at : at + count - len(chosen)]
            at = max(0, at - length)
            epoch += 1
        return chosen

    def _item(self, source: int, drawn: int, broken: Collection[int] = ()) -> int:
        assert self._mixture is not None, "only a mixture counts draws"
        order = self.sources[source].order
        if order is None:
            return self._mixture.item(source, drawn)
        return order((self.seed, source), drawn, broken)

    def _stand_in(self, position: int, source: int, broken: Sequence[int]) -> int:
        """The item in place of some that were drawn at a position, one after the other, and are of no use."""
        if self.sources[source].order is None:
            return (broken[-1] + 1) % len(self.sources[source])
        assert self._mixture is not None, "sources with an order of their own are mixed"
        ((_, drawn),) = self._mixture.draws_at(position, 1)
        return self._item(source, drawn, broken)

    def frames_at(self, start: int) -> int:
        """Frames per item of the optimizer step whose first position is `start`."""
        generator = np.random.default_rng([self.seed, _FRAMES, start])
        return int(generator.integers(self.min_frames, self.max_frames + 1))

    def captions_at(self, start: int, count: int, captions_per_item: int) -> list[list[list[int]]]:
        """The captions that `batch` gives, without touching any visual input: before any turns out to be broken."""
        chosen = self.items_at(start, count)
        return [self._captions(start + k, at, captions_per_item)[0] for k, at in enumerate(chosen)]

    def _captions(
        self, position: int, at: tuple[int, int], captions_per_item: int
    ) -> tuple[list[list[int]], np.random.Generator]:
        """Captions of one position, and its generator, from which view and frames are drawn next."""
        generator = np.random.default_rng([self.seed, _POSITION, position])
        source, item = self.sources[at[0]], at[1]
        have = source.captions_of(item)
        if source.caption_probabilities is None:
            order = generator.permutation(len(have))[:captions_per_item]
        else:
            wanted = min(captions_per_item, len(have))
            order = generator.choice(len(have), wanted, replace=False, p=source.caption_probabilities[item])
        return [have[k] for k in order], generator

    def batch(self, start: int, count: int, captions_per_item: int, frames: int | None = None) -> Batch:
        """The batch that covers positions start .. start + count of the stream.

        An item that turns out to be broken is replaced by the next one of its source, or by what the source's own order
        has for that, with captions of its own: who takes its place depends on nothing but the files.

        Args:
            start: first position.
            count: items.
            captions_per_item: at most so many captions each.
            frames: per item; `frames_at(start)` if not given.

        Raises:
            EvlgenError: too many items of a source are broken.
        """
        return self.ask(start, count, captions_per_item, frames)()

    def ask(self, start: int, count: int, captions_per_item: int, frames: int | None = None) -> Callable[[], Batch]:
        """Begin with a batch; it is there when the result is called.

        Args:
            start: first position.
            count: items.
            captions_per_item: as for `batch`.
            frames: as for `batch`.
        """
        chosen = self.items_at(start, count)
        frames = self.frames_at(start) if frames is None else frames
        asked = [self._begin(start + k, at, captions_per_item, frames) for k, at in enumerate(chosen)]
        return partial(self._gather, start, chosen, asked, captions_per_item, frames)

    def _begin(self, position: int, at: tuple[int, int], captions_per_item: int, frames: int) -> _Pending:
        texts, generator = self._captions(position, at, captions_per_item)
        cache, item = self.sources[at[0]].cache, at[1]
        view = int(generator.integers(cache.views))
        have = cache.frames[item]
        spans = np.linspace(0, have, frames + 1)
        picked = [min(int(generator.uniform(a, b)), have - 1) for a, b in pairwise(spans)]
        return texts, _ask(cache, item, picked, view)

    def _gather(
        self, start: int, chosen: list[tuple[int, int]], asked: list[_Pending], captions_per_item: int, frames: int
    ) -> Batch:
        features, captions, items = [], [], list(chosen)
        for k, (texts, wait) in enumerate(asked):
            broken: list[int] = []
            while True:
                try:
                    features.append(wait())
                    break
                except BrokenItemError:
                    source, item = items[k]
                    broken.append(item)
                    items[k] = source, self._stand_in(start + k, source, broken)
                    texts, wait = self._begin(start + k, items[k], captions_per_item, frames)
            captions.append(texts)
        return Batch(torch.from_numpy(np.stack(features)), captions, items)


_Pending = tuple[list[list[int]], Callable[[], NDArray[Any]]]
"""Captions of a position, and its visual input, which is under way."""


def plain_features(source: CaptionSource, batches: Sequence[Sequence[int]], max_frames: int) -> Iterator[Tensor]:
    """Visual input (B, F, ...) for validation: the plain view, all frames in order, short ones spread out.

    Args:
        source: to validate on.
        batches: items of each; while one is computed with, the next is under way.
        max_frames: F.

    Raises:
        EvlgenError: an item cannot be decoded.
    """

    def ask(items: Sequence[int]) -> list[Callable[[], NDArray[Any]]]:
        asked = []
        for i in items:
            count = source.cache.frames[i]
            picked = [int((f + 0.5) * count / max_frames) for f in range(max_frames)] if count > 1 else [0] * max_frames
            asked.append(_ask(source.cache, i, picked, 0))
        return asked

    under_way = [ask(items) for items in batches[:1]]
    for number in range(len(batches)):
        under_way += [ask(items) for items in batches[number + 1 : number + 2]]
        yield torch.from_numpy(np.stack([wait() for wait in under_way.pop(0)]))


def tokenize(items: list[CaptionedItem], encode: Callable[[str, str], list[int]]) -> list[list[list[int]]]:
    """Token ids of every caption of every item; `encode` gets a caption and its prompt, which may be empty."""
    return [[encode(caption, prompt) for caption, prompt in item.prompted] for item in items]
