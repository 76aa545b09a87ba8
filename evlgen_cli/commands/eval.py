"""`evlgen eval`: scores of captions against references, from files or of a model on a data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evlgen.system.names import printable
from evlgen_cli import completion
from evlgen_cli.commands.eval_models import evaluate_models, published_json, show_published
from evlgen_cli.commands.predict import predict_first, prediction_request
from evlgen_cli.console import err, first_names, out, print_json, table
from evlgen_cli.exits import Exit
from evlgen_cli.options import (
    USUAL_METRICS,
    BootstrapOption,
    ConcurrencyOption,
    DeadlineOption,
    DeviceOption,
    DtypeOption,
    FrequenciesOption,
    JsonOption,
    LengthPenaltyOption,
    LevelOption,
    LoadInOption,
    NoRepeatOption,
    NumSamplesOption,
    OpenMetricsOption,
    RepetitionOption,
    RequestTimeoutOption,
    RerankOption,
    ResampleSeedOption,
    ROption,
    SplitOption,
    SystemPromptOption,
    TemperatureOption,
    TrustRemoteCodeOption,
    out_file,
)

if TYPE_CHECKING:
    from evlgen.metrics.file_evaluation import FileEvaluation


def evaluate(
    predictions: Annotated[
        Path | None,
        typer.Option(help="Captions to score: captions.jsonl of evlgen caption, JSONL, COCO results JSON, CSV."),
    ] = None,
    references: Annotated[
        Path | None,
        typer.Option(
            help="Reference captions: JSONL, CSV, COCO or Karpathy JSON, MSR-VTT videodatainfo.json, NoCaps, VATEX, "
            "MSVD; or the answers of VQAv2, OK-VQA, GQA."
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            autocompletion=completion.model,
            help="Caption --dataset, or answer --questions, with this model first: all that evlgen caption takes. "
            "Several: one table of all of them, on --dataset.",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.recipe,
            help="A table of models, such as compare-msrvtt: its data set and settings, and its models unless --model "
            "names some.",
        ),
    ] = None,
    dataset: Annotated[
        Path | None,
        typer.Option(
            help="Captioned data set for --model: a JSONL file of {video|image, captions}, or its folder, or the "
            "folder of a published set of captions or questions (evlgen data ls)."
        ),
    ] = None,
    questions: Annotated[
        Path | None,
        typer.Option(
            help="Questions for --model: JSON of VQAv2 or OK-VQA, with their annotations in --references, or of GQA."
        ),
    ] = None,
    media: Annotated[
        Path | None,
        typer.Option(show_default="beside the captions", help="Folder, tar or zip with the videos or pictures."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH",
            show_default="DATASET-SPLIT-MODEL.jsonl, or folder DATASET-SPLIT-models",
            help="File of the captions or answers of --model, or folder of those of several; run again to go on. "
            "Answers stand beside it as .json as well, [{question_id, answer}].",
        ),
    ] = None,
    split: SplitOption = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            show_default='none; "Question: {} Short answer:" for questions',
            help="Text that captions of --model go on from; for questions {} stands for the question.",
        ),
    ] = None,
    system_prompt: SystemPromptOption = "",
    normalise_questions: Annotated[
        bool,
        typer.Option(
            "--normalise-questions",
            help="Ask questions as the authors' code does: lower case, no punctuation but ?, 50 words at most.",
        ),
    ] = False,
    num_beams: Annotated[
        int | None,
        typer.Option(show_default="3; 5 for questions", help="Beams of --model's search; 1 is greedy.", min=1),
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(show_default="30; 10 for questions", help="Most tokens of a caption or answer.")
    ] = None,
    min_new_tokens: Annotated[
        int | None, typer.Option(show_default="0; 1 for questions", help="Fewest tokens of a caption or answer.")
    ] = None,
    no_repeat_ngram: NoRepeatOption = None,
    repetition_penalty: RepetitionOption = None,
    length_penalty: LengthPenaltyOption = None,
    num_samples: NumSamplesOption = None,
    temperature: TemperatureOption = None,
    rerank: RerankOption = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again what failed in --out before.")
    ] = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    load_in: LoadInOption = None,
    trust_remote_code: TrustRemoteCodeOption = False,
    r: ROption = None,
    concurrency: ConcurrencyOption = None,
    request_timeout: RequestTimeoutOption = None,
    metrics: OpenMetricsOption = None,
    missing: Annotated[
        str, typer.Option(help="References without a prediction: skip them, or score an empty caption.")
    ] = "skip",
    groups: Annotated[
        bool | None,
        typer.Option(
            "--groups/--no-groups", show_default="for NoCaps", help="Score each domain or category as its own set."
        ),
    ] = None,
    frequencies: FrequenciesOption = None,
    save_frequencies: Annotated[
        Path | None, typer.Option(help="Keep the document frequencies of --references (.json or .json.gz).")
    ] = None,
    bootstrap: BootstrapOption = 1000,
    level: LevelOption = 0.95,
    seed: ResampleSeedOption = 0,
    deadline: DeadlineOption = 1800.0,
    per_caption: Annotated[Path | None, typer.Option(help="Write the scores of every caption to this JSONL.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a self-contained page: scores, histogram, captions.")] = None,
    paper: Annotated[bool, typer.Option("--paper", help="Print the paper's published rows as well, apart.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Score captions: CIDEr, BLEU-1 to 4 and ROUGE-L equal to pycocoevalcap, without Java; METEOR and SPICE with it.

    Three ways: --predictions and --references; --model and --dataset, which captions first; or --model and
    --questions (or a --dataset of questions), which answers first: 1 to 10 tokens, length penalty 0, as the authors'
    code, and scored in VQA's normal form. Several --model, or a --recipe of them, caption one after another, each in a
    process of its own, and make one table: scores, tokens, parameters, time and memory, and how far each is from the
    first; one that fails has a row that says why.
    All scores are points (x100), with bootstrap intervals over videos. Exit code 3: references without a prediction
    were left out, or a score had to be skipped; the report says which.
    """
    from evlgen.metrics.evaluation import BootstrapOptions, Evaluation, parse_missing
    from evlgen.metrics.evaluation_page import write_page
    from evlgen.metrics.file_evaluation import EvaluationRequest, evaluate_files, write_items
    from evlgen.metrics.scoring import ScoringOptions, parse_metrics

    scoring = ScoringOptions(metrics=parse_metrics(metrics or USUAL_METRICS), deadline_seconds=deadline)
    options = BootstrapOptions(bootstrap, seed, level)
    on_missing = parse_missing(missing)
    models = model or []
    decoding = {
        "num_beams": num_beams, "min_new_tokens": min_new_tokens, "max_new_tokens": max_new_tokens,
        "no_repeat_ngram": no_repeat_ngram, "repetition_penalty": repetition_penalty,
        "length_penalty": length_penalty, "num_samples": num_samples, "temperature": temperature, "rerank": rerank,
    }  # fmt: skip
    how: dict[str, Any] = {
        "split": split, "media": media, "prompt": prompt, "decoding": decoding, "device": device, "dtype": dtype,
        "system_prompt": system_prompt, "load_in": load_in, "trust_remote_code": trust_remote_code, "r": r,
        "concurrency": concurrency, "request_timeout_seconds": request_timeout, "retry_failed": retry_failed,
    }  # fmt: skip
    if recipe is not None or len(models) > 1:
        only_one = {
            "predictions": predictions, "references": references, "questions": questions, "per-caption": per_caption,
            "groups": groups, "save-frequencies": save_frequencies, "normalise-questions": normalise_questions or None,
        }  # fmt: skip
        evaluate_models(
            models, recipe, dataset, output, how,
            {"scoring": scoring, "bootstrap": options, "missing": on_missing, "frequencies": frequencies},
            only_one, html=html, paper=paper, as_json=as_json, metrics_given=metrics is not None,
        )  # fmt: skip
        return
    if models or dataset is not None or questions is not None:
        asked = prediction_request(
            model=next(iter(models), None), questions=questions, predictions=predictions, references=references,
            dataset=dataset, out=None if output is None else out_file(output),
            normalise_questions=normalise_questions, **how,
        )  # fmt: skip
        predictions, references, split = predict_first(asked)
    if predictions is None or references is None:
        from evlgen.errors import UsageError

        raise UsageError(
            "nothing to score", "give --predictions and --references, or --model and --dataset or --questions"
        )
    request = EvaluationRequest(
        references=references,
        split=split,
        scoring=scoring,
        bootstrap=options,
        missing=on_missing,
        by_group=groups,
        frequencies=frequencies,
        save_frequencies=save_frequencies,
    )
    done = evaluate_files(predictions, request)
    if per_caption is not None:
        write_items(done.result, per_caption)
    if html is not None:
        if not isinstance(done.result, Evaluation):
            err.print("note: --html shows captions, not answers; no page was written")
        else:
            tables = done.published if paper else ()
            write_page(
                done.result, html, title=next(iter(models), predictions.name), source=_source(done), published=tables
            )
    for note in done.notes:
        err.print(f"note: {printable(note)}")
    if as_json:
        _print_json(done, paper)
    else:
        _show(done, paper)
    _warn(done)
    if not done.result.complete:
        raise typer.Exit(Exit.SOME_FAILED)


def _source(done: "FileEvaluation") -> str:
    (predicted, referred) = done.layouts
    return f"{done.predictions.name} ({predicted}) against {done.references.name} ({referred})"


def _print_json(done: "FileEvaluation", paper: bool) -> None:
    value = {
        "predictions": str(done.predictions),
        "references": str(done.references),
        "layouts": dict(zip(("predictions", "references"), done.layouts, strict=True)),
        "notes": list(done.notes),
        **done.result.as_dict(),
    }
    if paper:
        value["published"] = published_json(done.published)
    print_json(value)


def _show(done: "FileEvaluation", paper: bool) -> None:
    from evlgen.metrics.evaluation import Evaluation

    result = done.result
    out.print(printable(f"{_source(done)}: {len(result.items)} scored"))
    out.print("")
    percent = f"{100 * result.bootstrap.level:g}% interval" if result.bootstrap.samples else ""
    rows = []
    for score in result.scores:
        if score.value is None:
            rows.append([score.name, "skipped", score.skipped])
        else:
            interval = "" if score.interval is None else f"{score.interval[0]:.2f} to {score.interval[1]:.2f}"
            rows.append([score.name, f"{score.value:.2f}", interval])
    table(["score", "points", percent], rows)
    if result.caution:
        out.print(result.caution)
    if result.groups:
        out.print("")
        names = [score.name for score in result.groups[0].scores]
        lines = [
            [g.name, str(g.items), *("skipped" if s.value is None else f"{s.value:.2f}" for s in g.scores)]
            for g in result.groups
        ]
        whole = ["entire", str(len(result.items)), *(row[1] for row in rows)]
        table(["group", "items", *names], [*lines, whole])
    if isinstance(result, Evaluation):
        out.print("")
        sides = (("predictions", result.diagnostics), ("references", result.reference_diagnostics))
        table(
            ["", "captions", "mean words", "distinct", "vocabulary", "bad endings", "exact repeats", "empty"],
            [
                [
                    name,
                    str(figures.captions),
                    f"{figures.mean_words:.1f}",
                    str(figures.distinct_captions),
                    str(figures.vocabulary),
                    f"{100 * figures.bad_ending_share:.1f}%",
                    f"{100 * figures.repeat_share:.1f}%",
                    str(figures.empty),
                ]
                for name, figures in sides
            ],
        )
    if paper:
        show_published(done.published)


def _warn(done: "FileEvaluation") -> None:
    """What was not scored, and what that means; on standard error, so that no table hides it."""
    result = done.result
    if result.without_prediction:
        what = (
            "scored as empty" if result.missing == "empty" else "left out of every score (--missing empty counts them)"
        )
        failed = f", {len(result.failed)} of them failed with a reason" if result.failed else ""
        absent = len(result.without_prediction)
        err.print(
            f"warning: {absent} of {absent + _present(done)} references have no prediction{failed}; {what}: "
            f"{first_names(result.without_prediction)}"
        )
    if result.without_references:
        err.print(
            f"warning: {len(result.without_references)} predictions have no references and were not scored: "
            f"{first_names(result.without_references)}"
        )


def _present(done: "FileEvaluation") -> int:
    absent = len(done.result.without_prediction) if done.result.missing == "empty" else 0
    return len(done.result.items) - absent
