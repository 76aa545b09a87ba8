"""N-grams of captions, counted all at once: BLEU and CIDEr both start from here.

Words and n-grams become numbers, so that counting is sorting and looking up is a binary search: no Python object per
n-gram. A caption is a tokenized string and is split by str.split(), as the reference implementations
(https://github.com/tylin/coco-caption) do it for these two scores.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from evlgen.errors import UsageError

Ints = NDArray[np.int64]

MAX_N = 4


@dataclass(frozen=True, eq=False)
class NgramCounts:
    """How often each n-gram stands in each caption of some groups of captions (a group: an item's references).

    N-grams are numbered from 0: first the words, then the bigrams, and so on. There is a row for each n-gram in each
    caption, sorted by group, then n-gram, then caption; a pair is a group and one of its n-grams, and has rows in line.
    """

    words: Mapping[str, int]
    keys: tuple[Ints, ...]
    """For n = 2, 3, ...: the place of the first n - 1 words in their order, times len(words), plus the last; sorted."""
    sizes: Ints
    """(groups,): captions in each group."""
    lengths: Ints
    """(captions,): words in each caption."""
    gram: Ints
    """(rows,)"""
    caption: Ints
    """(rows,)"""
    count: Ints
    """(rows,)"""
    pair_keys: Ints
    """(pairs,): group times number of n-grams plus n-gram; sorted."""
    pair_rows: Ints
    """(pairs + 1,): where the rows of each pair begin, and the number of rows."""

    @cached_property
    def first(self) -> Ints:
        """(MAX_N + 1,): number of the first n-gram of each order, and how many n-grams there are."""
        return np.cumsum(np.array([0, len(self.words), *map(len, self.keys)], dtype=np.int64))

    @cached_property
    def order(self) -> Ints:
        """(n-grams,): 0 for a word, 1 for a bigram, and so on."""
        return np.repeat(np.arange(MAX_N), np.diff(self.first))

    def pairs(self, groups: Ints, grams: Ints) -> Ints:
        """Positions of (group, n-gram) among the pairs; -1 where the group does not have the n-gram or it is -1."""
        found = np.full(len(grams), -1)
        there = np.flatnonzero(grams >= 0)
        found[there] = _positions(self.pair_keys, groups[there] * self.first[-1] + grams[there])
        return found

    def document_frequencies(self) -> Ints:
        """(n-grams,): how many groups have each n-gram."""
        ngrams = int(self.first[-1])
        return np.bincount(self.pair_keys % max(ngrams, 1), minlength=ngrams)

    def numbers_of(self, other: NgramCounts) -> Ints:
        """(n-grams of other,): the numbers here of another's n-grams; -1 for those that are not here."""
        words = np.fromiter((self.words.get(w, -1) for w in other.words), np.int64, len(other.words))
        numbers, known = [words], words
        for n, (mine, theirs) in enumerate(zip(self.keys, other.keys, strict=True)):
            prefix, last = known[theirs // len(words)], words[theirs % len(words)]
            known = np.where((prefix < 0) | (last < 0), -1, _positions(mine, prefix * len(self.words) + last))
            numbers.append(np.where(known < 0, -1, known + self.first[n + 1]))
        return np.concatenate(numbers)

    def texts(self) -> list[str]:
        """The n-grams as texts, words joined by a space, in the order of their numbers."""
        words = list(self.words)
        level, texts = words, list(words)
        for keys in self.keys:
            pairs = zip((keys // len(words)).tolist(), (keys % len(words)).tolist(), strict=True)
            level = [f"{level[prefix]} {words[last]}" for prefix, last in pairs]
            texts += level
        return texts


def count_ngrams(groups: Sequence[Sequence[str]]) -> NgramCounts:
    """Count the n-grams of 1 to 4 words of groups of tokenized captions, for example the references of each item.

    Raises:
        UsageError: a group without captions.
    """
    sizes = group_sizes(groups)
    lengths, tokens = _split(groups)
    words: defaultdict[str, int] = defaultdict()
    words.default_factory = words.__len__  # a new word gets the next number
    total = len(tokens)
    word = np.fromiter(map(words.__getitem__, tokens), np.int64, total)

    starts = np.arange(total)
    room = np.repeat(np.cumsum(lengths), lengths) - starts  # words from each one to the end of its caption
    number, offset = word, 0
    keys: list[Ints] = []
    grams, places = [word], [starts]
    for n in range(2, MAX_N + 1):
        fits = room[starts] >= n
        starts = starts[fits]
        offset += len(keys[-1]) if keys else len(words)
        level, number = np.unique(number[fits] * len(words) + word[starts + n - 1], return_inverse=True)
        keys.append(level)
        grams.append(number + offset)
        places.append(starts)
    ngrams = len(words) + sum(map(len, keys))

    # one number for (group, n-gram, caption within the group); sorting it is all the counting
    widest = int(sizes.max(initial=1))
    first_caption = np.cumsum(sizes) - sizes
    group_of = np.repeat(np.arange(len(sizes)), sizes)
    within = np.arange(len(lengths)) - first_caption[group_of]
    base = np.repeat(group_of * ngrams * widest + within, lengths)
    rows = np.concatenate([base[p] + g * widest for p, g in zip(places, grams, strict=True)])
    rows.sort()
    row_starts = _runs(rows)
    pair, caption = np.divmod(rows[row_starts[:-1]], widest)
    group, gram = np.divmod(pair, max(ngrams, 1))
    caption += first_caption[group]
    pair_rows = _runs(pair)
    return NgramCounts(
        words=dict(words),
        keys=tuple(keys),
        sizes=sizes,
        lengths=lengths,
        gram=gram,
        caption=caption,
        count=row_starts[1:] - row_starts[:-1],
        pair_keys=pair[pair_rows[:-1]],
        pair_rows=pair_rows,
    )


def _split(groups: Sequence[Sequence[str]]) -> tuple[Ints, list[str]]:
    """Words of every caption, and all words; without a list for every caption, which would keep the collector busy."""
    lengths: list[int] = []
    tokens: list[str] = []
    for captions in groups:
        for caption in captions:
            before = len(tokens)
            tokens += caption.split()
            lengths.append(len(tokens) - before)
    return np.array(lengths, dtype=np.int64), tokens


def prepared(references: Sequence[Sequence[str]] | NgramCounts) -> NgramCounts:
    """Counts of the n-grams of the references, unless they are already that."""
    return references if isinstance(references, NgramCounts) else count_ngrams(references)


def group_sizes(groups: Sequence[Sequence[str]]) -> Ints:
    """(groups,): captions in each group.

    Raises:
        UsageError: a group without captions.
        TypeError: a text where a list of captions belongs; its letters would be taken for captions.
    """
    for number, captions in enumerate(groups):
        if isinstance(captions, str):
            raise TypeError(f"item {number}: expected a list of captions, not one text")
        if len(captions) == 0:
            raise UsageError(f"item {number} (from 0) has no reference captions", "every item needs at least one")
    return np.fromiter(map(len, groups), np.int64, len(groups))


def check_paired(predictions: int, items: int) -> None:
    """One prediction an item.

    Raises:
        UsageError: the numbers differ.
    """
    if predictions != items:
        raise UsageError(f"{predictions} predictions for {items} items", "give exactly one prediction an item")


def singly(captions: Iterable[str]) -> list[tuple[str]]:
    """Each caption as a group of its own."""
    return [(caption,) for caption in captions]


def _runs(ordered: Ints) -> Ints:
    """(runs + 1,): where each run of equal values begins, and the length of the array."""
    edges = np.ones(len(ordered) + 1, dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=edges[1:-1])
    return np.flatnonzero(edges) if len(ordered) else np.zeros(1, dtype=np.int64)


def _positions(ordered: Ints, values: Ints) -> Ints:
    """Where each value stands in an ascending array; -1 where it does not."""
    if len(ordered) == 0:
        return np.full(len(values), -1)
    ascending = np.argsort(values)  # searching in order stays within the processor's caches
    values = values[ascending]
    at = np.searchsorted(ordered, values)
    at[at == len(ordered)] = 0
    positions = np.empty(len(values), dtype=np.int64)
    positions[ascending] = np.where(ordered[at] == values, at, -1)
    return positions
