"""The first half of `evlgen eval --model`: captions of a data set, or answers to questions, with their references.

It parses nothing and scores nothing; both runs go on where they ended.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import typer

from evlgen_cli.commands.caption import CaptionView, Words
from evlgen_cli.console import err
from evlgen_cli.exits import Exit

if TYPE_CHECKING:
    from evlgen.captioning import Summary


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
    num_beams: int | None
    device: str
    retry_failed: bool


class AnswerView(CaptionView):
    """The same for questions."""

    words = Words("questions", "answers", "answering", "answered")


def caption_first(asked: Prediction) -> tuple[Path, Path]:
    """Caption a data set; gives its captions and its references."""
    from evlgen.captioning import CaptionRequest
    from evlgen.captioning.dataset import caption_dataset, find_dataset
    from evlgen.errors import UsageError

    if asked.model is None or asked.dataset is None:
        raise UsageError("--model and --dataset go together", "or --model and --questions")
    if asked.predictions is not None or asked.references is not None:
        raise UsageError(
            "--model and --dataset make the predictions and name the references", "leave the other two away"
        )
    found = find_dataset(asked.dataset, split=asked.split, media=asked.media)
    output = asked.output or Path(f"{found.name}-{Path(asked.model).name}.jsonl")
    request = CaptionRequest(
        sources=(),
        out=output,
        model=asked.model,
        num_beams=CaptionRequest.num_beams if asked.num_beams is None else asked.num_beams,
        prompt=asked.prompt or "",
        device=asked.device,
        retry_failed=asked.retry_failed,
    )
    stop = Event()
    with ExitStack() as stack:
        view = CaptionView(stack, stop, quiet=False, rows_to_stdout=False)
        _end_if_interrupted(caption_dataset(found, request, view, stop), "captions")
    return output, found.captions


def answer_first(asked: Prediction) -> tuple[Path, Path]:
    """Answer questions; gives the file of answers and that of people's.

    Raises:
        typer.Exit: there are none of people, so that nothing is left to do.
    """
    from evlgen.captioning.answering import (
        BEAMS,
        PROMPT,
        answer_questions,
        answer_request,
        find_questions,
        write_results,
    )
    from evlgen.errors import EvlgenError, UsageError
    from evlgen.metrics.reading import looks_like_answers

    if asked.model is None or asked.questions is None:
        raise UsageError("--questions needs --model, which answers them", "or give --predictions and --references")
    extra = [
        name
        for name, value in (("dataset", asked.dataset), ("predictions", asked.predictions), ("split", asked.split))
        if value is not None
    ]
    if extra:
        raise UsageError(f"--questions excludes --{', --'.join(extra)}", "a file of questions is one split")
    output = asked.output or Path(f"{asked.questions.stem}-{Path(asked.model).name}.jsonl")
    output, results = output.with_suffix(".jsonl"), output.with_suffix(".json")
    if results.exists() and not output.exists():  # not ours then; perhaps the questions themselves
        raise UsageError(f"{results} is there already, and no {output.name} beside it", "choose another --out")
    request = answer_request(
        output,
        asked.model,
        prompt=PROMPT if asked.prompt is None else asked.prompt,
        num_beams=BEAMS if asked.num_beams is None else asked.num_beams,
        device=asked.device,
        retry_failed=asked.retry_failed,
    )
    found = find_questions(asked.questions, annotations=asked.references, media=asked.media)
    if found.answers is not None and not looks_like_answers(found.answers):
        raise UsageError(f"{found.answers} holds no answers to questions", "expected annotations of VQAv2 or OK-VQA")
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
    return results, found.answers


def _end_if_interrupted(summary: "Summary", made: str) -> None:
    if summary.interrupted:
        err.print(f"interrupted; {made} so far are in {summary.output}, run the same command again to go on")
        raise typer.Exit(Exit.INTERRUPTED)
