"""The first half of `evlgen eval --model`: captions of a data set, or answers to questions, with their references.

It parses nothing and scores nothing; both runs go on where they ended.
"""

from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import typer

from evlgen_cli.commands.caption_report import CaptionView, Wording
from evlgen_cli.console import err
from evlgen_cli.exits import Exit

if TYPE_CHECKING:
    from evlgen.evaluating.prediction import PredictionRequest


class AnswerView(CaptionView):
    """Shows a run that answers questions."""

    wording = Wording("questions", "answers", "answering", "answered")


def prediction_request(
    *,
    model: str | None,
    questions: Path | None,
    predictions: Path | None,
    references: Path | None,
    dataset: Path | None,
    split: str | None,
    **others: Any,
) -> "PredictionRequest":
    """The request of `evlgen eval`, if options that exclude each other are not given together.

    Args:
        model: --model.
        questions: --questions.
        predictions: --predictions, which the model is to make.
        references: --references, which are the answers to questions.
        dataset: --dataset.
        split: --split.
        others: fields of the request that stand as they are.

    Raises:
        UsageError: some exclude each other, or need another.
    """
    from evlgen.errors import UsageError
    from evlgen.evaluating.prediction import PredictionRequest

    if questions is not None:
        if model is None:
            raise UsageError("--questions needs --model, which answers them", "or give --predictions and --references")
        given = (("dataset", dataset), ("predictions", predictions), ("split", split))
        if extra := [name for name, value in given if value is not None]:
            raise UsageError(f"--questions excludes --{', --'.join(extra)}", "a file of questions is one split")
    elif model is None or dataset is None:
        raise UsageError("--model and --dataset go together", "or --model and --questions")
    elif predictions is not None or references is not None:
        raise UsageError(
            "--model and --dataset make the predictions and name the references", "leave the other two away"
        )
    return PredictionRequest(
        model=model, questions=questions, annotations=references, dataset=dataset, split=split, **others
    )


def predict_first(request: "PredictionRequest") -> tuple[Path, Path, str | None]:
    """Caption a data set or answer questions; gives the predictions, the references, and what these call the split.

    Raises:
        UsageError: what is named is not there.
        typer.Exit: it was interrupted, or there are no answers of people, so that nothing is left to do.
    """
    from evlgen.evaluating.evaluation_sets import QuestionSet
    from evlgen.evaluating.prediction import find_data, predict

    data = find_data(request)
    asks = isinstance(data, QuestionSet)
    stop = Event()
    with ExitStack() as stack:
        view = (AnswerView if asks else CaptionView)(stack, stop, quiet=False, rows_to_stdout=False)
        done = predict(request, data, view, stop)
        if done.summary.interrupted:
            made = view.wording.made
            err.print(f"interrupted; {made} so far are in {done.files[0]}, run the same command again to go on")
            raise typer.Exit(Exit.INTERRUPTED)
    if asks:
        total = done.answered + done.unanswered
        err.print(f"{done.answered} of {total} questions are answered; answers to hand in: {done.scored}")
    if done.references is None:
        err.print("no answers of people to score them against; --references names them where there are some")
        raise typer.Exit(Exit.OK if done.summary.complete else Exit.SOME_FAILED)
    return done.scored, done.references, done.split
