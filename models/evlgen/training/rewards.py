"""What sampled captions are worth: a weighted sum of CIDEr-D and BLEU-4 against a video's references.

Rennie et al., arXiv 1612.00563, reward CIDEr-D with document frequencies of the training references. The end token is
a word of captions, references and frequencies: without it, captions learn to end badly ("a man riding a"). A caption
that was cut off before its end token does not get one. Values are computed in a thread of their own while the
accelerator goes on: they take milliseconds (benchmarks/scst_speed.py), less than talking to another process.

Shapes: M captions of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from evlgen.errors import UsageError
from evlgen.metrics.bleu import bleu_of, bleu_statistics
from evlgen.metrics.cider import CiderScorer
from evlgen.metrics.frequencies import DocumentFrequencies
from evlgen.metrics.tokenizer import tokenize_captions

Floats = NDArray[np.float64]

END_TOKEN = "<eos>"
PARTS = ("cider", "bleu4")
CACHED_CAPTIONS = 500_000
"""About 100 MB; beyond, the cache starts anew."""
# The tokenizer reads a line's end together with the next line ("plan b."). Behind each caption stands this one, so that
# its tokens do not depend on which caption comes next.
_NEXT_LINE = "a"


@dataclass(frozen=True)
class RewardValues:
    """Rewards of M captions.

    Attributes:
        total: (M,) the weighted sum.
        parts: (M,) by name, without weights: `cider` as in pycocoevalcap, from 0 to 10, where 1 is what papers print as
            100; `bleu4` from 0 to 1.
    """

    total: Floats
    parts: dict[str, Floats]


class CaptionReward:
    """Rewards against reference sets that are prepared once.

    Args:
        references: captions of each item as people wrote them; items are numbered in this order.
        weights: of the parts `cider` (CIDEr-D) and `bleu4`; parts without a weight are not computed. BLEU-4 is that of
            single captions as pycocoevalcap has it (one without a common 4-gram gets almost 0), without end token.

    Raises:
        UsageError: an unknown part, no part, an item without references.
    """

    def __init__(self, references: Sequence[Sequence[str]], weights: Mapping[str, float]) -> None:
        unknown = sorted(set(weights) - set(PARTS))
        if unknown:
            raise UsageError(f"there is no reward {unknown[0]!r}", f"there is: {', '.join(PARTS)}")
        self.weights = {name: weight for name, weight in weights.items() if weight}
        if not self.weights:
            raise UsageError("no reward has a weight", f"give a weight to one or more of: {', '.join(PARTS)}")
        words = iter(tokenize_captions([c for captions in references for c in captions]))
        self._references = [[next(words) for _ in captions] for captions in references]
        self._cider: CiderScorer | None = None
        if "cider" in self.weights:
            # The end token stands in the texts, so that the scorer does not give it to captions that were cut off.
            ending = [[_with_end(c) for c in captions] for captions in self._references]
            self._cider = CiderScorer(ending, DocumentFrequencies.from_references(ending))
        self._known: dict[tuple[int, str, bool], tuple[float, ...]] = {}
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="rewards")

    def score(self, items: Sequence[int], texts: Sequence[str], ended: Sequence[bool] | None = None) -> RewardValues:
        """Rewards of captions, each against the references of its item.

        Args:
            items: (M,) numbers of items, in any order and as often as wanted.
            texts: (M,) captions as the language model wrote them.
            ended: (M,) whether the end token was drawn; None: all captions ended.

        Raises:
            IndexError: there is no such item.
        """
        ended = [True] * len(texts) if ended is None else [bool(e) for e in ended]
        keys = list(zip(items, texts, ended, strict=True))
        new = [key for key in dict.fromkeys(keys) if key not in self._known]
        if len(self._known) + len(new) > CACHED_CAPTIONS:
            self._known.clear()
            new = list(dict.fromkeys(keys))
        if new:
            self._known.update(zip(new, self._compute(new), strict=True))
        table = np.array([self._known[key] for key in keys], dtype=np.float64).reshape(len(keys), len(self.weights))
        parts = {name: table[:, column] for column, name in enumerate(self.weights)}
        return RewardValues(table @ np.array(list(self.weights.values()), dtype=np.float64), parts)

    def submit(
        self, items: Sequence[int], texts: Sequence[str], ended: Sequence[bool] | None = None
    ) -> Future[RewardValues]:
        """`score` in the worker, batches in the order in which they were handed in."""
        return self._worker.submit(self.score, items, texts, ended)

    def close(self) -> None:
        """End the worker, after what it was given."""
        self._worker.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _compute(self, keys: Sequence[tuple[int, str, bool]]) -> list[tuple[float, ...]]:
        items = [item for item, _, _ in keys]
        if min(items) < 0 or max(items) >= len(self._references):
            raise IndexError(f"items must lie between 0 and {len(self._references) - 1}")
        words = tokenize_captions([line for _, text, _ in keys for line in (text, _NEXT_LINE)])[::2]
        values: dict[str, Floats] = {}
        if self._cider is not None:
            captions = [_with_end(w) if ended else w for w, (_, _, ended) in zip(words, keys, strict=True)]
            values["cider"] = self._cider.score_pairs(items, captions)
        if "bleu4" in self.weights:
            values["bleu4"] = bleu_of(bleu_statistics(words, [self._references[item] for item in items]))[:, 3]
        return list(zip(*(values[name].tolist() for name in self.weights), strict=True))


def _with_end(words: str) -> str:
    return f"{words} {END_TOKEN}" if words else END_TOKEN
