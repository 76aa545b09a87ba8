"""One evaluation: predictions against references, with intervals, diagnostics and nothing hidden.

`evaluate` reads nothing and writes nothing; predictions.py, references.py and pairing.py bring its input,
evaluation_page.py and the command line show its result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

from evlgen.errors import UsageError
from evlgen.metrics.bootstrap import caution, interval, resample
from evlgen.metrics.diagnostics import Diagnostics, diagnose
from evlgen.metrics.frequencies import DocumentFrequencies
from evlgen.metrics.pairing import Paired
from evlgen.metrics.scoring import Scored, ScoringOptions, score_captions, tokenize_sets
from evlgen.metrics.tokenizer import tokenize_captions

Missing = Literal["skip", "empty"]


def parse_missing(text: str) -> Missing:
    """The choice that a text names, "skip" or "empty".

    Raises:
        UsageError: it is something else.
    """
    found = next((choice for choice in get_args(Missing) if choice == text), None)
    if found is None:
        raise UsageError(f"--missing {text} is neither skip nor empty")
    return cast(Missing, found)


@dataclass(frozen=True)
class BootstrapOptions:
    """How intervals are made.

    Attributes:
        samples: resamples of the items; 0 for no intervals.
        seed: of the resampling.
        level: of the intervals, 0.95 for 95%.
    """

    samples: int = 1000
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.samples < 0 or 0 < self.samples < 40:
            raise UsageError(f"--bootstrap {self.samples} is too few resamples", "give 0 for none, or 1000")
        if not 0 < self.level < 1:
            raise UsageError(f"--level {self.level:g} is not between 0 and 1", "0.95 for 95% intervals")


@dataclass(frozen=True)
class Score:
    """A corpus score in points.

    Attributes:
        name: as papers write it.
        value: None when skipped.
        interval: bootstrap interval over items; None when skipped or not asked for.
        skipped: why there is no value; empty otherwise.
    """

    name: str
    value: float | None
    interval: tuple[float, float] | None = None
    skipped: str = ""


@dataclass(frozen=True)
class Group:
    """Scores of a part of the items (a NoCaps domain, a category), scored as a set of its own."""

    name: str
    items: int
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class ScoredCaption:
    """One caption and its points; `values` by score name, without skipped scores."""

    id: str
    caption: str
    references: tuple[str, ...]
    group: str | None
    values: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a line of JSON."""
        group = {} if self.group is None else {"group": self.group}
        return {"id": self.id, "caption": self.caption, **group, "scores": self.values}


@dataclass(frozen=True, kw_only=True)
class ScoredSet:
    """What evaluations of captions and of answers share.

    Attributes:
        scores: of all items.
        groups: of parts, where the references name parts and they were asked for.
        without_references: predictions nobody wrote references for; not scored.
        without_prediction: references nobody made a prediction for.
        failed: those of `without_prediction` whose row says why.
        missing: what was done with them: skipped, or scored as empty.
        rule: how ids were matched, or which rules made the accuracy.
        bootstrap: how intervals were made.
    """

    scores: tuple[Score, ...]
    groups: tuple[Group, ...]
    without_references: tuple[str, ...]
    without_prediction: tuple[str, ...]
    failed: dict[str, str]
    missing: Missing
    rule: str
    bootstrap: BootstrapOptions

    @property
    def size(self) -> int:
        """How many items were scored."""
        raise NotImplementedError

    @property
    def caution(self) -> str:
        """What to know about the intervals where there are few items; may be empty."""
        return caution(self.size, self.bootstrap.samples)

    @property
    def complete(self) -> bool:
        """Whether every score was computed, and over every reference set."""
        hole = self.without_prediction and self.missing == "skip"
        return not hole and not any(score.skipped for score in self.scores)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; per-item values are not in it."""
        return {
            "items": self.size,
            "scores": {score.name: _score_dict(score) for score in self.scores},
            "groups": {g.name: {"items": g.items, **{s.name: s.value for s in g.scores}} for g in self.groups},
            "without_references": list(self.without_references),
            "without_prediction": list(self.without_prediction),
            "failed": self.failed,
            "missing": self.missing,
            "bootstrap": vars(self.bootstrap),
            "caution": self.caution,
            "complete": self.complete,
        }


@dataclass(frozen=True, kw_only=True)
class Evaluation(ScoredSet):
    """The result for captions.

    Attributes:
        items: every scored caption, in the order of the references.
        diagnostics: of the predicted captions.
        reference_diagnostics: of all references, for comparison.
        frequencies: where CIDEr's document frequencies come from.
    """

    items: tuple[ScoredCaption, ...]
    diagnostics: Diagnostics
    reference_diagnostics: Diagnostics
    frequencies: str

    @property
    def size(self) -> int:
        """How many captions were scored."""
        return len(self.items)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; per-item values are not in it."""
        return {
            "unit": "points (x100)",
            **super().as_dict(),
            "diagnostics": vars(self.diagnostics),
            "reference_diagnostics": vars(self.reference_diagnostics),
            "matched_by": self.rule,
            "document_frequencies": self.frequencies,
        }


def evaluate(
    paired: Paired,
    options: ScoringOptions,
    bootstrap: BootstrapOptions,
    *,
    missing: Missing = "skip",
    by_group: bool = False,
) -> Evaluation:
    """Score captions against their references.

    Args:
        paired: captions with their references, see `evlgen.metrics.pairing.pair`.
        options: which scores.
        bootstrap: how intervals are made.
        missing: references without a caption are left out, or scored against an empty caption.
        by_group: score every group of the references as well, each as a set of its own (with its own document
            frequencies unless `options` fixes them), as when its annotations alone were given.

    Raises:
        UsageError: nothing to score.
    """
    if missing == "empty":
        paired = _with_empty_captions(paired)
    if not paired.ids:
        raise UsageError("no prediction has references; nothing to score")
    captions = tokenize_captions(paired.captions)
    references = tokenize_sets(paired.references)
    scored = score_captions(captions, references, options)
    return Evaluation(
        scores=tuple(corpus_scores(scored, bootstrap)),
        groups=tuple(_groups(paired, captions, references, scored, options)) if by_group else (),
        diagnostics=diagnose(captions),
        reference_diagnostics=diagnose([one for many in references for one in many]),
        items=tuple(_items(paired, scored)),
        without_references=tuple(paired.without_references),
        without_prediction=tuple(paired.absent),
        failed=dict(paired.failed),
        missing=missing,
        rule=paired.rule,
        bootstrap=bootstrap,
        frequencies=_describe(options.frequencies, len(paired.ids)),
    )


def _with_empty_captions(paired: Paired) -> Paired:
    absent = paired.absent
    return replace(
        paired,
        ids=[*paired.ids, *absent],
        captions=[*paired.captions, *([""] * len(absent))],
        references=[*paired.references, *absent.values()],
    )


def corpus_scores(scored: dict[str, Scored], bootstrap: BootstrapOptions) -> Iterator[Score]:
    """The scores of a set by name, with their intervals over the same resamples of its items."""
    present = {name: one.statistics for name, one in scored.items() if one.statistics is not None}
    intervals: dict[str, tuple[float, float]] = {}
    if bootstrap.samples and present:
        resampled = resample(list(present.values()), samples=bootstrap.samples, seed=bootstrap.seed)
        intervals = {name: interval(row, bootstrap.level) for name, row in zip(present, resampled, strict=True)}
    for name, one in scored.items():
        value = None if one.statistics is None else one.statistics.value
        yield Score(name, value, intervals.get(name), one.skipped)


def _groups(
    paired: Paired,
    captions: list[str],
    references: list[list[str]],
    scored: dict[str, Scored],
    options: ScoringOptions,
) -> Iterator[Group]:
    """Only CIDEr depends on the other items of a set, through its document frequencies; the rest is summed again."""
    members: dict[str, list[int]] = {}
    for place, key in enumerate(paired.ids):
        members.setdefault(paired.groups.get(key, "no group"), []).append(place)
    for name, places in sorted(members.items(), key=lambda member: _natural(member[0])):
        parts = {key: _part(one, places) for key, one in scored.items()}
        if "CIDEr" in scored and options.frequencies is None:
            own = replace(options, metrics=("cider",))
            parts |= score_captions([captions[i] for i in places], [references[i] for i in places], own)
        yield Group(name, len(places), tuple(corpus_scores(parts, BootstrapOptions(samples=0))))


def _part(scored: Scored, places: list[int]) -> Scored:
    if scored.statistics is None:
        return scored
    return replace(scored, statistics=replace(scored.statistics, rows=scored.statistics.rows[places]))


def _natural(name: str) -> tuple[bool, int, str]:
    """Category numbers in their order, then names in theirs (in-domain, near-domain, out-domain)."""
    return (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)


def _items(paired: Paired, scored: dict[str, Scored]) -> Iterator[ScoredCaption]:
    columns = {name: one.per_item for name, one in scored.items() if one.per_item is not None}
    for place, key in enumerate(paired.ids):
        yield ScoredCaption(
            id=key,
            caption=paired.captions[place],
            references=tuple(paired.references[place]),
            group=paired.groups.get(key),
            values={name: float(column[place]) for name, column in columns.items()},
        )


def _describe(frequencies: DocumentFrequencies | None, items: int) -> str:
    if frequencies is None:
        return f"from the {items} reference sets scored here"
    return f"given, from {frequencies.documents} reference sets"


def _score_dict(score: Score) -> dict[str, Any]:
    if score.skipped:
        return {"value": None, "skipped": score.skipped}
    return {"value": score.value, "interval": score.interval}
