"""Every caption score by name, from tokenized captions to per-item values and resampling statistics.

All values are points: 100 x what the reference implementations print, as papers write them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from evlgen.errors import UsageError
from evlgen.metrics.bleu import bleu_of, bleu_statistics
from evlgen.metrics.bootstrap import Floats, Statistics, mean_of
from evlgen.metrics.cider import CiderScorer
from evlgen.metrics.frequencies import DocumentFrequencies
from evlgen.metrics.java import Unavailable
from evlgen.metrics.meteor import meteor_of, meteor_statistics
from evlgen.metrics.ngrams import NgramCounts, count_ngrams
from evlgen.metrics.rouge import rouge_l
from evlgen.metrics.spice import spice
from evlgen.metrics.tokenizer import tokenize_captions

METRICS = ("cider", "bleu", "rouge-l", "meteor", "spice")
"""In the order of reports. METEOR and SPICE need Java."""

DEFAULT_METRICS = ("cider", "bleu", "rouge-l")


@dataclass(frozen=True)
class Scored:
    """One score of a set of captions.

    Attributes:
        name: as papers write it.
        statistics: the corpus score in points and what it is resampled from; None when skipped.
        per_item: (N,) points of each caption; None when skipped.
        skipped: why there is no score and what to install; empty when there is one.
    """

    name: str
    statistics: Statistics | None = None
    per_item: Floats | None = None
    skipped: str = ""


@dataclass(frozen=True)
class ScoringOptions:
    """What is computed and how.

    Attributes:
        metrics: of METRICS.
        frequencies: CIDEr's document frequencies; None: from the references at hand.
        deadline_seconds: for METEOR and for SPICE, each.
    """

    metrics: tuple[str, ...] = DEFAULT_METRICS
    frequencies: DocumentFrequencies | None = None
    deadline_seconds: float = 1800.0


def parse_metrics(text: str) -> tuple[str, ...]:
    """The scores that a text such as "cider,meteor" or "all" names, in the order of METRICS.

    Raises:
        UsageError: an unknown name.
    """
    asked = [part.strip().lower() for part in text.split(",") if part.strip()]
    unknown = [name for name in asked if name not in (*METRICS, "all")]
    if unknown or not asked:
        raise UsageError(f"unknown metric {', '.join(unknown) or repr(text)}", f"choose from {', '.join(METRICS)}, all")
    return METRICS if "all" in asked else tuple(name for name in METRICS if name in asked)


def tokenize_sets(references: Sequence[Sequence[str]]) -> list[list[str]]:
    """Tokenize N sets of references, in one stream as pycocoevalcap does."""
    flat = iter(tokenize_captions([one for many in references for one in many]))
    return [[next(flat) for _ in many] for many in references]


def score_captions(
    captions: Sequence[str], references: Sequence[Sequence[str]], options: ScoringOptions
) -> dict[str, Scored]:
    """Scores by name; a score that cannot be computed here is there too, with the reason.

    Args:
        captions: N tokenized captions (`evlgen.metrics.tokenizer`).
        references: N sets of tokenized references.
        options: what to compute.
    """
    work = _Work(captions, references, options)
    return {scored.name: scored for metric in options.metrics for scored in _COMPUTE[metric](work)}


@dataclass(frozen=True)
class _Work:
    """What the scores are computed from; n-grams of the references are counted once for BLEU and CIDEr."""

    captions: Sequence[str]
    references: Sequence[Sequence[str]]
    options: ScoringOptions

    @cached_property
    def counted(self) -> NgramCounts:
        return count_ngrams(self.references)


def _cider(work: _Work) -> list[Scored]:
    points = 100 * CiderScorer(work.counted, work.options.frequencies).score(work.captions)
    return [Scored("CIDEr", mean_of(points), points)]


def _bleu(work: _Work) -> list[Scored]:
    rows = bleu_statistics(work.captions, work.counted)
    per_item = 100 * bleu_of(rows)

    def corpus(order: int) -> Callable[[Floats], Floats]:
        return lambda sums: 100 * bleu_of(sums)[..., order]

    statistics = rows.astype(np.float64)
    return [Scored(f"BLEU-{n + 1}", Statistics(statistics, corpus(n)), per_item[:, n]) for n in (3, 2, 1, 0)]


def _rouge_l(work: _Work) -> list[Scored]:
    points = 100 * rouge_l(work.captions, work.references)
    return [Scored("ROUGE-L", mean_of(points), points)]


def _meteor(work: _Work) -> list[Scored]:
    try:
        rows = meteor_statistics(work.captions, work.references, deadline_seconds=work.options.deadline_seconds)
    except Unavailable as error:
        return [Scored("METEOR", skipped=str(error))]
    return [Scored("METEOR", Statistics(rows, lambda sums: 100 * meteor_of(sums)), 100 * meteor_of(rows))]


def _spice(work: _Work) -> list[Scored]:
    try:
        points = 100 * spice(work.captions, work.references, deadline_seconds=work.options.deadline_seconds)
    except Unavailable as error:
        return [Scored("SPICE", skipped=str(error))]
    return [Scored("SPICE", mean_of(points), points)]


_COMPUTE: Mapping[str, Callable[[_Work], list[Scored]]] = {
    "cider": _cider,
    "bleu": _bleu,
    "rouge-l": _rouge_l,
    "meteor": _meteor,
    "spice": _spice,
}
