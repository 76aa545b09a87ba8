"""The first half of `evlgen eval --model`: captions of a data set, or answers to questions, with their references.

It parses nothing and scores nothing; both runs go on where they ended.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import typer

from evlgen_cli.commands.caption import CaptionView, Wording
from evlgen_cli.console import err
from evlgen_cli.exits import Exit


@dataclass(frozen=True)
class PredictionArguments:
    """The options of `evlgen eval` that say what to predict, as they were typed."""

    model: str | None
    dataset: Path | None
    questions: Path | None
    predictions: Path | None
    references: Path | None
    media: Path | None
    output: Path | None
    split: str | None
    prompt: str | None
    normalise_questions: bool
    num_beams: int | None
    min_new_tokens: int | None
    max_new_tokens: int | None
    no_repeat_ngram: int | None
    repetition_penalty: float | None
    length_penalty: float | None
    device: str
    dtype: str
    retry_failed: bool


_DECODING = (
    "num_beams",
    "min_new_tokens",
    "max_new_tokens",
    "no_repeat_ngram",
    "repetition_penalty",
    "length_penalty",
)


class AnswerView(CaptionView):
    """The same for questions."""

    wording = Wording("questions", "answers", "answering", "answered")


def predict_first(asked: PredictionArguments) -> tuple[Path, Path, str | None]:
    """Caption a data set or answer questions; gives the predictions, the references, and what these call the split.

    Raises:
        UsageError: options contradict each other, or what they name is not there.
        typer.Exit: it was interrupted, or there are no answers of people, so that nothing is left to do.
    """
    from evlgen.captioning.evaluation_sets import QuestionSet
    from evlgen.captioning.prediction import PredictionRequest, find_data, predict

    request = PredictionRequest(
        model=_model(asked),
        dataset=asked.dataset,
        questions=asked.questions,
        annotations=asked.references,
        split=asked.split,
        media=asked.media,
        out=asked.output,
        prompt=asked.prompt,
        normalise_questions=asked.normalise_questions,
        decoding={name: getattr(asked, name) for name in _DECODING},
        device=asked.device,
        dtype=asked.dtype,
        retry_failed=asked.retry_failed,
    )
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


def _model(asked: PredictionArguments) -> str:
    """The model, if options that exclude each other are not given together."""
    from evlgen.errors import UsageError

    if asked.questions is not None:
        if asked.model is None:
            raise UsageError("--questions needs --model, which answers them", "or give --predictions and --references")
        extra = [name for name in ("dataset", "predictions", "split") if getattr(asked, name) is not None]
        if extra:
            raise UsageError(f"--questions excludes --{', --'.join(extra)}", "a file of questions is one split")
        return asked.model
    if asked.model is None or asked.dataset is None:
        raise UsageError("--model and --dataset go together", "or --model and --questions")
    if asked.predictions is not None or asked.references is not None:
        raise UsageError(
            "--model and --dataset make the predictions and name the references", "leave the other two away"
        )
    return asked.model
