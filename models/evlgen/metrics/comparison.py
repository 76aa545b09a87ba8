"""Two sets of captions of the same items: paired bootstrap, wins, ties and losses, and where they differ most.

Koehn 2004, section 3: both sides are scored on the same resamples of the items, so what the two share cancels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from evlgen.errors import UsageError
from evlgen.metrics.bootstrap import caution, interval, p_floor, p_value, resample
from evlgen.metrics.diagnostics import Diagnostics, diagnose
from evlgen.metrics.evaluation import BootstrapOptions
from evlgen.metrics.pairing import Paired
from evlgen.metrics.scoring import Scored, ScoringOptions, score_captions, tokenize_sets
from evlgen.metrics.tokenizer import tokenize_captions

_EQUAL_POINTS = 1e-9  # closer than this is a tie


@dataclass(frozen=True)
class Difference:
    """One score of both sides, in points; `change` is B minus A.

    Attributes:
        name: as papers write it.
        a: of A, None when skipped.
        b: of B.
        change: B minus A.
        interval: paired bootstrap interval of the change.
        p: two-sided p of "no difference".
        p_at_floor: p is the smallest that the number of resamples can give, so that the true one is p or less.
        wins: items where B is better; ties, losses: likewise.
        skipped: why there is no value; empty otherwise.
    """

    name: str
    a: float | None = None
    b: float | None = None
    change: float | None = None
    interval: tuple[float, float] | None = None
    p: float | None = None
    p_at_floor: bool = False
    wins: int = 0
    ties: int = 0
    losses: int = 0
    skipped: str = ""

    @property
    def significant(self) -> bool:
        """Whether the interval of the change leaves zero out."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


@dataclass(frozen=True)
class ItemDifference:
    """One item: both captions, their points in the score that sorts, and the references."""

    id: str
    change: float
    a: float
    b: float
    caption_a: str
    caption_b: str
    references: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """The result; `largest` holds the largest changes in `sorted_by`, gains of B first, then its losses."""

    items: int
    scores: tuple[Difference, ...]
    diagnostics_a: Diagnostics
    diagnostics_b: Diagnostics
    sorted_by: str
    largest: tuple[ItemDifference, ...]
    only_in_a: tuple[str, ...]
    only_in_b: tuple[str, ...]
    in_neither: tuple[str, ...]
    bootstrap: BootstrapOptions

    @property
    def caution(self) -> str:
        """What to know about the intervals where there are few items; may be empty."""
        return caution(self.items, self.bootstrap.samples)

    @property
    def complete(self) -> bool:
        """Whether every score was computed, and over every reference set."""
        dropped = self.only_in_a or self.only_in_b or self.in_neither
        return not dropped and not any(score.skipped for score in self.scores)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "items": self.items,
            "unit": "points (x100); change is B minus A",
            "scores": {d.name: {k: v for k, v in vars(d).items() if k != "name"} for d in self.scores},
            "diagnostics": {"a": vars(self.diagnostics_a), "b": vars(self.diagnostics_b)},
            "sorted_by": self.sorted_by,
            "largest_differences": [vars(one) for one in self.largest],
            "only_in_a": list(self.only_in_a),
            "only_in_b": list(self.only_in_b),
            "in_neither": list(self.in_neither),
            "bootstrap": vars(self.bootstrap),
            "caution": self.caution,
            "complete": self.complete,
        }


def compare(
    a: Paired,
    b: Paired,
    options: ScoringOptions,
    bootstrap: BootstrapOptions,
    *,
    largest: int = 10,
) -> Comparison:
    """Compare captions of the same references on the items that both have.

    Args:
        a: the captions to start from.
        b: the captions that may be better.
        options: which scores; the first one sorts the differences.
        bootstrap: how intervals are made.
        largest: how many gains and how many losses to keep.

    Raises:
        UsageError: no item is in both.
    """
    if not bootstrap.samples:
        raise UsageError("a comparison needs resamples", "leave --bootstrap 0 away")
    place_a, place_b = ({key: i for i, key in enumerate(side.ids)} for side in (a, b))
    ids = [key for key in a.ids if key in place_b]
    if not ids:
        raise UsageError("the two sets of captions share no item that has references")
    at_a, at_b = [place_a[key] for key in ids], [place_b[key] for key in ids]
    sets = [a.references[i] for i in at_a]
    references = tokenize_sets(sets)
    raw_a, raw_b = [a.captions[i] for i in at_a], [b.captions[i] for i in at_b]
    captions_a, captions_b = tokenize_captions(raw_a), tokenize_captions(raw_b)
    scored_a = score_captions(captions_a, references, options)
    scored_b = score_captions(captions_b, references, options)
    known = [*a.ids, *a.absent]
    first = next((name for name, one in scored_a.items() if one.per_item is not None), "")
    differences = _item_differences(ids, raw_a, raw_b, sets, scored_a[first], scored_b[first]) if first else []
    return Comparison(
        items=len(ids),
        scores=tuple(_difference(name, scored_a[name], scored_b[name], bootstrap) for name in scored_a),
        diagnostics_a=diagnose(captions_a),
        diagnostics_b=diagnose(captions_b),
        sorted_by=first,
        largest=tuple(_largest(differences, largest)),
        only_in_a=tuple(key for key in a.ids if key not in place_b),
        only_in_b=tuple(key for key in b.ids if key not in place_a),
        in_neither=tuple(key for key in known if key not in place_a and key not in place_b),
        bootstrap=bootstrap,
    )


def _difference(name: str, a: Scored, b: Scored, bootstrap: BootstrapOptions) -> Difference:
    if a.statistics is None or b.statistics is None or a.per_item is None or b.per_item is None:
        return Difference(name, skipped=a.skipped or b.skipped)
    of_a, of_b = resample([a.statistics, b.statistics], samples=bootstrap.samples, seed=bootstrap.seed)
    item_change = b.per_item - a.per_item
    p = p_value(of_b - of_a)
    return Difference(
        name=name,
        a=a.statistics.value,
        b=b.statistics.value,
        change=b.statistics.value - a.statistics.value,
        interval=interval(of_b - of_a, bootstrap.level),
        p=p,
        p_at_floor=p <= p_floor(bootstrap.samples),
        wins=int(np.sum(item_change > _EQUAL_POINTS)),
        ties=int(np.sum(np.abs(item_change) <= _EQUAL_POINTS)),
        losses=int(np.sum(item_change < -_EQUAL_POINTS)),
    )


def _largest(items: list[ItemDifference], count: int) -> list[ItemDifference]:
    """The largest gains, then the largest losses, `count` of each at most."""
    gains = sorted((one for one in items if one.change > _EQUAL_POINTS), key=lambda one: -one.change)
    losses = sorted((one for one in items if one.change < -_EQUAL_POINTS), key=lambda one: one.change)
    return [*gains[:count], *losses[:count]]


def _item_differences(
    ids: list[str], captions_a: list[str], captions_b: list[str], references: list[list[str]], a: Scored, b: Scored
) -> list[ItemDifference]:
    """Each item's change in one score; none where that is skipped."""
    if a.per_item is None or b.per_item is None:
        return []
    rows = zip(ids, a.per_item.tolist(), b.per_item.tolist(), captions_a, captions_b, references, strict=True)
    return [
        ItemDifference(key, points_b - points_a, points_a, points_b, one, other, tuple(wanted))
        for key, points_a, points_b, one, other, wanted in rows
    ]
