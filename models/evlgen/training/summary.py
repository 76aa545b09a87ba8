"""What a run came to, by its log: which step was best, and what it is better than."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evlgen.training.records import RunLog


@dataclass(frozen=True)
class RunSummary:
    """Two validations of a run.

    Attributes:
        metric: what the best checkpoint is best by.
        steps: optimizer steps of the whole run.
        best_step, best_score, best: steps done, score (higher is better) and figures per source of the best validation.
        first_step, first_score, first: the same of the first one, which is that of the start but in older logs.
    """

    metric: str
    steps: int
    best_step: int
    best_score: float
    best: dict[str, dict[str, Any]]
    first_step: int
    first_score: float
    first: dict[str, dict[str, Any]]

    @property
    def improved(self) -> bool:
        """Whether training made it better than it was at the first validation."""
        return self.best_step > self.first_step


def summarize(folder: Path) -> RunSummary | None:
    """The best and the first validation in the log of a run; None where there is none."""
    rows = [row for row in RunLog(folder).records() if "validation" in row and "score" in row]
    if not rows:
        return None
    best = max(rows, key=lambda row: float(row["score"]))  # the first of equals, as in training
    first = rows[0]
    return RunSummary(
        str(best.get("metric", "score")), int(best.get("of", best["step"])),
        best["step"], float(best["score"]), best["validation"],
        first["step"], float(first["score"]), first["validation"],
    )  # fmt: skip
