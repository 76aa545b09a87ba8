"""The first half of `evlgen eval --model`: captions of a data set, or answers to questions, with their references.

It parses nothing and scores nothing; both runs go on where they ended.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import typer

from evlgen_cli.commands.caption import CaptionView, Words
from evlgen_cli.console import err
from evlgen_cli.exits import Exit

if TYPE_CHECKING:
    from evlgen.captioning import Summary
    from evlgen.captioning.answering import QuestionSet


@dataclass(frozen=True)
class Prediction:
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
    min_length: int | None
    max_length: int | None
    no_repeat_ngram: int | None
    repetition_penalty: float | None
    length_penalty: float | None
    device: str
    dtype: str
    retry_failed: bool

    def decoding(self) -> dict[str, Any]:
        """What was asked for of the search and its arithmetic; the rest keeps its defaults."""
        from evlgen.captioning.request import given

        names = ["dtype", "prompt", "num_beams", "min_length", "max_length"]
        names += ["no_repeat_ngram", "repetition_penalty", "length_penalty"]
        return given(**{name: getattr(self, name) for name in names})


class AnswerView(CaptionView):
    """The same for questions."""

    words = Words("questions", "answers", "answering", "answered")


def predict_first(asked: Prediction) -> tuple[Path, Path, str | None]:
    """Caption a data set or answer questions; gives the predictions, the references, and what these call the split.

    Raises:
        typer.Exit: it was interrupted, or there are no answers of people, so that nothing is left to do.
    """
    return _caption_first(asked) if asked.questions is None else _answer_file(asked, asked.questions)


def _caption_first(asked: Prediction) -> tuple[Path, Path, str | None]:
    from evlgen.captioning import CaptionRequest
    from evlgen.captioning.answering import find_question_set
    from evlgen.captioning.dataset import caption_dataset, find_dataset
    from evlgen.errors import UsageError

    if asked.model is None or asked.dataset is None:
        raise UsageError("--model and --dataset go together", "or --model and --questions")
    if asked.predictions is not None or asked.references is not None:
        raise UsageError(
            "--model and --dataset make the predictions and name the references", "leave the other two away"
        )
    questions = find_question_set(asked.dataset, split=asked.split, media=asked.media)
    if questions is not None:
        return _answer(asked, asked.model, questions, questions.name)
    found = find_dataset(asked.dataset, split=asked.split, media=asked.media)
    if asked.normalise_questions:
        raise UsageError("--normalise-questions is for questions, and captions have none", "leave it away")
    output = asked.output or Path(f"{found.name}-{Path(asked.model).name}.jsonl")
    request = CaptionRequest(
        sources=(),
        out=output,
        model=asked.model,
        device=asked.device,
        retry_failed=asked.retry_failed,
        **asked.decoding(),
    )
    stop = Event()
    with ExitStack() as stack:
        view = CaptionView(stack, stop, quiet=False, rows_to_stdout=False)
        _end_if_interrupted(caption_dataset(found, request, view, stop), "captions")
    return output, found.captions, found.split


def _answer_file(asked: Prediction, questions: Path) -> tuple[Path, Path, None]:
    from evlgen.captioning.answering import find_questions
    from evlgen.errors import UsageError

    if asked.model is None:
        raise UsageError("--questions needs --model, which answers them", "or give --predictions and --references")
    extra = [
        name
        for name, value in (("dataset", asked.dataset), ("predictions", asked.predictions), ("split", asked.split))
        if value is not None
    ]
    if extra:
        raise UsageError(f"--questions excludes --{', --'.join(extra)}", "a file of questions is one split")
    found = find_questions(questions, annotations=asked.references, media=asked.media)
    return _answer(asked, asked.model, found, questions.stem)


def _answer(asked: Prediction, model: str, found: "QuestionSet", name: str) -> tuple[Path, Path, None]:
    from evlgen.captioning.answering import answer_questions, answer_request, normalised, write_results
    from evlgen.captioning.state import check_regular
    from evlgen.errors import EvlgenError, UsageError
    from evlgen.metrics.reading import looks_like_answers

    output = asked.output or Path(f"{name}-{Path(model).name}.jsonl")
    if output.suffix != ".json":  # /dev/null.jsonl is not what was meant
        check_regular(output)
    stem = output.with_suffix("") if output.suffix in (".json", ".jsonl") else output
    output, results = (stem.with_name(stem.name + suffix) for suffix in (".jsonl", ".json"))
    if results.exists() and not output.exists():  # not ours then; perhaps the questions themselves
        raise UsageError(f"{results} is there already, and no {output.name} beside it", "choose another --out")
    request = answer_request(output, model, device=asked.device, retry_failed=asked.retry_failed, **asked.decoding())
    if found.answers is not None and not looks_like_answers(found.answers):
        raise UsageError(f"{found.answers} holds no answers to questions", "expected annotations of VQAv2 or OK-VQA")
    if asked.normalise_questions:
        found = normalised(found)
    stop = Event()
    with ExitStack() as stack:
        view = AnswerView(stack, stop, quiet=False, rows_to_stdout=False)
        summary = answer_questions(found, request, view, stop)
        _end_if_interrupted(summary, "answers")
    written = write_results(found.questions, output, results)
    if not written:
        raise EvlgenError("no question was answered", f"the lines of {output} say why; --retry-failed tries again")
    err.print(f"{written} of {len(found.questions)} questions are answered; answers to hand in: {results}")
    if found.answers is None:
        err.print("no answers of people to score them against; --references names them where there are some")
        raise typer.Exit(Exit.SOME_FAILED if summary.without_caption else Exit.OK)
    return results, found.answers, None


def _end_if_interrupted(summary: "Summary", made: str) -> None:
    if summary.interrupted:
        err.print(f"interrupted; {made} so far are in {summary.output}, run the same command again to go on")
        raise typer.Exit(Exit.INTERRUPTED)
