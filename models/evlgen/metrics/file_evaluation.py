"""From files to results: what `evlgen eval` and `evlgen compare` call."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from evlgen.annotations.questions import looks_like_answers, read_answers
from evlgen.errors import UsageError
from evlgen.metrics.answer_evaluation import AnswerEvaluation, evaluate_answers
from evlgen.metrics.comparison import Comparison, compare
from evlgen.metrics.evaluation import BootstrapOptions, Evaluation, Missing, evaluate
from evlgen.metrics.frequencies import DocumentFrequencies
from evlgen.metrics.pairing import Paired, pair
from evlgen.metrics.paper_results import PublishedTable, published_tables
from evlgen.metrics.predictions import Predictions, read_predictions
from evlgen.metrics.references import References, read_references
from evlgen.metrics.scoring import ScoringOptions, tokenize_sets
from evlgen.system.files import write_text


@dataclass(frozen=True)
class EvaluationRequest:
    """Which files, which scores.

    Attributes:
        references: reference captions, or answers of a VQA set.
        split: of the references, where they have splits.
        scoring: which scores; its document frequencies are taken from `frequencies`.
        bootstrap: how intervals are made.
        missing: what to do with references that have no prediction.
        by_group: score the groups (domains, categories) of the references; None: only NoCaps' domains.
        frequencies: file of document frequencies, or of references to count them in; None: the references scored.
        save_frequencies: where to keep the document frequencies of `references`.
    """

    references: Path
    split: str | None = None
    scoring: ScoringOptions = field(default_factory=ScoringOptions)
    bootstrap: BootstrapOptions = field(default_factory=BootstrapOptions)
    missing: Missing = "skip"
    by_group: bool | None = None
    frequencies: Path | None = None
    save_frequencies: Path | None = None


@dataclass(frozen=True)
class FileEvaluation:
    """An evaluation and the files it is of.

    Attributes:
        result: of captions or of answers.
        predictions: file of the predictions; references: likewise.
        layouts: what the two files were taken for.
        notes: what a reader should know about the files, one line each.
        published: the paper's tables of such data.
    """

    result: Evaluation | AnswerEvaluation
    predictions: Path
    references: Path
    layouts: tuple[str, str]
    notes: tuple[str, ...]
    published: tuple[PublishedTable, ...]


def evaluate_files(predictions: Path, request: EvaluationRequest) -> FileEvaluation:
    """Score a file of predictions against a file of references.

    Raises:
        UsageError: a file is missing or not what it must be; nothing matches.
        EvlgenError: `save_frequencies` cannot be written.
    """
    predicted = read_predictions(predictions)
    if looks_like_answers(request.references):
        answers = read_answers(request.references)
        return FileEvaluation(
            result=evaluate_answers(predicted, answers, request.bootstrap, missing=request.missing),
            predictions=predictions,
            references=request.references,
            layouts=(predicted.layout, answers.layout),
            notes=predicted.notes,
            published=tuple(published_tables(answers=True)),
        )
    references = read_references(request.references, split=request.split)
    scoring = _with_frequencies(request, references)
    by_group = request.by_group if request.by_group is not None else "nocaps" in references.layout.lower()
    if by_group and not references.groups:
        raise UsageError(f"{request.references} names no groups (domains, categories)", "leave --groups away")
    paired = pair(predicted, references)
    result = evaluate(paired, scoring, request.bootstrap, missing=request.missing, by_group=by_group)
    return FileEvaluation(
        result=result,
        predictions=predictions,
        references=request.references,
        layouts=(predicted.layout, references.layout),
        notes=(*predicted.notes, *references.notes),
        published=tuple(published_tables(references.layout, request.references.absolute().as_posix())),
    )


def compare_files(a: Path, b: Path, request: EvaluationRequest, *, largest: int = 10) -> tuple[Comparison, list[str]]:
    """Compare two files of predictions on the references that both have captions for; returns notes on the files, too.

    Args:
        a: the first file of predictions.
        b: the second, whose gain over the first is told.
        request: references, split and scores; its predictions do not count.
        largest: how many gains and how many losses to keep.

    Raises:
        UsageError: see `evaluate_files`; the references are answers.
    """
    if looks_like_answers(request.references):
        raise UsageError(f"{request.references} holds answers; compare needs reference captions")
    references = read_references(request.references, split=request.split)
    scoring = _with_frequencies(request, references)
    sides: list[Paired] = []
    notes = list(references.notes)
    for path in (a, b):
        predicted: Predictions = read_predictions(path)
        notes += [f"{path}: {note}" for note in predicted.notes]
        sides.append(pair(predicted, references))
    return compare(sides[0], sides[1], scoring, request.bootstrap, largest=largest), notes


def write_items(evaluation: Evaluation | AnswerEvaluation, path: Path) -> None:
    """Write one JSON line per scored item; an existing file is replaced at once or not at all.

    Raises:
        EvlgenError: the file cannot be written.
    """
    lines = (json.dumps(item.as_dict(), ensure_ascii=False) + "\n" for item in evaluation.items)
    write_text(path, "".join(lines), hint="choose another --per-caption")


def _with_frequencies(request: EvaluationRequest, references: References) -> ScoringOptions:
    if request.save_frequencies is not None:
        _count(references).save(request.save_frequencies)
    if request.frequencies is None:
        return request.scoring
    return replace(request.scoring, frequencies=load_frequencies(request.frequencies))


def load_frequencies(path: Path) -> DocumentFrequencies:
    """Document frequencies from a saved file, or counted in a file of references.

    Raises:
        UsageError: it is neither.
    """
    try:
        return DocumentFrequencies.load(path)
    except UsageError as not_saved:
        try:
            return _count(read_references(path))
        except UsageError as not_references:
            raise UsageError(f"{not_saved.what}, nor is it a file of references: {not_references.what}") from None


def _count(references: References) -> DocumentFrequencies:
    return DocumentFrequencies.from_references(tokenize_sets(list(references.captions.values())))
