"""log.jsonl of a run: one JSON object a line, in the order of steps, without what a killed run had said too early.

A training record of step n is written after step n; a validation record and a warning name the steps done before them.
The first line says on what machine and with what settings the run started, and a resumed run says it again where that
changed. What a run came to is read from it: which step was best, and what it is better than.

TensorBoard, wandb and trackio get the same numbers through Accelerate; each is an extra (`pip install evlgen[wandb]`).
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evlgen.errors import UsageError
from evlgen.recipes.schema import Recipe
from evlgen.system.files import os_errors, write_text
from evlgen.system.jsons import parse_json

LOG_FILE = "log.jsonl"
_HINT = "free some disk, then --resume"


class RunLog:
    """The log of a run.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOG_FILE

    def write(self, record: dict[str, Any]) -> None:
        """Append a record.

        Raises:
            EvlgenError: the disk is full or not writable.
        """
        with os_errors(self.path, hint=_HINT):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def start(self, facts: dict[str, Any], step: int, *, validation_due: bool = True) -> None:
        """Drop what was logged after `step` steps, and write what is known at the start if it is news.

        Args:
            facts: what is known at the start.
            step: steps that are done.
            validation_due: one follows at once, and what an earlier try logged of it is dropped.

        Raises:
            EvlgenError: the disk is full or not writable; the log is as it was.
        """
        told = [json.loads(line) for line in self._lines()]
        told = [row for row in told if _steps_done(row) <= step]
        told = [row for row in told if not (validation_due and row["step"] == step and "validation" in row)]
        kept = [json.dumps(row, ensure_ascii=False) + "\n" for row in told]
        if self.path.is_file():
            write_text(self.path, "".join(kept), hint=_HINT)
        if next((r["start"] for r in reversed(told) if "start" in r), None) != facts:
            self.write({"step": step, "start": facts})

    def records(self) -> list[dict[str, Any]]:
        """What is logged; nothing where there is no log."""
        return [json.loads(line) for line in self._lines()]

    def _lines(self) -> list[str]:
        """Its whole lines; a machine that lost its power may leave others."""
        if not self.path.is_file():
            return []
        lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
        return [f"{line}\n" for line in lines if _is_record(line)]


def _is_record(line: str) -> bool:
    try:
        record = parse_json(line, "")
    except UsageError:
        return False
    return isinstance(record, dict) and isinstance(record.get("step"), int)


def _steps_done(record: dict[str, Any]) -> int:
    return int(record["step"]) + (0 if {"validation", "start", "warning"} & record.keys() else 1)


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


def check_trackers(recipe: Recipe) -> None:
    """Look for the packages before anything is loaded.

    Raises:
        UsageError: one is missing.
    """
    for name in recipe.train.trackers:
        if importlib.util.find_spec(name) is None:
            raise UsageError(f"train.trackers: the package {name} is not installed", f"pip install 'evlgen[{name}]'")


class Trackers:
    """The trackers of a run; for the main process.

    Args:
        recipe: which ones; its name is the project's.
        folder: of the run; TensorBoard's files go to tensorboard/ in it.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker

        self.started: list[GeneralTracker] = []
        for name in recipe.train.trackers:
            kind = LOGGER_TYPE_TO_CLASS[name]
            place = [str(folder)] if kind.requires_logging_directory else []
            tracker = kind("tensorboard" if place else recipe.name, *place)
            tracker.start()
            self.started.append(tracker)

    def log(self, record: dict[str, Any]) -> None:
        """Hand on the numbers of a log record; those of validation as validation/SOURCE/NAME."""
        figures = {k: v for k, v in record.items() if isinstance(v, int | float) and k not in ("step", "of")}
        for source, values in record.get("validation", {}).items():
            figures |= {f"validation/{source}/{k}": v for k, v in values.items() if isinstance(v, int | float)}
        for tracker in self.started:
            tracker.log(figures, step=record["step"])

    def close(self) -> None:
        """Write out what is left."""
        for tracker in self.started:
            tracker.finish()
