"""`evlgen eval` with several models: captions of each, then one table of scores, costs and changes from the first.

It parses nothing; the runs go on where they ended.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import typer

from evlgen.system.names import printable
from evlgen_cli.commands.caption_report import STOP_SECONDS, STOPPING, CaptionView
from evlgen_cli.console import err, out, print_json, table
from evlgen_cli.exits import Exit
from evlgen_cli.human_numbers import human_bytes
from evlgen_cli.signals import stop_on_signals

if TYPE_CHECKING:
    from evlgen.captioning.run_report import Listener
    from evlgen.evaluating.model_table import ModelTable, TableRow
    from evlgen.metrics.paper_results import PublishedTable
    from evlgen.recipes import TableRecipe


def evaluate_models(
    models: Sequence[str],
    recipe: str | None,
    dataset: Path | None,
    output: str | None,
    how: dict[str, Any],
    scoring: dict[str, Any],
    only_one: dict[str, Any],
    *,
    html: Path | None,
    paper: bool,
    as_json: bool,
    metrics_given: bool,
) -> None:
    """Caption with each model, score, and show the table.

    Args:
        models: --model; where a recipe is named, instead of its own.
        recipe: --recipe.
        dataset: --dataset.
        output: --out, a folder.
        how: fields of `PredictionRequest`.
        scoring: fields of `EvaluationRequest`.
        only_one: options that are for one model, with their values; None where they are not given.
        html: --html.
        paper: --paper; a recipe prints the paper's rows in any case.
        as_json: --json.
        metrics_given: --metrics was given.

    Raises:
        UsageError: options contradict each other, or what is named is not there.
        typer.Exit: it was interrupted, or a model has no scores, or not all.
    """
    from evlgen.errors import UsageError
    from evlgen.evaluating.evaluation_sets import CaptionedSet
    from evlgen.evaluating.model_table import caption_each, make_table, requests_of
    from evlgen.evaluating.prediction import PredictionRequest, find_data
    from evlgen.evaluating.table_page import write_table
    from evlgen.metrics.file_evaluation import EvaluationRequest

    if given := [name for name, value in only_one.items() if value is not None]:
        raise UsageError(f"--{', --'.join(given)} and several models exclude each other", "name one --model")
    plan = None
    if recipe is not None:
        plan, models, dataset, how, scoring = _of_recipe(recipe, models, dataset, how, scoring, metrics_given)
        paper = True
    if dataset is None:
        raise UsageError("several models need --dataset", "name the data set that they caption")
    data = find_data(PredictionRequest(model="", dataset=dataset, split=how["split"], media=how["media"]))
    if not isinstance(data, CaptionedSet):
        raise UsageError(f"{data.title} is a set of questions, and several models are compared on captions",
                         "name one --model")  # fmt: skip
    folder = Path(output) if output is not None else Path(plan.name if plan else f"{data.name}-models")
    requests = requests_of(models, folder, PredictionRequest(model="", dataset=dataset, **how))
    stop = Event()

    @contextmanager
    def listen_to(model: str) -> "Iterator[Listener]":
        err.print(printable(f"[{models.index(model) + 1}/{len(models)}] {model}"))
        with ExitStack() as stack:
            yield CaptionView(stack, None, quiet=False, rows_to_stdout=False)

    with stop_on_signals(stop, STOPPING, STOP_SECONDS):
        problems = caption_each(requests, data, listen_to, stop)
    if stop.is_set():
        err.print(f"interrupted; captions so far are in {folder}, run the same command again to go on")
        raise typer.Exit(Exit.INTERRUPTED)
    made = make_table(requests, problems, data, EvaluationRequest(references=data.captions, **scoring))
    published = _published(made) if paper else ()
    if html is not None:
        write_table(made, html, published=published, left_out=_left_out(plan))
    if as_json:
        _print_json(made, plan, published)
    else:
        _show(made, plan)
        show_published(published)
    _warn(made)
    if made.baseline is None:
        raise typer.Exit(Exit.FAILED)
    if not made.complete:
        raise typer.Exit(Exit.SOME_FAILED)


def _of_recipe(
    name: str,
    models: Sequence[str],
    dataset: Path | None,
    how: dict[str, Any],
    scoring: dict[str, Any],
    metrics_given: bool,
) -> "tuple[TableRecipe, Sequence[str], Path, dict[str, Any], dict[str, Any]]":
    """The recipe, and what it says where the command line says nothing."""
    from evlgen.metrics.scoring import METRICS
    from evlgen.recipes import expand_path, expand_variables, load_table
    from evlgen.recipes.schema import decoding_of

    plan = load_table(name)
    given = {key: value for key, value in how["decoding"].items() if value is not None}
    how = {
        **how,
        "decoding": {**decoding_of(plan), **given},
        "split": how["split"] or plan.split,
        "media": how["media"] or (None if plan.media is None else expand_path(plan.media)),
        "prompt": plan.prompt if how["prompt"] is None else how["prompt"],
    }
    if not metrics_given:
        wanted = tuple(one for one in METRICS if one in plan.metrics)
        scoring = {**scoring, "scoring": replace(scoring["scoring"], metrics=wanted)}
    return (
        plan,
        models or [expand_variables(one.model) for one in plan.models],
        dataset or expand_path(plan.dataset),
        how,
        scoring,
    )


def _left_out(plan: "TableRecipe | None") -> list[tuple[str, str]]:
    return [] if plan is None else [(one.name, one.why) for one in plan.left_out]


def _published(made: "ModelTable") -> "tuple[PublishedTable, ...]":
    scored = None if made.baseline is None else made.baseline.scored
    return () if scored is None else scored.published


def show_published(tables: "Iterable[PublishedTable]") -> None:
    """Print the paper's rows, apart from what was measured."""
    from evlgen.metrics.paper_results import SOURCE

    for published in tables:
        out.print(f"\n{published.title}: {SOURCE}")
        table(
            ["published model", *published.columns],
            [[name, *("-" if v is None else f"{v:.1f}" for v in values)] for name, values in published.rows],
        )


def published_json(tables: "Sequence[PublishedTable]") -> dict[str, Any]:
    """The paper's rows as plain values."""
    from evlgen.metrics.paper_results import SOURCE

    return {"source": SOURCE, "tables": [vars(one) for one in tables]}


def _print_json(made: "ModelTable", plan: "TableRecipe | None", published: "Sequence[PublishedTable]") -> None:
    value = made.as_dict()
    if plan is not None:
        value["left_out"] = [vars(one) for one in plan.left_out]
    if published:
        value["published"] = published_json(published)
    print_json(value)


def _show(made: "ModelTable", plan: "TableRecipe | None") -> None:
    from evlgen.evaluating.table_page import columns, line

    first = made.baseline
    out.print(printable(f"{made.data.name} against {made.data.captions}"))
    out.print("")
    table(columns(made), [line(row, made, human_bytes) for row in made.rows])
    out.print("")
    if first is not None and first.evaluation is not None:
        level = f"{100 * first.evaluation.bootstrap.level:g}%"
        if first.evaluation.bootstrap.samples:
            out.print(f"points (x100); in brackets {level} intervals; the change is from the first model, paired")
        else:
            out.print("points (x100)")
    if made.caution:
        out.print(made.caution)
    for name, why in _left_out(plan):
        out.print(f"not run: {name}: {why}")


def _warn(made: "ModelTable") -> None:
    """What has no scores, or not all, and why."""
    for row in made.rows:
        if said := _shortcoming(row):
            err.print(printable(f"warning: {row.model}: {said}"))


def _shortcoming(row: "TableRow") -> str:
    if row.problem:
        return row.problem
    if row.evaluation is None or row.evaluation.complete:
        return ""
    lacking = len(row.evaluation.without_prediction)
    skipped = [f"{one.name} skipped: {one.skipped}" for one in row.evaluation.scores if one.skipped]
    said = [f"{lacking} references have no caption of it"] if lacking else []
    return "; ".join(said + skipped)
