"""Scores that a card may state: of files that `evlgen eval --json` or a chain wrote, and of a run's own validation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evlgen.errors import EvlgenError, UsageError
from evlgen.system.jsons import read_json
from evlgen.training.run_log import summarize

_METRICS = {"cider": "CIDEr", "bleu-4": "BLEU-4", "rouge-l": "ROUGE-L", "cider-d": "CIDEr-D", "accuracy": "accuracy"}
_KEPT_BESIDE = "scores*.json"


@dataclass(frozen=True)
class ScoredData:
    """Scores of captions of one set of data.

    Attributes:
        data: what the set is called.
        values: by metric, in points (x100).
        items: how many were scored; None where it is not said.
        intervals: 95% bootstrap intervals of some.
        while_training: by the run itself, on a small part of the data, to choose its checkpoint.
    """

    data: str
    values: dict[str, float]
    items: int | None = None
    intervals: dict[str, tuple[float, float]] | None = None
    while_training: bool = False


def read_scores(path: Path) -> ScoredData:
    """What `evlgen eval --json` printed, or scores.json of a chain.

    The data are called as the file; scores.json as its folder, a chain's step.

    Raises:
        UsageError: it holds no scores.
        EvlgenError: it cannot be read.
    """
    content = read_json(path)
    try:
        scores = {name: one for name, one in content["scores"].items() if one["value"] is not None}
        values = {name: float(one["value"]) for name, one in scores.items()}
        pairs = {name: one["interval"] for name, one in scores.items() if one.get("interval")}
        intervals = {name: (float(low), float(high)) for name, (low, high) in pairs.items()}
        items = int(content["items"])
    except (TypeError, KeyError, AttributeError, ValueError):
        raise UsageError(f"{path} holds no scores", "give what evlgen eval --json printed") from None
    name = path.absolute().parent.name if path.stem == "scores" else path.stem
    return ScoredData(name, values, items, intervals)


def scores_beside(folder: Path) -> list[ScoredData]:
    """The files scores*.json in a model's folder.

    Raises:
        UsageError: one of them holds no scores.
    """
    return [read_scores(path) for path in sorted(folder.glob(_KEPT_BESIDE))]


def validation_of(run: Path) -> tuple[list[ScoredData], str]:
    """What the run's log says of its best checkpoint, by source, and of which step it is; nothing without a log."""
    try:
        summary = summarize(run)
    except (EvlgenError, KeyError, ValueError):
        summary = None
    if summary is None:
        return [], ""
    found = [ScoredData(name, _named(figures), while_training=True) for name, figures in summary.best.items()]
    return [one for one in found if one.values], f"step {summary.best_step} of {summary.steps}, by {summary.metric}"


def _named(figures: dict[str, Any]) -> dict[str, float]:
    return {name: float(figures[key]) for key, name in _METRICS.items() if isinstance(figures.get(key), int | float)}
