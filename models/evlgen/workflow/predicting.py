"""What an eval step predicts, before anything is scored: captions of a data set, or answers to a set of questions.

As `evlgen eval --model` does: the folder of VQAv2, OK-VQA or GQA is answered, everything else is captioned.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import Event

from evlgen.captioning import CaptionRequest, Listener
from evlgen.captioning.answering import answer_questions, answer_request, find_question_set, normalised, write_results
from evlgen.captioning.dataset import Dataset, caption_dataset, find_dataset, find_question_files
from evlgen.captioning.request import given
from evlgen.data.datasets.finding import Located
from evlgen.errors import EvlgenError
from evlgen.recipes import expand_path
from evlgen.recipes.chain import EvalStep

PREDICTIONS = "predictions.jsonl"
ANSWERS = "answers.json"


@dataclass(frozen=True)
class Predicted:
    """What came of it.

    Attributes:
        files: all that was written, captions or answers first.
        scored: the one to score.
        references: captions or answers of people; None where nobody's answers are known.
        split: what the references call it; None for all.
        name: of the data, for headings.
        items: questions that are answered; 0 of captions.
        without: questions without an answer; 0 of captions.
    """

    files: tuple[Path, ...]
    scored: Path
    references: Path | None
    split: str | None
    name: str
    items: int = 0
    without: int = 0


def data_of(step: EvalStep) -> Dataset | Located:
    """The captions, or the published set of questions, that a step is about.

    Raises:
        UsageError: it is not there, or not whole.
    """
    path, media = _paths(step)
    questions = find_question_files(path, split=step.split, media=media)
    return questions or find_dataset(path, split=step.split, media=media)


def files_of(data: Dataset | Located) -> list[Path]:
    """Everything that is read of it, media last."""
    named = [data.captions, data.answers if isinstance(data, Located) else None, data.media]
    return [path for path in named if path is not None]


def request_of(
    step: EvalStep, data: Dataset | Located, out: Path, model: str | None = None, device: str = "auto"
) -> CaptionRequest:
    """How a step predicts; what it leaves open is as in `evlgen eval`.

    Raises:
        UsageError: its settings contradict each other, or its prompt has no place for a question.
    """
    decoding = given(
        num_beams=step.num_beams,
        prompt=step.prompt,
        min_length=step.min_new_tokens,
        max_length=step.max_new_tokens,
        repetition_penalty=step.repetition_penalty,
        length_penalty=step.length_penalty,
    )
    model = step.model if model is None else model
    if isinstance(data, Located):
        return answer_request(out, model, device=device, **decoding)
    return CaptionRequest(sources=(), out=out, model=model, device=device, **decoding)


def predict(
    step: EvalStep, data: Dataset | Located, out: Path, model: str, device: str, listener: Listener, stop: Event
) -> Predicted | None:
    """Predict what `out` does not hold yet; None when it was interrupted.

    Args:
        step: of a chain.
        data: what it is about, see `data_of`.
        out: journal of the predictions; answers to hand in and to score are written beside it.
        model: name, folder or hub name.
        device: see `CaptionRequest`.
        listener: told what happens.
        stop: see `caption_videos`.

    Raises:
        UsageError, EvlgenError: as `evlgen eval`.
    """
    request = request_of(step, data, out, model, device)
    if isinstance(data, Dataset):
        if caption_dataset(data, request, listener, stop).interrupted or stop.is_set():
            return None
        return Predicted((out,), out, data.captions, data.split, data.name)
    path, media = _paths(step)
    found = find_question_set(path, split=step.split, media=media)
    assert found is not None, "its files are there"
    if step.normalise_questions:
        found = normalised(found)
    if answer_questions(found, request, listener, stop).interrupted or stop.is_set():
        return None
    results = out.with_name(ANSWERS)
    answered = write_results(found.questions, out, results)
    if not answered:
        raise EvlgenError("no question was answered", f"the lines of {out} say why")
    without = len(found.questions) - answered
    return Predicted((out, results), results, found.answers, None, found.name, answered, without)


def _paths(step: EvalStep) -> tuple[Path, Path | None]:
    return expand_path(step.dataset), None if step.media is None else expand_path(step.media)
