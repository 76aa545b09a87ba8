"""What each kind of step does: the library call of the command of that name, with its files in the step's folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from evlgen.captioning import CaptionRequest, Listener, Summary, caption_videos
from evlgen.configuration import CONFIG_FILE
from evlgen.data.preparing import prepare_all_shards, prepare_data
from evlgen.data.recipe_check import check_data
from evlgen.decoding_options import DecodingOptions
from evlgen.errors import EvlgenError
from evlgen.evaluating.evaluation_sets import QuestionSet, find_captioned_set
from evlgen.evaluating.prediction import PredictionRequest, find_data, predict
from evlgen.metrics.comparison import Comparison
from evlgen.metrics.evaluation import BootstrapOptions, Evaluation
from evlgen.metrics.evaluation_page import write_page
from evlgen.metrics.file_evaluation import EvaluationRequest, compare_files, evaluate_files, write_items
from evlgen.metrics.scoring import METRICS, ScoringOptions
from evlgen.recipes import Recipe, expand_path
from evlgen.recipes.chain_schema import (
    AnyStep,
    CaptionStep,
    CheckStep,
    CompareStep,
    EvalStep,
    PrepareStep,
    TrainStep,
)
from evlgen.recipes.schema import decoding_of
from evlgen.system.jsons import write_json
from evlgen.system.progress import ProgressCallback
from evlgen.training.run_log import RunLog
from evlgen.weights.named_models import WEIGHTS_FILE

BEST = "best"
PREDICTIONS = "predictions.jsonl"
ANSWERS = "answers.json"

_SHOWN = 3

Train = Callable[[Recipe, Path, Path, bool], bool]
"""Runs a training run: its recipe, a YAML file of the same, the run's folder, whether to resume; False: interrupted."""


@dataclass
class ChainTools:
    """What a chain is given to work with.

    Attributes:
        train: runs one training run, in this process or in several.
        device: of everything else: "auto" or a torch device.
        stop: set from anywhere, ends the running step in good order.
        progress: told of downloads and of items.
        captions: makes the listener of a captioning run.
        answers: likewise of a run that answers questions.
    """

    train: Train
    device: str = "auto"
    stop: Event = field(default_factory=Event)
    progress: ProgressCallback | None = None
    captions: Callable[[], Listener] = Listener
    answers: Callable[[], Listener] = Listener


@dataclass(frozen=True)
class Place:
    """Where a step works, and what of other steps it may use.

    Attributes:
        folder: the step's own.
        recipe: that it works on, if any.
        recipe_file: the same as YAML.
        resume: whether the folder holds a part of this step's work.
        model: of an eval or caption step: where its model is.
        sides: of a compare step: both predictions, and the eval step of the first.
    """

    folder: Path
    recipe: Recipe | None
    recipe_file: Path
    resume: bool
    model: str = ""
    sides: tuple[Path, Path, EvalStep] | None = None


@dataclass(frozen=True)
class StepOutcome:
    """What a step produced; `complete` is False when something was left out."""

    files: tuple[Path, ...]
    figures: dict[str, Any]
    text: str
    complete: bool = True


def run_step(step: AnyStep, place: Place, tools: ChainTools) -> StepOutcome | None:
    """Do what a step says; None when it was interrupted.

    Raises:
        UsageError, EvlgenError: as the command of that name.
    """
    place.folder.mkdir(parents=True, exist_ok=True)
    if isinstance(step, CheckStep):
        return _check(step, place, tools)
    if isinstance(step, PrepareStep):
        return _prepare(place, tools)
    if isinstance(step, TrainStep):
        return _train(place, tools)
    if isinstance(step, EvalStep):
        return _evaluate(step, place, tools)
    if isinstance(step, CaptionStep):
        return _caption(step, place, tools)
    return _compare(step, place)


def _check(step: CheckStep, place: Place, tools: ChainTools) -> StepOutcome | None:
    assert place.recipe is not None
    data = place.recipe.data
    checks = check_data(data, decode=step.decode, report=tools.progress, stop=tools.stop.is_set)
    if tools.stop.is_set():
        return None
    report = _write_json(place.folder / "check.json", [c.row() for c in checks])
    if refused := [c for c in checks if c.stops_a_run]:
        said = [c.error or f"{len(c.broken)} of {c.items} items broken" for c in refused]
        first = next((f"; {b.name}: {b.message}" for c in refused for b in c.broken[:1]), "")
        names = "; ".join(f"{c.name}: {text}" for c, text in zip(refused, said, strict=True))
        raise EvlgenError(f"{names}{first}", f"{report} lists all")
    figures = {
        "items": sum(c.items for c in checks),
        "captions": sum(c.captions for c in checks),
        "broken": sum(len(c.broken) for c in checks),
        "findings": sum(not c.is_fine for c in checks),
    }
    findings = f", findings in {figures['findings']} sources" if figures["findings"] else ", all fine"
    text = f"{figures['items']} items, {figures['captions']} captions, {figures['broken']} broken{findings}"
    return StepOutcome((report,), figures, text)


def _prepare(place: Place, tools: ChainTools) -> StepOutcome | None:
    assert place.recipe is not None
    if place.recipe.data.has_shards:
        return _prepare_shards(place, place.recipe, tools)
    done = prepare_data(place.recipe, device=tools.device, report=tools.progress, stop=tools.stop.is_set)
    if tools.stop.is_set():
        return None
    report = _write_json(place.folder / "prepare.json", [one.row() for one in done])
    figures = {"items": sum(len(one.items) for one in done), "bytes": sum(one.cache.bytes_used for one in done)}
    return StepOutcome((report,), figures, f"features of {figures['items']} items, {figures['bytes'] / 1e9:.2f} GB")


def _prepare_shards(place: Place, recipe: Recipe, tools: ChainTools) -> StepOutcome | None:
    done = prepare_all_shards(recipe, report=tools.progress, stop=tools.stop.is_set)
    if tools.stop.is_set():
        return None
    report = _write_json(place.folder / "prepare.json", [one.row() for one in done])
    figures = {"items": sum(one.samples for one in done), "shards": sum(one.facts.shards for one in done)}
    return StepOutcome((report,), figures, f"index of {figures['items']} samples in {figures['shards']} shards")


def _train(place: Place, tools: ChainTools) -> StepOutcome | None:
    assert place.recipe is not None
    if not tools.train(place.recipe, place.recipe_file, place.folder, place.resume):
        return None
    best = place.folder / BEST
    if not (best / WEIGHTS_FILE).is_file():
        raise EvlgenError(f"{place.folder} holds no best checkpoint", "remove the folder, then --resume")
    validations = [row for row in RunLog(place.folder).records() if "validation" in row]
    top = max(validations, key=lambda row: float(row["score"]), default=None)
    figures: dict[str, Any] = {"steps": place.recipe.train.steps}
    text = f"best checkpoint {best}"
    if top is not None:
        figures |= {"best_step": top["step"], "score": top["score"], "metric": top["metric"]}
        text += f" (step {top['step']}, {top['metric']} {abs(top['score']):.4g})"
    return StepOutcome((best / WEIGHTS_FILE, best / CONFIG_FILE), figures, text)


def _evaluate(step: EvalStep, place: Place, tools: ChainTools) -> StepOutcome | None:
    asked = prediction_of(step, place.folder, place.model, tools.device)
    data = find_data(asked)
    listener = tools.answers() if isinstance(data, QuestionSet) else tools.captions()
    made = predict(asked, data, listener, tools.stop)
    if made.summary.interrupted or tools.stop.is_set():
        return None
    if made.references is None:
        total = made.answered + made.unanswered
        text = f"{made.answered} of {total} questions answered, no answers of people to score against"
        return StepOutcome(made.files, {"answered": made.answered}, text, not made.unanswered)
    scoring = EvaluationRequest(
        references=made.references,
        split=made.split,
        scoring=ScoringOptions(metrics=_in_order(step.metrics)),
        bootstrap=BootstrapOptions(samples=step.bootstrap),
        missing=step.missing,
    )
    done = evaluate_files(made.scored, scoring)
    scores = _write_json(place.folder / "scores.json", {"notes": list(done.notes), **done.result.as_dict()})
    items = place.folder / "items.jsonl"
    write_items(done.result, items)
    files = [*made.files, scores, items]
    if step.html and isinstance(done.result, Evaluation):
        page = place.folder / "page.html"
        write_page(done.result, page, title=step.name, source=f"{place.model} on {made.name}")
        files.append(page)
    figures = {score.name: score.value for score in done.result.scores}
    said = ", ".join(f"{name} {value:.1f}" for name, value in figures.items() if value is not None)
    said += "".join(f", {score.name} skipped: {score.skipped}" for score in done.result.scores if score.skipped)
    text = f"{said} ({len(done.result.items)} items)"
    if done.result.without_prediction:
        what = "references without a caption" if isinstance(done.result, Evaluation) else "questions without an answer"
        text += f", {len(done.result.without_prediction)} {what}"
    return StepOutcome(tuple(files), figures, text, done.result.complete)


def prediction_of(
    step: EvalStep, folder: Path = Path(), model: str | None = None, device: str = "auto"
) -> PredictionRequest:
    """What an eval step predicts, and how; what it leaves open is as in `evlgen eval`.

    Args:
        step: of a chain.
        folder: where the predictions go.
        model: where its model is; None: as the step names it.
        device: see `CaptionRequest`.
    """
    return PredictionRequest(
        model=step.model if model is None else model,
        dataset=expand_path(step.dataset),
        split=step.split,
        media=None if step.media is None else expand_path(step.media),
        out=folder / PREDICTIONS,
        results=folder / ANSWERS,
        prompt=step.prompt,
        normalise_questions=step.normalise_questions,
        decoding=decoding_of(step),
        device=device,
        concurrency=step.concurrency,
    )


def _caption(step: CaptionStep, place: Place, tools: ChainTools) -> StepOutcome | None:
    out = place.folder / expand_path(step.out)  # an absolute one stays as it is
    request = CaptionRequest(
        sources=[str(expand_path(text)) for text in step.videos],
        out=out,
        model=place.model,
        decoding=DecodingOptions(**decoding_of(step)),
        frames=step.frames,
        device=tools.device,
        concurrency=step.concurrency,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    summary: Summary = caption_videos(request, tools.captions(), tools.stop)
    if summary.interrupted or tools.stop.is_set():
        return None
    captioned = summary.done_before + summary.edited + summary.ok + summary.partial
    figures = {"videos": captioned, "failed": summary.without_caption}
    text = f"{figures['videos']} captions in {out}"
    if summary.without_caption:
        text += f", {summary.without_caption} videos failed (their rows say why)"
    return StepOutcome((out,), figures, text, not summary.without_caption)


def _compare(step: CompareStep, place: Place) -> StepOutcome:
    assert place.sides is not None
    a, b, of = place.sides
    media = None if of.media is None else expand_path(of.media)
    found = find_captioned_set(expand_path(of.dataset), split=of.split, media=media)
    request = EvaluationRequest(
        references=found.captions,
        split=found.split,
        scoring=ScoringOptions(metrics=_in_order(step.metrics)),
        bootstrap=BootstrapOptions(samples=step.bootstrap),
    )
    result, notes = compare_files(a, b, request)
    report = _write_json(
        place.folder / "comparison.json", {"a": step.a, "b": step.b, "notes": notes, **result.as_dict()}
    )
    figures = {one.name: {"change": one.change, "interval": one.interval, "p": one.p} for one in result.scores}
    return StepOutcome((report,), figures, f"{step.b} against {step.a}: {_differences(result)}", result.complete)


def _differences(result: Comparison) -> str:
    said = []
    for one in result.scores[:_SHOWN]:
        if one.change is None or one.interval is None:
            said.append(f"{one.name} skipped")
        else:
            beyond = " beyond chance" if one.significant else ""
            said.append(f"{one.name} {one.change:+.1f} ({one.interval[0]:+.1f} to {one.interval[1]:+.1f}{beyond})")
    return ", ".join(said)


def _in_order(metrics: list[Any]) -> tuple[str, ...]:
    return tuple(name for name in METRICS if name in metrics)


def _write_json(path: Path, value: Any) -> Path:
    write_json(path, value, indent=1, hint="free some disk")
    return path
