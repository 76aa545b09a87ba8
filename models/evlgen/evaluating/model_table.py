"""Several models on one captioned data set: captions of each, in a process of its own, then one table of what they say.

A process a model makes memory honest: what one has taken is no part of the next one's peak, and one that the system
kills costs its row. Captions, and beside them what was measured, stay in a folder; the same command goes on.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from evlgen.captioners.opening import kind_of, possible_options
from evlgen.captioners.protocol import ModelFacts
from evlgen.captioning.child_runs import ChildRun, forward, receive, report_to_parent, start
from evlgen.captioning.journal import read_captions
from evlgen.captioning.run_report import Listener, Summary
from evlgen.errors import EvlgenError, UsageError
from evlgen.evaluating.evaluation_sets import CaptionedSet
from evlgen.evaluating.prediction import PredictionRequest, caption_request, predict
from evlgen.metrics.comparison import Comparison
from evlgen.metrics.evaluation import Evaluation
from evlgen.metrics.file_evaluation import EvaluationRequest, FileEvaluation, compare_files, evaluate_files
from evlgen.system.jsons import read_json, write_json

SHOWN = ("CIDEr", "BLEU-4", "METEOR", "ROUGE-L", "SPICE")
"""Scores of the table, where they were asked for."""

_SOME_TAKE = {
    "system_prompt": "system_prompt",
    "load_in": "load_in",
    "trust_remote_code": "trust_remote_code",
    "r": "r",
    "concurrency": "concurrency",
    "request_timeout": "request_timeout_seconds",
}
"""Names of options that only some kinds of models take, and of the fields that hold them."""
_EMPTY: dict[str, Any] = {one.name: one.default for one in fields(PredictionRequest)}
_LONGEST_NAME = 100

Listen = Callable[[str], AbstractContextManager[Listener]]
"""Who is told of the run of a model, by the model's text."""


@dataclass(frozen=True)
class TableRow:
    """A model and what came of it.

    Attributes:
        model: text of `--model`.
        captions: its journal.
        problem: why it has no scores, in a line; empty: it has.
        scored: its scores.
        facts: what was measured when it captioned; of all models, what nobody knows is None.
        seconds_per_clip: mean over its captions: decoding, and the clip's share of its batch in the model.
        difference: from the first model that has scores, on the clips that both captioned; None of that one, and
            without resamples.
    """

    model: str
    captions: Path
    problem: str = ""
    scored: FileEvaluation | None = None
    facts: ModelFacts = field(default_factory=ModelFacts)
    seconds_per_clip: float | None = None
    difference: Comparison | None = None

    @property
    def evaluation(self) -> Evaluation | None:
        """The scores of its captions."""
        return self.scored.result if self.scored is not None and isinstance(self.scored.result, Evaluation) else None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        evaluation = self.evaluation
        return {
            "model": self.model,
            "captions": str(self.captions),
            "problem": self.problem or None,
            **vars(self.facts),
            "seconds_per_clip": self.seconds_per_clip,
            "evaluation": None if evaluation is None else evaluation.as_dict(),
            "difference": None if self.difference is None else self.difference.as_dict(),
        }


@dataclass(frozen=True)
class ModelTable:
    """All models, in the order in which they were named.

    Attributes:
        rows: a model each.
        data: what they captioned.
    """

    rows: tuple[TableRow, ...]
    data: CaptionedSet

    @property
    def baseline(self) -> TableRow | None:
        """The row that the others are compared with: the first that has scores."""
        return next((row for row in self.rows if row.evaluation is not None), None)

    @property
    def complete(self) -> bool:
        """Whether every model has every score, over every reference set."""
        return all(row.evaluation is not None and row.evaluation.complete for row in self.rows)

    @property
    def caution(self) -> str:
        """What to know about the intervals where there are few items; may be empty."""
        found = [row.evaluation.caution for row in self.rows if row.evaluation is not None]
        return next((text for text in found if text), "")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "data": self.data.name,
            "references": str(self.data.captions),
            "baseline": None if self.baseline is None else self.baseline.model,
            "models": [row.as_dict() for row in self.rows],
            "complete": self.complete,
        }


def file_name(model: str) -> str:
    """What the files of a model are called after, without a suffix; it depends on nothing else."""
    name = re.sub(r"[^A-Za-z0-9._@-]+", "-", model).strip("-.") or "model"
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{hashlib.sha256(model.encode()).hexdigest()[:8]}-{name[-_LONGEST_NAME:]}"


def requests_of(models: Sequence[str], folder: Path, request: PredictionRequest) -> list[PredictionRequest]:
    """A request for each model, with its journal in a folder.

    Args:
        models: texts of `--model`.
        folder: is made when there is something to write.
        request: how; its `model` and `out` are replaced.

    Raises:
        UsageError: a model is named twice, two would share a file, or an option means nothing to any of them.
    """
    if twice := next((one for place, one in enumerate(models) if one in models[:place]), None):
        raise UsageError(f"--model {twice} is named twice", "name each model once")
    names = [file_name(one) for one in models]
    if len(set(names)) < len(names):
        first, second = next((m, o) for m in models for o in models if m != o and file_name(m) == file_name(o))
        raise UsageError(f"{first} and {second} would both be kept in {file_name(first)}.jsonl", "run them apart")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder} is a file", "several models need a folder")
    for name, key in _SOME_TAKE.items():
        if getattr(request, key) != _EMPTY[key] and not any(name in possible_options(one) for one in models):
            raise UsageError(f"--{name.replace('_', '-')} means nothing to any of these models", "leave it away")
    return [
        replace(request, model=model, out=folder / f"{name}.jsonl") for model, name in zip(models, names, strict=True)
    ]


def caption_each(
    requests: Sequence[PredictionRequest], data: CaptionedSet, listen_to: Listen, stop: threading.Event
) -> dict[str, str]:
    """Caption with each model what its journal does not hold yet; gives the problems of those that failed.

    Args:
        requests: see `requests_of`.
        data: what to caption.
        listen_to: who is told.
        stop: ends it; what is written by then is kept.

    Raises:
        UsageError: options contradict each other.
    """
    for request in requests:
        caption_request(request, data)
    problems = {}
    for request in requests:
        if stop.is_set():
            break
        try:
            with listen_to(request.model) as listener:
                _caption_apart(request, data, listener, stop)
        except EvlgenError as error:
            problems[request.model] = str(error)
    return problems


def _caption_apart(request: PredictionRequest, data: CaptionedSet, listener: Listener, stop: threading.Event) -> None:
    assert request.out is not None
    request.out.parent.mkdir(parents=True, exist_ok=True)
    counts: list[Summary] = []

    def on_message(run: ChildRun, kind: str, value: Any) -> None:
        if kind == "row":
            counts[0].add(*value)
        forward(listener, kind, value)
        if kind == "plan":
            (plan,) = value
            counts.append(Summary.of_plan(plan, request.out, 0))
            listener.on_summary(counts[0])

    run = start(_work, request, data)
    receive([run], on_message, stop)
    if run.summary is None and stop.is_set():
        return
    if run.error is None and run.summary is None and run.process.exitcode < 0:
        raise EvlgenError(
            f"its process was killed by signal {-run.process.exitcode}, as the system does when memory runs out",
            "what it wrote is kept; run the same command again to go on",
        )
    summary = run.result("its process")
    if summary.facts is not None:
        _keep_facts(request.out, summary.facts)


def _work(request: PredictionRequest, data: CaptionedSet, connection: Connection) -> None:
    """What the process of a model does."""
    report_to_parent(partial(_caption, request, data), connection, whole=True)


def _caption(request: PredictionRequest, data: CaptionedSet, listener: Listener, stop: threading.Event) -> Summary:
    return predict(_fitting(request, listener), data, listener, stop).summary


def _fitting(request: PredictionRequest, listener: Listener) -> PredictionRequest:
    """The request without options that mean nothing to its model but something to others of the table."""
    kind = kind_of(request.model)
    others = {key: _EMPTY[key] for name, key in _SOME_TAKE.items() if name not in kind.options}
    if kind.elsewhere:
        others |= {"device": "auto", "dtype": "auto"}
    left_out = [key for key, empty in others.items() if getattr(request, key) != empty]
    for key in left_out:
        name = next((name for name, its in _SOME_TAKE.items() if its == key), key)
        listener.on_note(f"--{name.replace('_', '-')} means nothing to {kind.title}, and is left away for them")
    return replace(request, **{key: others[key] for key in left_out})


def _facts_file(captions: Path) -> Path:
    return captions.with_suffix(".facts.json")


def _keep_facts(captions: Path, facts: ModelFacts) -> None:
    """Write what was measured beside the captions, with the settings that it was measured in.

    A run that went on has captioned less: the larger peak of the two is that of the model.
    """
    settings = _settings_hash(captions)
    before = _facts(captions).peak_memory_bytes
    if before is not None and facts.peak_memory_bytes is not None:
        facts = replace(facts, peak_memory_bytes=max(before, facts.peak_memory_bytes))
    write_json(_facts_file(captions), {"settings_hash": settings, **vars(facts)}, indent=1, hint="choose another --out")


def _facts(captions: Path) -> ModelFacts:
    """What was measured; nothing where the captions are of other settings."""
    try:
        found = read_json(_facts_file(captions))
    except (EvlgenError, OSError):
        return ModelFacts()
    if not isinstance(found, dict) or found.pop("settings_hash", None) != _settings_hash(captions):
        return ModelFacts()
    known = {one.name for one in fields(ModelFacts)}
    return ModelFacts(**{name: value for name, value in found.items() if name in known})


def _settings_hash(captions: Path) -> str | None:
    """The settings of the last caption."""
    rows = list(read_captions(captions).values())
    return rows[-1].get("settings_hash") if rows else None


def make_table(
    requests: Sequence[PredictionRequest],
    problems: dict[str, str],
    data: CaptionedSet,
    scoring: EvaluationRequest,
) -> ModelTable:
    """Score what each model has written, and compare it with the first.

    Args:
        requests: see `requests_of`.
        problems: of the models that have no captions, or not all of them.
        data: what was captioned.
        scoring: how; its references and split are those of the data.

    Raises:
        UsageError: the references cannot be read.
    """
    scoring = replace(scoring, references=data.captions, split=data.split)
    rows: list[TableRow] = []
    for request in requests:
        assert request.out is not None
        rows.append(_row(request.model, request.out, problems.get(request.model, ""), scoring))
    table = ModelTable(tuple(rows), data)
    first = table.baseline
    if first is None or not scoring.bootstrap.samples:
        return table
    return replace(table, rows=tuple(_compared(row, first, scoring) for row in rows))


def _row(model: str, captions: Path, problem: str, scoring: EvaluationRequest) -> TableRow:
    if problem:
        return TableRow(model, captions, problem)
    try:
        scored = evaluate_files(captions, scoring)
    except EvlgenError as error:  # not one of its captions has references, for one
        return TableRow(model, captions, str(error))
    found = read_captions(captions).values()
    seconds = [row["seconds"] for row in found if row.get("error") is None and row.get("seconds") is not None]
    mean = sum(seconds) / len(seconds) if seconds else None
    return TableRow(model, captions, "", scored, _facts(captions), mean)


def _compared(row: TableRow, first: TableRow, scoring: EvaluationRequest) -> TableRow:
    if row is first or row.evaluation is None:
        return row
    try:
        difference, _ = compare_files(first.captions, row.captions, scoring, largest=0)
    except UsageError:  # no clip has a caption of both
        return row
    return replace(row, difference=difference)
